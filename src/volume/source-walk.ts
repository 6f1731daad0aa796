/** The way through the sources of one block, over all volumes, and the account of what failed. */
import { createHash } from 'node:crypto'
import { KeepgwError } from '../errors.ts'
import type { HashEngine } from '../hash/md5.ts'
import { MAX_BLOCK } from '../keep/locator.ts'
import { asRemoteError, type RemoteError, type RemoteFailure } from '../remote/remote.ts'
import type { FailureMemory } from './failure-memory.ts'
import type { Hedging } from './hedging.ts'
import { withIdleLimit } from './idle-limit.ts'
import type { Hedge } from './race.ts'
import type { ReadAhead } from './read-ahead.ts'
import { type BlockOrigin, type BlockSource, type Reader, ReaderRefused } from './volume.ts'

/** A question for one block. */
export interface BlockQuery {
  volumes: readonly BlockOrigin[]
  hash: string
  /** Bytes, where the client says so: places of another length are not this block's. */
  size?: number | undefined
  /** Who asks; for volumes that ask other keep services in turn. */
  reader?: Reader | undefined
  /** Aborts when nobody waits for the answer any more. */
  signal: AbortSignal
  /** Which places failed lately; shared by all requests. */
  failures: FailureMemory
  /** Hashes the blocks of all requests; without one, each is hashed by itself. */
  engine?: HashEngine | undefined
  /** Reads large blocks by several requests at once; without it, one request a block. */
  readAhead?: ReadAhead | undefined
  /** Milliseconds a place may be silent before the next one is tried. */
  idleLimit: number
  /** When a place that is slow is raced by another one; without it, never. */
  hedging?: Hedging | undefined
  /** Told of each race. */
  onHedge?: ((hedge: Hedge) => void) | undefined
  /** Told of each failure that another place, or another try, makes good if it can. */
  onFailover?: (event: Failover) => void
}

/** Why a place was left. */
export type FailoverCause = RemoteFailure | 'corrupt' | 'refused'

/** A place that failed, and what is done about it. */
export interface Failover {
  cause: FailoverCause
  /** The place (or the whole volume) that failed, as it names itself. */
  source: string
  /** Bytes of the block that had been read by then. */
  offset: number
  /** What the place said. */
  message: string
  /** True if the same place is asked for the rest; false on the way to the next one. */
  resumed: boolean
}

/**
 * Why there is no block.
 * `not-found`: no volume knows it, or every place is gone or changed.
 * `unreachable`: some place could not be reached, or was not tried: the block may be there.
 * `corrupt`: the places that could be read hold other data.
 */
export type BlockFailure = 'not-found' | 'unreachable' | 'corrupt'

/** A block that cannot be had. */
export class BlockError extends KeepgwError {
  override readonly name = 'BlockError'
  readonly failure: BlockFailure

  constructor(failure: BlockFailure, message: string) {
    super(message)
    this.failure = failure
  }
}

/** How many failed places one request bears; a block of zeros may have a million. */
const LIMITS = { unreachable: 16, gone: 256, corrupt: 16 }

/** One request's walk: next() after next(), telling failed() in between. Not for concurrent use. */
export class SourceWalk {
  readonly #query: BlockQuery
  readonly #sources: AsyncGenerator<BlockSource, void>
  readonly #failed = { unreachable: 0, gone: 0, corrupt: 0 }
  #refused: ReaderRefused | undefined
  /** Sources that failed lately, in this request or in another: tried after all others. */
  readonly #later: BlockSource[] = []
  /** How many of those were tried. */
  #latest = 0
  #again: BlockSource | undefined
  /** The next place in the order, where that was looked at ahead of its turn. */
  #peeked: Promise<IteratorResult<BlockSource, void>> | undefined
  #length: number | undefined
  #untried = false
  /** Places of another length than the client says, which may be the block, cut short. */
  readonly #odd: BlockSource[] = []

  constructor(query: BlockQuery) {
    this.#query = query
    this.#sources = this.#walk()
  }

