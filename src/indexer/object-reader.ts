/** Learns the hashes of one object, whatever happens to it meanwhile. */
import { segmentCount, segmentRange } from '../mapping/record.ts'
import { RemoteError, type RemoteObject, type RemoteStore } from '../remote/remote.ts'
import type { HashPool } from './hash-pool.ts'

/** An object as it was when all of its segments were read. */
export interface ReadObject {
  object: RemoteObject
  /** 16 bytes a segment. */
  hashes: Buffer
}

const HASH_BYTES = 16

export interface ObjectReaderOptions {
  remote: RemoteStore
  pool: HashPool
  /** Called once when the store turns out to answer 412 to a true ETag. Returns a pool without If-Match. */
  distrustIfMatch(): Promise<HashPool>
  onBytes(bytes: number): void
}

/** Safe for concurrent use. */
export class ObjectReader {
  readonly #options: ObjectReaderOptions
  #pool: Promise<HashPool>
  #distrusted = false

  constructor(options: ObjectReaderOptions) {
    this.#options = options
    this.#pool = Promise.resolve(options.pool)
  }

  /**
   * Resolves once every segment has been handed over, so that the caller can go on to the next
   * object, with `result` for when it is read. `result` is undefined where the object is gone; it
   * throws RemoteError where the object cannot be read, or changed twice while it was read.
   */
  async start(object: RemoteObject): Promise<{ result: Promise<ReadObject | undefined> }> {
    const { scheduled, hashes } = this.#readSegments(object)
    const result = this.#withSecondTry(object, hashes)
    // The caller looks at it only once all is scheduled.
    result.catch(() => {})
    await scheduled
    return { result }
  }

  async #withSecondTry(
    listed: RemoteObject,
    first: Promise<Buffer>,
  ): Promise<ReadObject | undefined> {
    try {
      return { object: listed, hashes: await first }
    } catch (error) {
      if (!(error instanceof RemoteError) || error.failure === 'unreachable') throw error
    }
    const now = await this.#look(listed.key)
    if (now === undefined) return undefined
    // A store with weak ETags answers 412 although nothing has changed.
    if (isSame(now, listed)) await this.#distrust(now)
    return { object: now, hashes: await this.#readSegments(now).hashes }
  }

  async #look(key: string): Promise<RemoteObject | undefined> {
    try {
      return await this.#options.remote.stat(key)
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
      await this.#pool
    }
  }

  #readSegments(object: RemoteObject): { scheduled: Promise<void>; hashes: Promise<Buffer> } {
    const hashes = Buffer.alloc(segmentCount(object.size) * HASH_BYTES)
    const reads: Promise<void>[] = []
    let failed = false
    const schedule = async (): Promise<void> => {
      for (let segment = 0; segment * HASH_BYTES < hashes.length; segment++) {
        await (await this.#pool).room(segmentRange(object.size, segment).length)
        if (failed) return
        const read = this.#readSegment(object, segment, hashes)
        read.catch(() => {
          failed = true
        })
        reads.push(read)
      }
    }
    const scheduled = schedule()
    return { scheduled, hashes: scheduled.then(() => Promise.all(reads)).then(() => hashes) }
  }

  async #readSegment(object: RemoteObject, segment: number, hashes: Buffer): Promise<void> {
    const { key, etag, size } = object
    const range = segmentRange(size, segment)
    const hash = await (await this.#pool).hash({ key, etag, size, ...range })
    hash.copy(hashes, segment * HASH_BYTES)
    this.#options.onBytes(range.length)
  }
}

function isSame(a: RemoteObject, b: RemoteObject): boolean {
  return a.etag === b.etag && a.size === b.size
}
