/**
 * Stands in for an Arvados API server where collections are created and services recorded: it checks
 * what a real one checks, and no more. It tells clients of Keep which services there are. It speaks
 * HTTPS with a certificate of its own.
 */
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { makeCertificate } from './certificate.ts'

export interface StandInOptions {
  /** Tokens, and whether they are an administrator's. */
  tokens: Record<string, { isAdmin: boolean }>
  signingKey: string
  /** Seconds. */
  signingTtl: number
  /** Bytes that a request may have: what the cluster's configuration says, and what a proxy before it takes. */
  maxRequest?: number
  proxyTakes?: number
  /** Called when a collection was saved, which is then not answered. */
  onSilentSave?: () => void
  clusterId?: string
  /** Services.Keepstore.InternalURLs of the cluster's configuration. */
  configuredServices?: string[]
}

/** A collection as it was asked for. */
export type Created = Record<string, unknown> & { manifest_text: string; uuid: string }

/** A keep service as it is listed. */
export type ServiceRecord = Record<string, unknown> & { uuid: string }

export interface ArvadosApi extends AsyncDisposable {
  /** HOST:PORT. */
  host: string
  /** The file of its certificate. */
  certificate: string
  collections: Created[]
  /** The records of its keep_services table. */
  services: ServiceRecord[]
}

/** What it keeps of a request: the collections and records that were made. */
type Made = Pick<ArvadosApi, 'collections' | 'services'>

