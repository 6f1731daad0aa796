/** Saves a collection at the Arvados API server. */
import { type ApiAnswer, askApi, notAnApi, reasonOf, refusal } from '../arvados/api.ts'
import type { ArvadosSettings } from '../arvados/settings.ts'
import { KeepgwError } from '../errors.ts'

/** What a collection is created with. */
export interface NewCollection {
  name: string
  manifestText: JsonText
  /** True where its locators have signatures. */
  isSigned: boolean
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

/** As JSON has it between quotes, UTF-8, in pieces. */
export type JsonText = readonly Buffer[]

/** Arvados' default of API.MaxRequestSize, bytes. */
const MAX_REQUEST = 128 * 1024 * 1024
/** Of a request, beside the manifest. */
const REST_BYTES = 16 * 1024
const UNSURE =
  'The collection may have been saved all the same: look for its name before you try again'
const OTHER_NAME = 'Give it another name with --name'
const UNSIGNED =
  'Only administrators may save locators without signatures: say --sign; and the owner must be one that you may write to'
const SIGNED =
  'The signing key, or its TTL, is not the cluster’s; or the owner is not one that you may write to'

/**
 * Gathers a manifest's text, as much as the cluster's API server takes; a proxy before that may take
 * less. Throws KeepgwError as soon as it is larger, and as askApi does.
 */
export async function gatherText(
  text: AsyncIterable<Buffer>,
  settings: ArvadosSettings,
  signal: AbortSignal,
): Promise<JsonText> {
  const most = (await maxRequest(settings, signal)) - REST_BYTES
  const parts: Buffer[] = []
  let length = 0
  for await (const part of text) {
    const quoted = Buffer.from(JSON.stringify(part.toString()))
    parts.push(quoted.subarray(1, -1))
    length += quoted.length - 2
    if (length > most) throw tooLarge(settings)
  }
  return parts
}

/** Returns what the cluster says of itself, bytes. */
async function maxRequest(settings: ArvadosSettings, signal: AbortSignal): Promise<number> {
  const request = { method: 'GET', path: '/arvados/v1/config' } as const
  const { API: api } = (await askApi(request, settings, signal)).json
  const { MaxRequestSize: most } = (api ?? {}) as { MaxRequestSize?: unknown }
  return typeof most === 'number' && most > 0 ? most : MAX_REQUEST
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
  const { name, manifestText, ownerUuid, storageClasses, replication } = collection
  const rest = JSON.stringify({
    ensure_unique_name: uniqueName,
    select: ['uuid', 'portable_data_hash', 'name'],
    collection: {
      name,
      portable_data_hash: collection.portableDataHash,
      owner_uuid: ownerUuid,
      storage_classes_desired: storageClasses,
      replication_desired: replication,
    },
  })
  const before = Buffer.from(`${rest.slice(0, -'}}'.length)},"manifest_text":"`)
  const body = [before, ...manifestText, Buffer.from('"}}')]
  const path = '/arvados/v1/collections'
  const answer = await askApi({ method: 'POST', path, body, unsure: UNSURE }, settings, signal)
  if (answer.status !== 200) throw refused(answer, settings, collection)
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
function refused(
  answer: ApiAnswer,
  settings: ArvadosSettings,
  { isSigned }: NewCollection,
): KeepgwError {
  const { status } = answer
  if (status === 413) return tooLarge(settings)
  const hints = { 403: isSigned ? SIGNED : UNSIGNED, 409: OTHER_NAME }
  const isOfName = status === 422 && /\bunique\b|(^|: )Name /.test(reasonOf(answer, settings))
  return refusal(answer, settings, isOfName ? { 422: OTHER_NAME } : hints, UNSURE)
}

function tooLarge({ host }: ArvadosSettings): KeepgwError {
  return new KeepgwError(`the manifest is too large for the API server ${host}`, {
    hint: 'Make collections of parts: BUCKET/PREFIX; keepgw manifest --split shows how large they are. The limit is the cluster’s API.MaxRequestSize',
  })
}
