/**
 * Stands in for an Arvados API server where collections are created: it checks what a real one checks,
 * and no more. It speaks HTTPS with a certificate of its own.
 */
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeCertificate } from './certificate.ts'

export interface StandInOptions {
  /** Tokens, and whether they are an administrator's. */
  tokens: Record<string, { isAdmin: boolean }>
  signingKey: string
  /** Seconds. */
  signingTtl: number
  /** Bytes that a request may have. */
  maxRequest?: number
}

/** A collection as it was asked for. */
export type Created = Record<string, unknown> & { manifest_text: string; uuid: string }

export interface ArvadosApi extends AsyncDisposable {
  /** HOST:PORT. */
  host: string
  /** The file of its certificate. */
  certificate: string
  collections: Created[]
}

class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export async function startArvadosApi(options: StandInOptions): Promise<ArvadosApi> {
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-arvados-'))
  const { key, cert } = makeCertificate(dir)
  const collections: Created[] = []
  const secure = { key: await readFile(key), cert: await readFile(cert) }
  const server = createServer(secure, (request, response) => {
    answer(request, collections, options).then(
      (created) => send(response, 200, created),
      (error) => {
        const status = error instanceof Refusal ? error.status : 500
        send(response, status, { errors: [error.message], error_token: 'stand-in' })
      },
    )
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    host: `127.0.0.1:${(server.address() as { port: number }).port}`,
    certificate: cert,
    collections,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await once(server.close(), 'close')
      await rm(dir, { recursive: true })
    },
  }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function answer(
  request: IncomingMessage,
  collections: Created[],
  options: StandInOptions,
): Promise<object> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part)
  const body = Buffer.concat(parts)
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
  const user = options.tokens[token]
  if (user === undefined) throw new Refusal(401, 'Not logged in')
  if (request.method !== 'POST' || request.url !== '/arvados/v1/collections') {
    throw new Refusal(404, 'Path not found')
  }
  if (body.length > (options.maxRequest ?? Infinity)) throw new Refusal(413, 'request too large')
  const { collection, select, ensure_unique_name: unique } = JSON.parse(body.toString())
  const text: unknown = collection?.manifest_text
  if (typeof text !== 'string') throw new Refusal(422, 'Manifest text missing')
  checkForm(text)
  if (!user.isAdmin) checkSignatures(text, token, options)
  const portable = text.replace(/ ([0-9a-f]{32}\+\d+)\+\S+/g, ' $1')
  const hash = `${createHash('md5').update(portable).digest('hex')}+${Buffer.byteLength(portable)}`
  const claimed = collection.portable_data_hash
  if (claimed !== undefined && claimed.slice(0, 32) !== hash.slice(0, 32)) {
    throw new Refusal(422, `Portable data hash '${claimed}' does not match computed hash '${hash}'`)
  }
  const isTaken = collections.some(({ name }) => name === collection.name)
  if (isTaken && !unique) throw new Refusal(422, 'duplicate key value violates unique constraint')
  const uuid = `zzzzz-4zz18-${String(collections.length).padStart(15, '0')}`
  const name = isTaken ? `${collection.name} (2026-01-01)` : collection.name
  const created = { ...collection, uuid, name, portable_data_hash: hash }
  collections.push(created)
  return Object.fromEntries(select.map((field: string) => [field, created[field]]))
}

/** As the manifest format's definition has it. */
function checkForm(text: string): void {
  if (text !== '' && !text.endsWith('\n')) throw new Refusal(422, 'does not end with newline')
  for (const line of text.split('\n').slice(0, -1)) {
    const isGood =
      /^\.(\/[^/ ]+)*( [0-9a-f]{32}\+\d+(\+[A-Z][\w@-]*)*)+( \d+:\d+:[^\0- /]+)+$/.test(line) &&
      !/\/\.\.?[/ ]/.test(line)
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
