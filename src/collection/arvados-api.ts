/** The Arvados API server, as far as saving a collection goes. */
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import { ExitCode, KeepgwError, messageOf } from '../errors.ts'
import type { ArvadosSettings } from './arvados-settings.ts'

/** What a collection is created with. */
export interface NewCollection {
  name: string
  manifestText: string
  portableDataHash: string
  ownerUuid?: string | undefined
  storageClasses: string[]
  /** Copies that are wanted; undefined leaves that to the cluster. */
  replication?: number | undefined
}

/** A collection as the server has saved it. */
export interface SavedCollection {
  uuid: string
  portableDataHash: string
  name: string
}

/** As the cluster has it by default, API.MaxRequestSize, bytes; a proxy before it may take less. */
export const MAX_REQUEST = 128 * 1024 * 1024
/** The server reads all of a large manifest before it answers. */
const TIMEOUT_MS = 300_000
/** Bytes of an answer: collections are asked for without their manifests. */
const MAX_ANSWER = 1024 * 1024

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
  const answer = await post('/arvados/v1/collections', bytes, settings, signal)
  if (answer.status !== 200) throw refusal(answer, settings, bytes.length)
  return checked(answer, collection, settings)
}

interface Answer {
  status: number
  text: string
}

async function post(
  path: string,
  body: Buffer,
  { host, token, insecure }: ArvadosSettings,
  signal: AbortSignal,
): Promise<Answer> {
  const options: RequestOptions = {
    method: 'POST',
    rejectUnauthorized: !insecure,
    headers: {
      Authorization: `Bearer ${token}`,
      'Content-Type': 'application/json',
      'Content-Length': body.length,
    },
    timeout: TIMEOUT_MS,
    signal,
  }
  try {
    return await new Promise((resolve, reject) => {
      const sent = request(`https://${host}${path}`, options, (response) => {
        readAnswer(response).then(resolve, reject)
      })
      sent.on('error', reject)
      sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)))
      sent.end(body)
    })
  } catch (error) {
    signal.throwIfAborted()
    throw new KeepgwError(`the API server ${host} cannot be reached: ${messageOf(error)}`, {
      cause: error,
      hint: 'The collection may have been saved all the same: look for its name before you try again',
    })
  }
}

async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response) {
    length += chunk.length
    if (length <= MAX_ANSWER) chunks.push(chunk)
  }
  return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }
}

function checked(
  { text }: Answer,
  { portableDataHash }: NewCollection,
  { host }: ArvadosSettings,
): SavedCollection {
  const saved = parsed(text)
  const { uuid, portable_data_hash: hash, name } = saved
  if (typeof uuid !== 'string' || typeof hash !== 'string') {
    throw new KeepgwError(`what answers at ${host} is no Arvados API server`, {
      hint: 'Check ARVADOS_API_HOST',
    })
  }
  if (hash !== portableDataHash) {
    throw new KeepgwError(
      `the API server has saved ${uuid} with the portable data hash ${hash}, not ${portableDataHash}`,
      { hint: 'Do not use that collection: its files are not those of the bucket' },
    )
  }
  return { uuid, portableDataHash: hash, name: String(name ?? '') }
}

/** Returns what to say of an answer that is no success. */
function refusal({ status, text }: Answer, settings: ArvadosSettings, bytes: number): KeepgwError {
  const { host } = settings
  if (status === 413) return tooLarge(settings, bytes)
  const { errors } = parsed(text)
  const said = Array.isArray(errors) ? errors.join('; ') : (STATUS_CODES[status] ?? '')
  const why = messageOf(said.replaceAll(settings.token, '…')).slice(0, 1000)
  const message = `the API server ${host} answers ${status}: ${why}`
  if (status === 401) return new KeepgwError(message, { hint: 'Check ARVADOS_API_TOKEN' })
  if (status === 403) {
    return new KeepgwError(message, {
      hint: 'Only administrators may save locators without signatures: say --sign; and the owner must be one that you may write to',
    })
  }
  if (status === 409 || /unique/i.test(why)) {
    return new KeepgwError(message, { hint: 'Give it another name with --name' })
  }
  if (status >= 500) {
    return new KeepgwError(message, {
      hint: 'The collection may have been saved all the same: look for its name before you try again',
    })
  }
  return new KeepgwError(message, { exitCode: ExitCode.failed })
}

function tooLarge({ host }: ArvadosSettings, bytes: number): KeepgwError {
  return new KeepgwError(`a collection of ${bytes} bytes is too large for the API server ${host}`, {
    hint: 'Make collections of parts: BUCKET/PREFIX. The limit is the cluster’s API.MaxRequestSize',
  })
}

function parsed(text: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
