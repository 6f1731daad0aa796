/** Saves a collection at the Arvados API server. */
import { type ApiAnswer, askApi, notAnApi, reasonOf, refusal } from '../arvados/api.ts'
import type { ArvadosSettings } from '../arvados/settings.ts'
import { KeepgwError } from '../errors.ts'

/** What a collection is created with. */
export interface NewCollection {
  name: string
  manifestText: string
  portableDataHash: string
  ownerUuid?: string | undefined
  storageClasses: string[]
  /** Copies that are wanted. */
  replication: number
}

/** A collection as the server has saved it. */
export interface SavedCollection {
  uuid: string
  portableDataHash: string
  name: string
}

/** As the cluster has it by default, API.MaxRequestSize, bytes; a proxy before it may take less. */
export const MAX_REQUEST = 128 * 1024 * 1024
const UNSURE =
  'The collection may have been saved all the same: look for its name before you try again'
const HINTS = {
  403: 'Only administrators may save locators without signatures: say --sign; and the owner must be one that you may write to',
  409: 'Give it another name with --name',
}

/**
 * Saves a collection, and returns what the server says of it. With `uniqueName`, the server changes a
 * name that its owner has already. Sent once, never again: a second request could make a second
 * collection. Throws KeepgwError; what it says holds no token.
 */
export async function createCollection(
  collection: NewCollection,
  settings: ArvadosSettings,
  { uniqueName, signal }: { uniqueName: boolean; signal: AbortSignal },
): Promise<SavedCollection> {
  const { name, manifestText, portableDataHash, ownerUuid, storageClasses, replication } =
    collection
  const body = JSON.stringify({
    ensure_unique_name: uniqueName,
    select: ['uuid', 'portable_data_hash', 'name'],
    collection: {
      name,
      manifest_text: manifestText,
      portable_data_hash: portableDataHash,
      owner_uuid: ownerUuid,
      storage_classes_desired: storageClasses,
      replication_desired: replication,
    },
  })
  const bytes = Buffer.from(body)
  if (bytes.length > MAX_REQUEST) throw tooLarge(settings, bytes.length)
  const path = '/arvados/v1/collections'
  const request = { method: 'POST', path, body: bytes, unsure: UNSURE } as const
  const answer = await askApi(request, settings, signal)
  if (answer.status !== 200) throw refused(answer, settings, bytes.length)
  return checked(answer, collection, settings)
}

function checked(
  { json }: ApiAnswer,
  { portableDataHash }: NewCollection,
  settings: ArvadosSettings,
): SavedCollection {
  const { uuid, portable_data_hash: hash, name } = json
  if (typeof uuid !== 'string' || typeof hash !== 'string') throw notAnApi(settings)
  if (hash !== portableDataHash) {
    throw new KeepgwError(
      `the API server has saved ${uuid} with the portable data hash ${hash}, not ${portableDataHash}`,
      { hint: 'Do not use that collection: its files are not those of the bucket' },
    )
  }
  return { uuid, portableDataHash: hash, name: String(name ?? '') }
}

/** Returns what to say of an answer that is no success. */
function refused(answer: ApiAnswer, settings: ArvadosSettings, bytes: number): KeepgwError {
  if (answer.status === 413) return tooLarge(settings, bytes)
  const isTaken = /unique/i.test(reasonOf(answer, settings))
  const hints = isTaken ? { ...HINTS, [answer.status]: HINTS[409] } : HINTS
  return refusal(answer, settings, hints, UNSURE)
}

function tooLarge({ host }: ArvadosSettings, bytes: number): KeepgwError {
  return new KeepgwError(`a collection of ${bytes} bytes is too large for the API server ${host}`, {
    hint: 'Make collections of parts: BUCKET/PREFIX. The limit is the cluster’s API.MaxRequestSize',
  })
}
