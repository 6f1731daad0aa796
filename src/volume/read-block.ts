/**
 * Reads one block from the places that should hold it: from the first one that answers, on from
 * the byte reached in the next one when that breaks, and never more than the MD5 allows.
 */
import { type BlockHasher, nodeEngine } from '../hash/md5.ts'
import { EMPTY_HASH } from '../keep/locator.ts'
import { asRemoteError, RemoteError, type Sink } from '../remote/remote.ts'
import { Stalled, withIdleLimit } from './idle-limit.ts'
import { type Attempt, type Begin, type Outcome, race } from './race.ts'
import { readSliced } from './sliced-read.ts'
import { BlockError, type BlockQuery, SourceWalk } from './source-walk.ts'
import type { BlockSource } from './volume.ts'

/** Where a block goes. */
export interface BlockOutput {
  /** Called once, before the first byte (and for the empty block). */
  begin(length: number): void
  /** Takes the bytes in order, each once. A promise holds the reading back. */
  write: Sink
}

/** Bytes at a block's end that wait for the MD5: without them no client takes it for whole. */
const HELD_BACK = 65_536
/** How often a body that breaks is asked for its rest at the same place. */
const MAX_RESUMES = 2
/** Shorter blocks are hashed as they come: there is too little of them to fill a lane with. */
const ENGINE_FROM = 262_144

/**
 * Sends a block to the output. Throws BlockError where it cannot be had, whole: once the output has
 * begun, that means that the answer must be cut; or ReaderRefused, where that is all that is known of it.
 * Throws the signal's reason, or the output's error, as they are. Memory: 64 KiB, whatever the block,
 * beside what its hasher has. Safe for concurrent use with what queries share.
 */
export async function readBlock(query: BlockQuery, output: BlockOutput): Promise<void> {
  if (query.hash === EMPTY_HASH) {
    if (query.size) throw new BlockError('not-found', 'the empty block has no bytes')
    output.begin(0)
    return
  }
  const walk = new SourceWalk(query)
  const reading = new BlockReading(query, walk, output)
  try {
    await reading.run()
  } finally {
    reading[Symbol.dispose]()
    await walk.close()
  }
}

class BlockReading implements Disposable {
  readonly #query: BlockQuery
  readonly #walk: SourceWalk
  readonly #output: BlockOutput
  /** Of all bytes up to the offset, wherever they came from. */
  #hasher: BlockHasher | undefined
  /** Bytes read and hashed. */
  #offset = 0
  /** Who delivered them. */
  readonly #readFrom = new Set<BlockSource>()
  #length = 0
  /** Bytes from here on are held back. */
  #holdFrom = 0
  #held = Buffer.alloc(0)
  #begun = false
  /** The last write; rejected if the output failed. */
  #writing: Promise<void> | undefined

  constructor(query: BlockQuery, walk: SourceWalk, output: BlockOutput) {
    this.#query = query
    this.#walk = walk
    this.#output = output
  }