class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export async function startArvadosApi(options: StandInOptions): Promise<ArvadosApi> {
  const certificate = await makeCertificate()
  const made: Made = { collections: [], services: [] }
  const server = createServer(certificate, (request, response) => {
    answer(request, made, options).then(
      (result) => send(response, 200, result),
      (error) => {
        const status = error instanceof Refusal ? error.status : 500
        // As behind arvados-controller.
        const message = `//railsapi.internal${request.url}: ${status} Refused: ${error.message}`
        send(response, status, { errors: [message], error_token: 'stand-in' })
      },
    )
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    host: `127.0.0.1:${(server.address() as { port: number }).port}`,
    certificate: certificate.certFile,
    ...made,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await once(server.close(), 'close')
      await certificate[Symbol.asyncDispose]()
    },
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function answer(
  request: IncomingMessage,
  made: Made,
  options: StandInOptions,
): Promise<object> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part)
  const body = Buffer.concat(parts)
  const token = /^(?:Bearer|OAuth2) (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
  const path = `${request.method} ${request.url?.split('?')[0]}`
  if (path === 'GET /arvados/v1/config') {
    const { clusterId = 'zzzzz', maxRequest = 128 * 1024 * 1024 } = options
    return { ClusterID: clusterId, API: { MaxRequestSize: maxRequest } }
  }
  const user = options.tokens[token]
  if (user === undefined) throw new Refusal(401, 'Not logged in')
  if (path === 'GET /discovery/v1/apis/arvados/v1/rest') {
    return { blobSignatureTtl: options.signingTtl, defaultCollectionReplication: 1 }
  }
  if (/^GET \/arvados\/v1\/keep_services(\/accessible)?$/.test(path))
    return listServices(made, options)
  const { maxRequest = Infinity, proxyTakes = Infinity } = options
  if (body.length > Math.min(maxRequest, proxyTakes)) throw new Refusal(413, 'request too large')
  if (path === 'POST /arvados/v1/keep_services') {
    if (!user.isAdmin) throw new Refusal(403, 'Permission denied')
    return createService(JSON.parse(body.toString()).keep_service, made)
  }
  if (path !== 'POST /arvados/v1/collections') throw new Refusal(404, 'Path not found')
  const saved = createCollection(JSON.parse(body.toString()), made, {
    ...options,
    token: user.isAdmin ? undefined : token,
  })
  if (options.onSilentSave === undefined) return saved
  options.onSilentSave()
  return new Promise(() => {})
}

/** Records, or where there is none, what the configuration names. */
function listServices({ services }: Made, options: StandInOptions): object {
  const { clusterId = 'zzzzz', configuredServices = [] } = options
  const system = `${clusterId}-tpzed-000000000000000`
  const started = '2026-01-01T00:00:00.000000000Z'
  const configured = configuredServices.map((text) => {
    const url = new URL(text)
    return {
      uuid: `${clusterId}-bi6l4-${createHash('md5').update(text).digest('hex').slice(0, 16)}`,
      service_host: url.hostname,
      service_port: Number(url.port),
      service_ssl_flag: url.protocol === 'https:',
      service_type: 'disk',
      read_only: false,
      owner_uuid: system,
      modified_by_user_uuid: system,
      created_at: started,
      modified_at: started,
    }
  })
  const items = services.length > 0 ? services : configured
  return { items, items_available: items.length }
}

function createService(record: ServiceRecord, { services }: Made): ServiceRecord {
  if (!/^[0-9a-z]{5}-bi6l4-[0-9a-z]{15}$/.test(record.uuid)) {
    throw new Refusal(422, `not a valid Arvados uuid '${record.uuid}'`)
  }
  if (services.some(({ uuid }) => uuid === record.uuid)) {
    throw new Refusal(422, 'duplicate key value violates unique constraint')
  }
  const owner = `${record.uuid.slice(0, 5)}-tpzed-0123456789abcde`
  const now = new Date().toISOString()
  const times = { created_at: now, modified_at: now }
  services.push({ ...record, owner_uuid: owner, modified_by_user_uuid: owner, ...times })
  return services.at(-1)!
}

interface CollectionRequest {
  collection?: Record<string, unknown> & { portable_data_hash?: string }
  select: string[]
  ensure_unique_name?: boolean
}

/** `token` is that of who must have the locators signed; undefined for an administrator. */
function createCollection(
  { collection = {}, select, ensure_unique_name: unique }: CollectionRequest,
  { collections }: Made,
  options: StandInOptions & { token: string | undefined },
): object {
  const text: unknown = collection.manifest_text
  if (typeof text !== 'string') throw new Refusal(422, 'Manifest text missing')
  checkForm(text)
  if (options.token !== undefined) checkSignatures(text, options.token, options)
  const portable = text.replace(/ ([0-9a-f]{32}\+\d+)\+\S+/g, ' $1')
  const hash = `${createHash('md5').update(portable).digest('hex')}+${Buffer.byteLength(portable)}`
  const claimed = collection.portable_data_hash
  if (claimed !== undefined && claimed.slice(0, 32) !== hash.slice(0, 32)) {
    throw new Refusal(422, `Portable data hash '${claimed}' does not match computed hash '${hash}'`)
  }
  checkName(collection.name)
  const isTaken = collections.some(({ name }) => name === collection.name)
  if (isTaken && !unique) throw new Refusal(422, 'duplicate key value violates unique constraint')
  const uuid = `zzzzz-4zz18-${String(collections.length).padStart(15, '0')}`
  const name = isTaken ? `${collection.name} (2026-01-01)` : collection.name
  const created: Created = {
    ...collection,
    manifest_text: text,
    uuid,
    name,
    portable_data_hash: hash,
  }
  collections.push(created)
  return Object.fromEntries(select.map((field: string) => [field, created[field]]))
}

/** As where the cluster has no ForwardSlashNameSubstitution. */
function checkName(name: unknown): void {
  if (name === '.' || name === '..') throw new Refusal(422, "Name cannot be '.' or '..'")
  if (String(name).includes('/')) throw new Refusal(422, "Name cannot contain a '/' character")
}

/** As the manifest format's definition has it. */
function checkForm(text: string): void {
  if (text !== '' && !text.endsWith('\n')) throw new Refusal(422, 'does not end with newline')
  for (const line of text.split('\n').slice(0, -1)) {
    const isGood =
      /^\.(\/[^/ ]+)*( [0-9a-f]{32}\+\d+(\+[A-Z][\w@-]*)*)+( \d+:\d+:[^\0- /]+)+$/.test(line) &&
      !/\/\.\.?([/ ]|\\012)/.test(line)
    if (!isGood) throw new Refusal(422, 'Manifest invalid')
  }
}

function checkSignatures(text: string, token: string, options: StandInOptions): void {
  for (const [locator, hash] of text.matchAll(/(?<= )([0-9a-f]{32})\+\d+(\+[^ ]+)?(?= )/g)) {
    if (hash === 'd41d8cd98f00b204e9800998ecf8427e') continue
    const [, signature, expiry = ''] = /\+A([0-9a-f]{40})@([0-9a-f]{8})/.exec(locator) ?? []
    const message = `${hash}@${token}@${expiry}@${options.signingTtl.toString(16)}`
    const right = createHmac('sha1', options.signingKey).update(message).digest('hex')
    const isOver = Number.parseInt(expiry, 16) < Date.now() / 1000
    if (signature !== right || isOver) throw new Refusal(403, 'Permission denied')
  }
}