  /** Returns the next source to try, or undefined at the end. Throws only the signal's reason. */
  async next(): Promise<BlockSource | undefined> {
    const again = this.#again
    this.#again = undefined
    if (again !== undefined) return again
    const peeked = this.#peeked
    this.#peeked = undefined
    const { value } = await (peeked ?? this.#sources.next())
    // The list can grow while it is walked.
    const source = value ?? this.#later[this.#latest++]
    if (source === undefined) for (const odd of this.#odd.splice(0)) await this.#judge(odd)
    if (source === undefined || !this.#isEnough()) return source
    this.#untried = true
    return undefined
  }

  /**
   * Returns what next() would, and leaves it there. next() may be called meanwhile. Throws as next() does.
   */
  async peek(): Promise<BlockSource | undefined> {
    if (this.#isEnough()) return undefined
    if (this.#again !== undefined) return this.#again
    this.#peeked ??= this.#sources.next()
    // Nobody may wait for it any more.
    this.#peeked.catch(() => {})
    // One that failed lately may do better than one that is silent.
    return (await this.#peeked).value ?? this.#later[this.#latest]
  }

  /** Takes the place that peek() has just returned. */
  take(place: BlockSource): BlockSource {
    if (place === this.#again) this.#again = undefined
    else if (place === this.#later[this.#latest]) this.#latest += 1
    else this.#peeked = undefined
    return place
  }

  /** As failed(), for what a source has thrown. None is blamed for a reader whom it may not serve. */
  threw(place: BlockSource | BlockOrigin, error: RemoteError, offset: number): void {
    if (error instanceof ReaderRefused) {
      this.#refused ??= error
      this.#report(place, 'refused', offset, error.message, false)
    } else this.failed(place, error.failure, offset, error.message)
  }

  /** Counts, remembers and reports a source that is given up. */
  failed(
    place: BlockSource | BlockOrigin,
    cause: RemoteFailure | 'corrupt',
    offset: number,
    why: string,
  ): void {
    const kind = cause === 'changed' ? 'gone' : cause
    this.#failed[kind] += 1
    this.#query.failures.add(String(place))
    this.#report(place, cause, offset, why, false)
  }

  /** Reports a break after which the same source is read on. */
  resumed(source: BlockSource, offset: number, why: string): void {
    this.#report(source, 'unreachable', offset, why, true)
  }

  /** Makes `source` the next one. */
  tryNext(source: BlockSource): void {
    this.#again = source
  }

  /** Puts `source` behind all others, once. */
  tryLast(source: BlockSource): void {
    if (!this.#later.includes(source)) this.#later.push(source)
  }

  /** Remembers and puts behind all others a source that another one was faster than. */
  outrun(source: BlockSource): void {
    this.#query.failures.add(String(source))
    // It has had its second turn: what it holds stays unknown.
    if (this.#later.includes(source)) this.#untried = true
    else this.#later.push(source)
  }

  /** Returns the error that sums up a walk without success. */
  outcome(): BlockError | ReaderRefused {
    const { hash } = this.#query
    if (this.#failed.unreachable > 0 || this.#untried) {
      return new BlockError('unreachable', `block ${hash} cannot be reached`)
    }
    if (this.#refused !== undefined) return this.#refused
    if (this.#failed.corrupt > 0) {
      return new BlockError('corrupt', `no place holds the data of block ${hash}`)
    }
    return new BlockError('not-found', `no block ${hash}`)
  }

  /** Ends the walk early. */
  async close(): Promise<void> {
    const closed = this.#sources.return(undefined)
    // A place that was looked for ahead may be long in coming.
    if (this.#peeked === undefined) await closed
    else closed.catch(() => {})
  }

  async *#walk(): AsyncGenerator<BlockSource, void> {
    const { volumes, failures, size } = this.#query
    // There is one empty block, and it is never looked for.
    if (size !== undefined && (size === 0 || size > MAX_BLOCK)) return
    const bad = volumes.filter((volume) => failures.has(String(volume)))
    for (const volume of volumes) if (!bad.includes(volume)) yield* this.#walkVolume(volume)
    for (const volume of bad) yield* this.#walkVolume(volume)
  }

  async *#walkVolume(volume: BlockOrigin): AsyncGenerator<BlockSource> {
    const { hash, reader, signal, failures, idleLimit } = this.#query
    const iterator = volume.sources(hash, reader)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const { value, done } = await withIdleLimit(idleLimit, signal, () => iterator.next())
        if (done) break
        if (!this.#fits(value)) continue
        if (failures.has(String(value))) this.#postpone(value)
        else yield value
      }
      failures.delete(String(volume))
    } catch (error) {
      signal.throwIfAborted()
      this.threw(volume, asRemoteError(error), 0)
    } finally {
      // Not awaited: an iterator that stalls would hold the request.
      Promise.resolve(iterator.return?.()).catch(() => {})
    }
  }

  /** Without a size from the client, the first place's length stands for all. */
  #fits(source: BlockSource): boolean {
    if (this.#query.size === undefined && source.length === 0) {
      this.failed(source, 'corrupt', 0, 'it is empty')
      return false
    }
    this.#length ??= this.#query.size ?? source.length
    if (source.length === this.#length) return true
    // Where the client gave no size, this might have been the right place.
    if (this.#query.size === undefined) this.#untried = true
    else if (source.measured) this.#odd.push(source)
    return false
  }

  /** The client may be wrong about the block's size; but a place that lost a part of it must be told of. */
  async #judge(source: BlockSource): Promise<void> {
    const { hash, signal, idleLimit } = this.#query
    const md5 = createHash('md5')
    try {
      await withIdleLimit(idleLimit, signal, async (own, clock) => {
        const take = (chunk: Uint8Array) => {
          md5.update(chunk)
          clock.restart()
        }
        if (source.length > 0) await source.read(0, take, own)
      })
    } catch (error) {
      signal.throwIfAborted()
      return this.threw(source, asRemoteError(error), 0)
    }
    if (md5.digest('hex') === hash) return
    this.failed(source, 'corrupt', source.length, `its ${source.length} bytes have another MD5`)
  }

  #postpone(source: BlockSource): void {
    if (this.#later.length < LIMITS.gone) this.#later.push(source)
    else this.#untried = true
  }

  #isEnough(): boolean {
    const { unreachable, gone, corrupt } = this.#failed
    return unreachable >= LIMITS.unreachable || gone >= LIMITS.gone || corrupt >= LIMITS.corrupt
  }

  #report(
    place: BlockSource | BlockOrigin,
    cause: FailoverCause,
    offset: number,
    message: string,
    resumed: boolean,
  ): void {
    this.#query.onFailover?.({ cause, source: String(place), offset, message, resumed })
  }
}
