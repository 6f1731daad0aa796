/** A cache of blocks on disk: blocks that were read and proven, for the next one who asks for them. */
import { BufferPool } from '../../buffer-pool.ts'
import { messageOf, UsageError } from '../../errors.ts'
import { RemoteError } from '../../remote/remote.ts'
import type { BlockOrigin, BlockSource } from '../volume.ts'
import { CacheDirectory } from './directory.ts'
import { BrokenEntry, Entry } from './entry.ts'
import { Fill } from './fill.ts'
import { PIECE } from './format.ts'
import { Space } from './space.ts'

/** Pieces of 256 KiB that may wait for the disk. */
const WAITING_PIECES = 128

/** Where a cache lies, how large it may be, and who shares it. */
export interface CacheOptions {
  /** Absolute path. */
  dir: string
  /** Bytes that it may take on disk. */
  limit: number
  /** How many processes of this service share it; 1 unless told. */
  sharers?: number | undefined
  /** Told once of each kind of failure. Reads go on without the cache. */
  warn?: (error: unknown) => void
}

/** What was done since the start. */
export class CacheCounts {
  /** Blocks that came from the cache, whole and proven. */
  hits = 0
  /** Blocks that were looked for and not found. */
  misses = 0
  /** Bytes of the hits. */
  hitBytes = 0
  /** Blocks that were put into it. */
  stored = 0
  /** Blocks that were not put into it: no room, the disk is too slow, or they were not read whole. */
  skipped = 0
  /** Blocks that had to make room. */
  evictions = 0
  /** Files that proved torn or spoilt, and were deleted. */
  broken = 0
  /** What the file system refused. */
  errors = 0
}

/**
 * Safe for concurrent use, also by several processes; any of them may be killed at any moment. Nothing
 * that goes wrong in it fails a read.
 */
export class BlockCache implements BlockOrigin {
  readonly counts = new CacheCounts()
  /** Bytes that it may take on disk. */
  readonly limit: number
  readonly #directory: CacheDirectory
  readonly #space: Space
  readonly #pieces = new BufferPool(WAITING_PIECES, PIECE)
  readonly #fills = new Map<string, Fill>()
  readonly #warned = new Set<string>()
  readonly #warn: (error: unknown) => void

  /**
   * Opens the cache in a directory, which is made where it is not there. Throws UsageError for one that
   * others could misuse; what fails otherwise is told, and reads go on without.
   */
  static async open(options: CacheOptions): Promise<BlockCache> {
    const directory = new CacheDirectory(options.dir)
    const failure = await directory.prepare().catch((error: unknown) => error)
    if (failure instanceof UsageError) throw failure
    const cache = new BlockCache(directory, options)
    if (failure !== undefined) cache.#failed(failure)
    return cache
  }

  constructor(directory: CacheDirectory, { limit, sharers = 1, warn = () => {} }: CacheOptions) {
    this.limit = limit
    this.#directory = directory
    this.#warn = warn
    this.#space = new Space({
      directory,
      limit,
      sharers,
      onEvicted: () => {
        this.counts.evictions += 1
      },
      onError: (error) => this.#failed(error),
    })
  }

  /** Bytes that it takes on disk, as far as this process knows. */
  get bytes(): number {
    return this.#space.bytes
  }

  toString(): string {
    return `cache ${this.#directory.path}`
  }

  /** Returns what the source of a block is called, if it has one. */
  nameOf(hash: string): string {
    return this.#directory.file(hash)
  }

  /** Yields the block's file, if there is one and it is whole. Throws nothing. */
  async *sources(hash: string): AsyncGenerator<BlockSource> {
    const entry = await this.#open(hash)
    await entry?.close()
    if (entry === undefined) this.counts.misses += 1
    else yield this.#source(hash, entry.length)
  }

  /** Returns what takes a block that is being read; undefined where that is under way already. */
  fill(hash: string, length: number): Fill | undefined {
    if (this.#fills.has(hash)) return undefined
    const fill = new Fill({
      hash,
      length,
      directory: this.#directory,
      space: this.#space,
      pieces: this.#pieces,
    })
    this.#fills.set(hash, fill)
    void this.#await(hash, fill)
    return fill
  }

  /** Returns once what is under way is written or given up. No block may be read any more. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#fills.values()].map(({ done }) => done))
    await this.#space.close()
  }

  async #await(hash: string, fill: Fill): Promise<void> {
    try {
      if (await fill.done) this.counts.stored += 1
      else this.counts.skipped += 1
    } catch (error) {
      this.#failed(error)
    } finally {
      this.#fills.delete(hash)
    }
  }

  /** Undefined stands also for a file that cannot be used. */
  async #open(hash: string): Promise<Entry | undefined> {
    try {
      return await Entry.open(this.nameOf(hash), hash)
    } catch (error) {
      if (error instanceof BrokenEntry) await this.#spoilt(hash, error)
      else this.#failed(error)
      return undefined
    }
  }

  #source(hash: string, length: number): BlockSource {
    const name = this.nameOf(hash)
    return {
      length,
      store: String(this),
      toString: () => name,
      read: async (from, sink, signal) => {
        const entry = await this.#open(hash)
        // `gone` and `changed` weigh nothing beside what the volumes say of the block.
        if (entry === undefined) throw new RemoteError('gone', `${name} is gone`)
        try {
          await entry.read(from, sink, signal)
        } catch (error) {
          if (!(error instanceof BrokenEntry)) throw error
          await this.#spoilt(hash, error)
          throw new RemoteError('changed', messageOf(error), { cause: error })
        } finally {
          await entry.close()
        }
      },
      // HEAD asks the places, never the cache.
      unchanged: async () => false,
      proven: () => {
        this.counts.hits += 1
        this.counts.hitBytes += length
        this.#directory.touch(hash).catch((error) => this.#failed(error))
      },
    }
  }

  async #spoilt(hash: string, error: BrokenEntry): Promise<void> {
    this.counts.broken += 1
    this.#warn(error)
    await this.#directory.remove(hash).catch((failure) => this.#failed(failure))
  }

  /** Counts what went wrong, and tells of it where it is news. */
  #failed(error: unknown): void {
    this.counts.errors += 1
    const kind = (error as NodeJS.ErrnoException).code ?? String(error)
    if (this.#warned.has(kind)) return
    this.#warned.add(kind)
    this.#warn(error)
  }
}