  async run(): Promise<void> {
    for (;;) {
      const next = await this.#walk.next()
      if (next === undefined) throw this.#walk.outcome()
      this.#setLength(next.length)
      const source = await this.#read(next)
      if (this.#offset < this.#length) continue
      if ((await this.#digest()) === this.#query.hash) return this.#finish()
      this.#reject(source)
    }
  }

  [Symbol.dispose](): void {
    this.#hasher?.[Symbol.dispose]()
  }

  /** The length is the same for all sources of a walk. */
  #setLength(length: number): void {
    if (this.#length === length) return
    this.#length = length
    this.#holdFrom = Math.max(0, length - HELD_BACK)
    this.#held = Buffer.allocUnsafe(length - this.#holdFrom)
    this.#openHasher()
  }

  #openHasher(): void {
    const { engine = nodeEngine } = this.#query
    this.#hasher = (this.#length < ENGINE_FROM ? nodeEngine : engine).open()
  }

  async #digest(): Promise<string> {
    return (await this.#hasher!.digest()).toString('hex')
  }

  /** Reads on from the offset, until the end or until the source is given up. Returns the last one. */
  async #read(first: BlockSource): Promise<BlockSource> {
    let next = first
    for (let resumes = 0; ; resumes++) {
      const start = this.#offset
      const { source, error } = await this.#attempt(next)
      next = source
      if (error === undefined || this.#offset === this.#length) return source
      const broke = error.failure === 'unreachable' && this.#offset > start
      if (broke && !(error instanceof Stalled) && resumes < MAX_RESUMES) {
        this.#walk.resumed(source, this.#offset, error.message)
        continue
      }
      this.#walk.threw(source, error, this.#offset)
      // Waiting for it once more comes after trying the others.
      if (broke && error instanceof Stalled) this.#walk.tryLast(source)
      return source
    }
  }

  #attempt(source: BlockSource): Promise<Outcome> {
    const { hedging, onHedge } = this.#query
    const begin: Begin = (each, onBytes) => this.#begin(each, onBytes)
    return race({ walk: this.#walk, begin, offset: this.#offset, hedging, onHedge }, source)
  }

  #begin(source: BlockSource, onBytes: () => void): Attempt {
    const { idleLimit, signal } = this.#query
    let stop = (_reason: unknown) => {}
    const work = withIdleLimit(idleLimit, signal, (own, clock) => {
      stop = clock.end
      let hasBegun = false
      const take = (chunk: Uint8Array) => {
        // A read that did not heed its signal must not get in between.
        if (own.aborted) throw own.reason
        if (chunk.length === 0) return clock.restart()
        onBytes()
        hasBegun = true
        const pause = this.#take(source, chunk)
        if (pause === undefined) return clock.restart()
        clock.stop()
        return pause.then(clock.restart)
      }
      // Not before it is alone: of two, each would write over what the other one has brought.
      const room = () => (hasBegun && !own.aborted ? this.#hasher!.room() : undefined)
      return this.#ask(source, Object.assign(take, { room }), own)
    })
    return { ended: this.#endOf(work), stop: (reason) => stop(reason) }
  }

  /** Returns why the source ended before its last byte. Throws what is not the source's fault. */
  async #endOf(work: Promise<void>): Promise<RemoteError | undefined> {
    try {
      await work
      if (this.#offset === this.#length) return undefined
      return new RemoteError('unreachable', `the data ended at byte ${this.#offset} of the block`)
    } catch (error) {
      this.#query.signal.throwIfAborted()
      await this.#writing
      return asRemoteError(error)
    }
  }

  #ask(source: BlockSource, sink: Sink, signal: AbortSignal): Promise<void> {
    const { readAhead } = this.#query
    return readAhead === undefined
      ? source.read(this.#offset, sink, signal)
      : readSliced(readAhead, source, this.#offset, sink, signal)
  }

  /** Returns a promise where hashing or the output asks to wait. */
  #take(source: BlockSource, chunk: Uint8Array): Promise<unknown> | undefined {
    const start = this.#offset
    if (start + chunk.length > this.#length) {
      throw new RemoteError('changed', 'it sends more bytes than the block has')
    }
    this.#readFrom.add(source)
    const hashing = this.#hasher!.update(chunk)
    this.#offset += chunk.length
    const free = Math.min(chunk.length, Math.max(0, this.#holdFrom - start))
    // The chunk's memory is used again: what is held is copied.
    if (free < chunk.length) this.#held.set(chunk.subarray(free), start + free - this.#holdFrom)
    const writing = free > 0 ? this.#write(chunk.subarray(0, free)) : undefined
    return hashing && writing ? Promise.all([hashing, writing]) : (hashing ?? writing)
  }

  #write(chunk: Uint8Array): Promise<void> | undefined {
    try {
      if (!this.#begun) {
        this.#begun = true
        this.#output.begin(this.#length)
      }
      this.#writing = this.#output.write(chunk) ?? undefined
    } catch (error) {
      this.#writing = Promise.reject(error)
    }
    // Where the reader breaks first, nobody may be left to see that the output broke, too.
    this.#writing?.catch(() => {})
    return this.#writing
  }

  async #finish(): Promise<void> {
    for (const source of this.#readFrom) this.#query.failures.delete(String(source))
    // Of several, each has shown a part of its bytes only.
    if (this.#readFrom.size === 1) for (const source of this.#readFrom) source.proven?.()
    await this.#write(this.#held)
  }

  /** The bytes are wrong. Starts again if nothing of them was sent. */
  #reject(last: BlockSource): void {
    for (const source of this.#readFrom) {
      const why = source.trusted ? ' than its ETag, which was trusted, says' : ''
      this.#walk.failed(source, 'corrupt', this.#offset, `the data has another MD5${why}`)
    }
    if (this.#begun) {
      throw new BlockError('corrupt', `block ${this.#query.hash} proved wrong on its way`)
    }
    // Any of several may be to blame; the last one can give the whole block.
    if (this.#readFrom.size > 1) this.#walk.tryNext(last)
    this.#openHasher()
    this.#offset = 0
    this.#readFrom.clear()
  }
}
