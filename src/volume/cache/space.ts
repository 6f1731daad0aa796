/**
 * Keeps a cache within its size. What lies in it is found out by looking through it, since others may
 * write to it, too: at the start, and whenever this process has added its part of what there is to
 * spare. Nothing but numbers is kept in between.
 */
import { statfs } from 'node:fs/promises'
import type { CacheDirectory, CachedFile } from './directory.ts'

/** Of the cache's size: what is made free at a time. */
const SPARE = 1 / 16
/** Of the file system that stays free for others, and bytes at most. */
const RESERVE = { part: 0.05, bytes: 10 * 2 ** 30 }
/** Files that one look through the cache can name for eviction. */
const CANDIDATES = 16_384

/** What is kept within its size, and who hears of it. */
export interface SpaceParts {
  directory: CacheDirectory
  /** Bytes on disk. */
  limit: number
  /** How many processes like this one share the cache. */
  sharers: number
  /** Told of each file that was evicted. */
  onEvicted(): void
  /** Told of what went wrong in the background. */
  onError(error: unknown): void
}

/** Room that a file under way has taken. */
export interface Claim {
  /** To be called once, when the file has its name, or is no more. */
  settle(kept: boolean): void
}

/** Safe for concurrent use. */
export class Space {
  readonly #parts: SpaceParts
  /** Bytes that were found at the last look; undefined before the first one. */
  #found: number | undefined
  /** Bytes of the files that this process has made since that look began. */
  #added = 0
  /** Bytes of the files that it has under way. */
  #claimed = 0
  #looking: Promise<void> | undefined
  #closed = false

  /** The first look begins at once. */
  constructor(parts: SpaceParts) {
    this.#parts = parts
    void this.#look()
  }

  /** Bytes in the cache, as far as they are known. */
  get bytes(): number {
    return (this.#found ?? 0) + this.#added + this.#claimed
  }

  /**
   * Takes room for a file of so many bytes, evicting others where it must; undefined where there is
   * none to be had. Throws nothing.
   */
  async claim(bytes: number): Promise<Claim | undefined> {
    const { limit, sharers } = this.#parts
    // What is under way must not push out all that is there.
    if (bytes > limit || (this.#claimed > 0 && this.#claimed + bytes > limit / 2)) return undefined
    this.#claimed += bytes
    if (!(await this.#makeFit())) {
      this.#claimed -= bytes
      return undefined
    }
    if (this.#added > (limit * SPARE) / sharers || this.#isNearlyFull()) void this.#look()
    return {
      settle: (kept) => {
        this.#claimed -= bytes
        if (kept) this.#added += bytes
      },
    }
  }

  /** Ends what is done in the background. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#looking
  }

  async #makeFit(): Promise<boolean> {
    // Two looks: the one that is under way may have begun before this file was wanted.
    for (let looks = 0; ; looks++) {
      if (this.#found !== undefined && (await this.#excess()) <= 0) return true
      if (looks === 2 || this.#closed) return false
      await this.#look()
    }
  }

  /** Returns the bytes that are too many, by the limit or for the file system. */
  async #excess(): Promise<number> {
    const { directory, limit, onError } = this.#parts
    const over = this.bytes - limit
    try {
      const { bavail, blocks, bsize } = await statfs(directory.path)
      const reserve = Math.min(blocks * bsize * RESERVE.part, RESERVE.bytes)
      return Math.max(over, reserve + this.#claimed - bavail * bsize)
    } catch (error) {
      onError(error)
      return Number.POSITIVE_INFINITY
    }
  }

  #isNearlyFull(): boolean {
    return this.bytes > this.#parts.limit * (1 - SPARE / 2)
  }

  /** One at a time. Never rejects. */
  #look(): Promise<void> {
    this.#looking ??= this.#lookThrough()
      .catch((error) => this.#parts.onError(error))
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  async #lookThrough(): Promise<void> {
    const { directory } = this.#parts
    for (let isDone = false; !isDone && !this.#closed; ) {
      const before = this.#added
      const oldest = new Oldest(CANDIDATES)
      let bytes = await directory.clearTemporary()
      for await (const file of directory.files()) {
        if (this.#closed) return
        bytes += file.bytes
        oldest.add(file)
      }
      this.#found = bytes
      this.#added -= before
      isDone = await this.#evict(oldest)
    }
  }

  /** Returns false where more is to be evicted than what was named. */
  async #evict(oldest: Oldest): Promise<boolean> {
    const { directory, limit, onEvicted } = this.#parts
    const excess = await this.#excess()
    if (excess === Number.POSITIVE_INFINITY || (excess <= 0 && !this.#isNearlyFull())) return true
    let missing = Math.max(excess, this.bytes - limit * (1 - SPARE))
    let freed = 0
    for (const file of oldest.sorted()) {
      if (missing <= 0 || this.#closed) return true
      if (!(await directory.evict(file))) continue
      onEvicted()
      missing -= file.bytes
      freed += file.bytes
      this.#found! -= file.bytes
    }
    return missing <= 0 || !oldest.isCut || freed === 0
  }
}

/** The files that were used least lately, a bounded number of them. */
class Oldest {
  readonly #max: number
  #files: CachedFile[] = []
  /** True if there were more. */
  isCut = false

  constructor(max: number) {
    this.#max = max
  }

  add(file: CachedFile): void {
    this.#files.push(file)
    // Sorted now and then, and not at each file.
    if (this.#files.length < 2 * this.#max) return
    this.#files = this.sorted().slice(0, this.#max)
    this.isCut = true
  }

  sorted(): CachedFile[] {
    return this.#files.sort((a, b) => a.usedMs - b.usedMs)
  }
}
