/** Learns the hashes of one object, whatever happens to it meanwhile. */
import { segmentCount, segmentRange } from '../mapping/record.ts'
import { showKey } from '../remote/key.ts'
import { RemoteError, type RemoteObject, type RemoteStore } from '../remote/remote.ts'
import { hasFalseEtag } from './etag-trust.ts'
import type { HashPool } from './hash-pool.ts'

/** An object as it was when all of its segments were read. */
export interface ReadObject {
  object: RemoteObject
  /** 16 bytes a segment. */
  hashes: Buffer
}

/** What objects are read from, and who hears of it. */
export interface ObjectReaderOptions {
  remote: RemoteStore
  pool: HashPool
  /** Called once when the store turns out to answer 412 to a true ETag. Returns a pool without If-Match. */
  distrustIfMatch(): Promise<HashPool>
  /** False where ETags that look like MD5s are known to be none. */
  etagsAreMd5: boolean
  /** Ends a look at an object; reads end with their pool. */
  signal: AbortSignal
  onBytes(bytes: number): void
}

/** Safe for concurrent use. */
export class ObjectReader {
  readonly #options: ObjectReaderOptions
  /** The one in use; for a while a promise, while another one takes its place. */
  #pool: HashPool | Promise<HashPool>
  #distrusted = false
  /** Whether bytes that are not what their ETag says are worth another read. */
  #etagsAreMd5: boolean

  constructor(options: ObjectReaderOptions) {
    this.#options = options
    this.#pool = options.pool
    this.#etagsAreMd5 = options.etagsAreMd5
  }

  /**
   * Resolves once every segment has been handed over, so that the caller can go on to the next
   * object, with `result` for when it is read. `result` is undefined where the object is gone; it
   * throws RemoteError where the object cannot be read, or changed twice while it was read, or where
   * no two reads agree on what it is.
   */
  async start(object: RemoteObject): Promise<{ result: Promise<ReadObject | undefined> }> {
    const reads = await this.#handOver(object)
    const result = this.#withSecondTry(object, reads)
    // The caller may look at it later.
    result.catch(() => {})
    return { result }
  }

  async #withSecondTry(
    listed: RemoteObject,
    reads: Promise<Buffer>[],
  ): Promise<ReadObject | undefined> {
    try {
      return await this.#confirmed({ object: listed, hashes: await joined(reads) })
    } catch (error) {
      if (!(error instanceof RemoteError) || error.failure === 'unreachable') throw error
    }
    const now = await this.#look(listed.key)
    if (now === undefined) return undefined
    // A store with weak ETags answers 412 although nothing has changed.
    if (isSame(now, listed)) await this.#distrust(now)
    return await this.#confirmed({ object: now, hashes: await joined(await this.#handOver(now)) })
  }

  /**
   * Reads once more what is not what its ETag says: it may have been spoilt on its way. Where the second
   * read brings the same, ETags are no MD5s here (SSE-KMS, other stores), and no more are doubted.
   */
  async #confirmed(read: ReadObject): Promise<ReadObject> {
    if (!this.#etagsAreMd5 || !hasFalseEtag(read)) return read
    const { object } = read
    const again = { object, hashes: await joined(await this.#handOver(object)) }
    if (again.hashes.equals(read.hashes)) this.#etagsAreMd5 = false
    else if (hasFalseEtag(again)) {
      const message = `${showKey(object.key)}: two reads brought different bytes`
      throw new RemoteError('unreachable', message)
    }
    return again
  }

  async #look(key: string): Promise<RemoteObject | undefined> {
    try {
      return await this.#options.remote.stat(key, this.#options.signal)
    } catch (error) {
      if (error instanceof RemoteError && error.failure === 'gone') return undefined
      throw error
    }
  }

  /** Tries once more whether If-Match works here, and else does without it from now on. */
  async #distrust(object: RemoteObject): Promise<void> {
    if (this.#distrusted || object.size === 0) return
    const { key, etag, size } = object
    try {
      await (await this.#pool).hash({ key, etag, size, offset: 0, length: 1 })
    } catch (error) {
      if (!(error instanceof RemoteError) || error.failure !== 'changed') throw error
      const again = await this.#look(key)
      if (this.#distrusted || again === undefined || !isSame(again, object)) return
      this.#distrusted = true
      this.#pool = this.#options.distrustIfMatch()
      this.#pool = await this.#pool
    }
  }

  /** Resolves to the reads of the segments, in order, or of those up to one that has failed. */
  async #handOver(object: RemoteObject): Promise<Promise<Buffer>[]> {
    const reads: Promise<Buffer>[] = []
    const count = segmentCount(object.size)
    let failed = false
    for (let segment = 0; segment < count; segment++) {
      const range = segmentRange(object.size, segment)
      const pool = await this.#pool
      const room = pool.room(range.length)
      if (room !== undefined) await room
      if (failed) break
      const read = this.#readSegment(pool, object, range)
      reads.push(read)
      read.catch(() => {
        failed = true
      })
    }
    return reads
  }

  async #readSegment(
    pool: HashPool,
    { key, etag, size }: RemoteObject,
    { offset, length }: { offset: number; length: number },
  ): Promise<Buffer> {
    const hash = await pool.hash({ key, etag, size, offset, length })
    this.#options.onBytes(length)
    return hash
  }
}

async function joined(reads: Promise<Buffer>[]): Promise<Buffer> {
  return reads.length === 1 ? await reads[0]! : Buffer.concat(await Promise.all(reads))
}

function isSame(a: RemoteObject, b: RemoteObject): boolean {
  return a.etag === b.etag && a.size === b.size
}
