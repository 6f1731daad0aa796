/** Other keep services as a volume, as a keepproxy has them. */
import type { IncomingMessage } from 'node:http'
import { parseLocator } from '../../keep/locator.ts'
import { cameAround, newServiceId, viaOf } from '../../keep/via.ts'
import { RemoteError, type Sink } from '../../remote/remote.ts'
import {
  type BlockSource,
  type IndexedBlock,
  type NewBlock,
  type Reader,
  ReaderRefused,
  type Stored,
  VolumeFull,
  type Wanted,
  type WritableVolume,
} from '../volume.ts'
import { KeepClient, textOf } from './client.ts'
import { readIndex } from './index-lines.ts'
import { rendezvous } from './rendezvous.ts'

/** Which services there are, and what is known of them. */
export interface KeepOptions {
  /** URLs without a slash at the end. */
  services: readonly string[]
  readOnly?: boolean | undefined
  /** Asked for by the services' indexes. */
  systemRoot?: string | undefined
  /** Not `default` by default: what the services behind have is theirs to say. */
  storageClasses?: readonly string[] | undefined
  /** Names this service to the others, the same for all its workers; one of its own if left out. */
  id?: string | undefined
}

/** Statuses that say: not with this token, or this signature. */
const REFUSALS = new Set([400, 401, 403])

/** What is asked of a service for a reader. */
type Asked = Reader & { via: string }

/** Safe for concurrent use. Readers' and writers' tokens are passed on, and never kept. */
export class KeepVolume implements WritableVolume {
  readonly deviceId: string
  readonly allowWrite: boolean
  readonly allowTrash = false
  readonly listedElsewhere = true
  readonly replication = 1
  readonly storageClasses: readonly string[]
  readonly #clients: readonly KeepClient[]
  readonly #systemRoot: string | undefined
  readonly #id: string

  constructor(options: KeepOptions) {
    const { services, readOnly = false, systemRoot, storageClasses = ['keepgw'] } = options
    this.#id = options.id ?? newServiceId()
    this.storageClasses = storageClasses
    this.deviceId = `keepgw:${services.join(',')}`
    this.allowWrite = !readOnly
    this.#clients = services.map((url) => new KeepClient(url))
    this.#systemRoot = systemRoot
  }

  toString(): string {
    return `keep:${this.#clients.map(({ url }) => url).join(',')}`
  }

