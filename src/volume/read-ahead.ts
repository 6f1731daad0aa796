/** What reads of blocks by several requests at once share: memory, and which stores are worth it. */
import { BufferPool } from '../buffer-pool.ts'
import type { BlockSource } from './volume.ts'

/** How much is read ahead, and in what pieces. */
export interface ReadAheadOptions {
  /** Memory for what is read ahead, all blocks together; 0: each block is read by one request. */
  bytes: number
  /** Bytes of one request. */
  pieceBytes?: number
  clock?: ReadAheadClock
}

/** Where time comes from, for tests to set. */
export interface ReadAheadClock {
  /** Milliseconds; never goes back. */
  now(): number
  /** Milliseconds that this thread had nothing to do, up to now. */
  idle(): number
  /** Calls every `ms` milliseconds, until what it returns is called. */
  every(ms: number, call: () => void): () => void
}

/** A request of S3 costs little beside such a piece, and waiting for its first byte not too much. */
const PIECE_BYTES = 4 * 1024 * 1024
/** Pieces of one block in memory, at most: with 100 ms to the first byte, enough to wait for it twice only. */
const MOST_AHEAD = 10

const SYSTEM_CLOCK: ReadAheadClock = {
  now: () => performance.now(),
  idle: () => performance.eventLoopUtilization().idle,
  every(ms, call) {
    const timer = setInterval(call, ms).unref()
    return () => clearInterval(timer)
  },
}

/** All reads of a thread share one. Safe for concurrent use. */
export class ReadAhead {
  readonly pieceBytes: number
  readonly clock: ReadAheadClock
  /** Buffers at once, at most. */
  readonly #count: number
  readonly #buffers: BufferPool
  /** Reads that have something ahead, or may have. */
  #readers = 0
  /** Stores that the last read did not have to wait for. */
  readonly #fast = new Set<string>()

  constructor(options: ReadAheadOptions) {
    this.pieceBytes = options.pieceBytes ?? PIECE_BYTES
    this.clock = options.clock ?? SYSTEM_CLOCK
    this.#count = Math.floor(options.bytes / this.pieceBytes)
    this.#buffers = new BufferPool(this.#count, this.pieceBytes)
  }

  /** True if a read from `from` on might be cut into pieces. */
  suits(source: BlockSource, from: number): boolean {
    const isLong = source.length - from > this.pieceBytes
    return isLong && this.#count > 0 && source.inParts === true
  }

  /** True where one request is as good as several, as far as is known. */
  isFast({ store }: BlockSource): boolean {
    return this.#fast.has(store)
  }

  /** Notes whether a read that has ended had to wait for the store. */
  note({ store }: BlockSource, hadToWait: boolean): void {
    if (hadToWait) this.#fast.delete(store)
    else this.#fast.add(store)
  }

  /** A read begins to read ahead. */
  enter(): void {
    this.#readers += 1
  }

  /** It has ended. */
  leave(): void {
    this.#readers -= 1
  }

  /** Returns memory for a piece, if there is some for a reader that has `held` such buffers. */
  take(held: number): Buffer | undefined {
    return this.hasRoom(held) ? this.#buffers.take() : undefined
  }

  /** True if `take` would return a buffer. */
  hasRoom(held: number): boolean {
    const share = Math.max(1, Math.floor(this.#count / Math.max(1, this.#readers)))
    return held < Math.min(share, MOST_AHEAD) && !this.#buffers.isEmpty
  }

  /** Takes a buffer back that nobody writes to any more. */
  give(buffer: Buffer): void {
    this.#buffers.give(buffer)
  }
}