  /**
   * Each service is a source, since only asking it tells; they are known by their first answers. None
   * for a request that came around: who has passed it on here asks them all already. Throws the first
   * failure once all were asked.
   */
  async *sources(hash: string, asked?: Reader): AsyncIterable<BlockSource> {
    if (cameAround(asked?.via, this.#id)) return
    const reader = { locator: hash, ...asked, via: viaOf(asked?.via, this.#id) }
    const { size } = parseLocator(reader.locator)
    let failed: unknown
    for (const client of this.#order(hash)) {
      try {
        // Without a size, who asks does not know it, and a keepstore says it to a HEAD alone.
        const length = size ?? (await this.#lengthOf(client, hash, reader, asked === undefined))
        if (length !== undefined) yield new KeepSource(client, hash, reader, length)
      } catch (error) {
        // A service that was not heard may know the reader.
        if (failed === undefined || failed instanceof ReaderRefused) failed = error
      }
    }
    if (failed !== undefined) throw failed
  }

  /**
   * Yields what one service after the other lists: a block once for each that has it; nothing for a request
   * that came around. Throws RemoteError at the first service that does not list all.
   */
  async *blocks(prefix: string, before?: string): AsyncIterable<IndexedBlock> {
    if (cameAround(before, this.#id)) return
    const seen = new AbortController()
    const [path, via] = [`/index/${prefix}`, viaOf(before, this.#id)]
    for (const client of this.#clients) {
      const request = { method: 'GET', path, via, token: this.#systemRoot } as const
      const answer = await client.send(request, seen.signal)
      if (answer.statusCode !== 200) throw await refusal(client, answer)
      try {
        yield* readIndex(answer)
      } catch (error) {
        throw client.unreachable(error)
      } finally {
        answer.destroy()
      }
    }
  }

  /** Which classes the services have is known by their answers alone. */
  offers(): boolean {
    return true
  }

  /** False: only a request would tell. */
  async holds(): Promise<boolean> {
    return false
  }

  passedOn(via: string): boolean {
    return cameAround(via, this.#id)
  }

  /**
   * Asks one service after the other, in the block's own order, until there are copies enough. Where there
   * is none, throws VolumeFull if all are full, else RemoteError, or the signal's reason.
   */
  async put(block: NewBlock, wanted: Wanted, signal: AbortSignal): Promise<Stored> {
    const classes: Record<string, number> = {}
    let [replicas, written] = [0, 0]
    let locator: string | undefined
    let failed: unknown
    for (const client of this.#order(block.hash)) {
      try {
        const stored = await this.#putTo(client, block, wanted, wanted.replicas - replicas, signal)
        replicas += stored.replicas
        written += stored.written
        locator ??= stored.locator
        for (const [name, count] of Object.entries(stored.classes)) {
          classes[name] = (classes[name] ?? 0) + count
        }
      } catch (error) {
        signal.throwIfAborted()
        // "Full" only where all are.
        if (failed === undefined || failed instanceof VolumeFull) failed = error
      }
      if (replicas >= wanted.replicas) break
    }
    if (replicas === 0) throw failed
    return { replicas, classes, locator, written }
  }

  /** Closes all connections; reads under way fail. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.close()
  }

  /** Services that could not be reached lately come last. */
  #order(hash: string): KeepClient[] {
    const clients = rendezvous(hash, this.#clients)
    return [...clients.filter(({ isDown }) => !isDown), ...clients.filter(({ isDown }) => isDown)]
  }

  /** A service that answers nobody without a token has been reached: where nobody reads, that is all there is to know. */
  async #lengthOf(
    client: KeepClient,
    hash: string,
    { locator, token, via }: Asked,
    isProbe: boolean,
  ): Promise<number | undefined> {
    const request = { method: 'HEAD', path: `/${locator}`, via, token } as const
    // The walk over the sources bounds the wait.
    const answer = await client.send(request, new AbortController().signal)
    answer.resume()
    const { statusCode = 0 } = answer
    if (isNotFound(answer) || (isProbe && REFUSALS.has(statusCode))) return undefined
    const length = lengthOf(answer)
    if (statusCode === 200 && length !== undefined) return length
    throw failureOf(answer, `${client.url}/${hash}`)
  }

  async #putTo(
    client: KeepClient,
    { hash, data }: NewBlock,
    { classes, token, via: before }: Wanted,
    replicas: number,
    signal: AbortSignal,
  ): Promise<Stored> {
    const headers = {
      'Content-Type': 'application/octet-stream',
      'X-Keep-Desired-Replicas': String(replicas),
      ...(classes.length > 0 ? { 'X-Keep-Storage-Classes': classes.join(', ') } : {}),
    }
    const [path, via] = [`/${hash}+${data.length}`, viaOf(before, this.#id)]
    const request = { method: 'PUT', path, via, token, headers, body: data } as const
    const answer = await client.send(request, signal)
    if (answer.statusCode !== 200) throw await refusal(client, answer)
    const locator = await textOf(answer)
    // The writer is given it as it is.
    if (!new RegExp(`^${hash}\\+${data.length}(\\+[\\w@-]+)*$`).test(locator)) {
      throw new RemoteError('unreachable', `${client.url} answers a PUT with another block's name`)
    }
    return { ...storedOf(answer), locator, written: data.length }
  }
}

/** One service, asked for one block. */
class KeepSource implements BlockSource {
  readonly length: number
  readonly #client: KeepClient
  readonly #hash: string
  readonly #reader: Asked

  constructor(client: KeepClient, hash: string, reader: Asked, length: number) {
    this.#client = client
    this.#hash = hash
    this.#reader = reader
    this.length = length
  }

  get store(): string {
    return this.#client.url
  }

  toString(): string {
    return `${this.#client.url}/${this.#hash}`
  }

  async read(from: number, sink: Sink, signal: AbortSignal): Promise<void> {
    const answer = await this.#ask('GET', signal)
    // The walk over the sources bounds the service's silence, and leaves out the reader's.
    answer.setTimeout(0)
    try {
      // Keep services know no ranges: what is known already is read again, and dropped.
      let at = 0
      for await (const chunk of chunksOf(this.#client, answer)) {
        const rest = at < from ? chunk.subarray(from - at) : chunk
        at += chunk.length
        // Also where nothing of it is new: the service is not silent.
        await sink(rest)
      }
    } finally {
      answer.destroy()
    }
  }

  async unchanged(signal: AbortSignal): Promise<boolean> {
    const answer = await this.#ask('HEAD', signal)
    answer.resume()
    return true
  }

  async #ask(method: 'GET' | 'HEAD', signal: AbortSignal): Promise<IncomingMessage> {
    const { locator, token, via } = this.#reader
    const path = `/${withSize(locator, this.length)}`
    const answer = await this.#client.send({ method, path, via, token }, signal)
    const length = answer.statusCode === 200 ? lengthOf(answer) : undefined
    if (length === this.length) return answer
    answer.resume()
    if (length !== undefined) {
      throw new RemoteError('changed', `${this} has another length than ${this.length}`)
    }
    throw failureOf(answer, String(this))
  }
}

/** A break of the connection is the service's; what the sink throws is not. */
async function* chunksOf(client: KeepClient, answer: IncomingMessage): AsyncGenerator<Buffer> {
  try {
    yield* answer
  } catch (error) {
    throw client.unreachable(error)
  }
}

/** Returns the locator with the size, which keepstore wants for a GET. */
function withSize(locator: string, size: number): string {
  const { hash, hints } = parseLocator(locator)
  return [hash, String(size), ...hints].join('+')
}

/**
 * True for the answer of a keep service itself: a proxy in front that is set up wrong, or another server at
 * that address, knows nothing of blocks. keepstore, keepproxy and keepgw alike tell browsers in each answer
 * which headers they take.
 */
function isKeeps({ headers }: IncomingMessage): boolean {
  return /X-Keep-/i.test(headers['access-control-allow-headers'] ?? '')
}

function isNotFound(answer: IncomingMessage): boolean {
  return answer.statusCode === 404 && isKeeps(answer)
}

/** Returns the error of an answer without the block. */
function failureOf(answer: IncomingMessage, what: string): RemoteError {
  const { statusCode = 0 } = answer
  const message = `${what}: ${statusOf(answer)}`
  if (REFUSALS.has(statusCode) && isKeeps(answer)) return new ReaderRefused(statusCode, message)
  return new RemoteError(isNotFound(answer) ? 'gone' : 'unreachable', message)
}

function lengthOf(answer: IncomingMessage): number | undefined {
  const text = answer.headers['content-length']
  return text === undefined ? undefined : Number(text)
}

function statusOf(answer: IncomingMessage): string {
  const { statusCode } = answer
  if (statusCode === 200) return 'answered 200 without a length'
  return `answered ${statusCode}${isKeeps(answer) ? '' : ', and not as a keep service does'}`
}

async function refusal(client: KeepClient, answer: IncomingMessage): Promise<Error> {
  const text = (await textOf(answer)).replace(/[^\x20-\x7e]+/g, ' ')
  const message = `${client.url} ${statusOf(answer)} ${text}`.trim()
  if (answer.statusCode === 507) return new VolumeFull(message)
  return new RemoteError('unreachable', message)
}

function storedOf({ headers }: IncomingMessage): Pick<Stored, 'replicas' | 'classes'> {
  const replicas = Number(headers['x-keep-replicas-stored'] ?? 1)
  const classes: Record<string, number> = {}
  const confirmed = String(headers['x-keep-storage-classes-confirmed'] ?? '')
  for (const [, name, count] of confirmed.matchAll(/([^=,\s]+)=(\d+)/g)) {
    classes[name!] = Number(count)
  }
  return { replicas: Number.isSafeInteger(replicas) && replicas > 0 ? replicas : 1, classes }
}
