/** One stream of a lane engine: its state and its next bytes, in the kernel's memory. */
import { BLOCK_BYTES, type Kernel } from './kernel.ts'
import type { BlockHasher } from './md5.ts'

/** The ring follows the state, from the next line of the cache on. */
const HEADER_BYTES = 64

/**
 * Room for what comes while the stream waits for its turn. A multiple of BLOCK_BYTES. With half of it the
 * system is asked for bytes more often, for fewer at a time, and its part of the CPU is a seventh greater.
 */
const RING_BYTES = 2 * 1024 * 1024

/** What a reader of large pieces leaves free: a stream that has to wait has room for its next piece. */
const RESERVE_BYTES = 64 * 1024

/** With more than this the next piece, of up to 128 KiB, may not fit. */
const FULL_BYTES = RING_BYTES - 128 * 1024

/** Fewer bytes are not worth a turn. */
export const RIPE_BYTES = 512 * 1024

/** What a stream takes of the kernel's memory. */
export const SLOT_BYTES = HEADER_BYTES + RING_BYTES

/** The engine, as its hashers see it. */
export interface Scheduler {
  /** Asks for a turn, soon: a hasher has become ripe, or is at its end. */
  schedule(): void
  /** Runs at once, until the hasher is not ripe any more. */
  relieve(hasher: LaneHasher): void
  /** The hasher's slot is free again. */
  release(hasher: LaneHasher): void
}

/**
 * A hasher whose bytes are gathered, to be hashed together with those of others. They lie in a ring:
 * as blocks are hashed from its first byte on, none of them lies across its end.
 */
export class LaneHasher implements BlockHasher {
  /** Address of its SLOT_BYTES, and so of its state. */
  readonly slot: number
  readonly #kernel: Kernel
  readonly #scheduler: Scheduler
  /** The first byte that is yet to be hashed, as an offset in the ring. */
  #start = 0
  /** Bytes that are yet to be hashed. */
  #waiting = 0
  /** All bytes there were. */
  #length = 0
  #open = true
  /** It has got something, or could not take any more, since others began to wait. */
  isFed = true
  /** How often in a row others have waited, and it got nothing. */
  missed = 0
  #pause: PromiseWithResolvers<void> | undefined
  #digest: PromiseWithResolvers<Buffer> | undefined

  constructor(kernel: Kernel, slot: number, scheduler: Scheduler) {
    this.slot = slot
    this.#kernel = kernel
    this.#scheduler = scheduler
    kernel.reset(slot)
  }

  /** As BlockHasher.update. Where the chunk does not fit into the ring, it hashes at once until it does. */
  update(chunk: Uint8Array): void | Promise<void> {
    this.#mustBeOpen()
    this.isFed = true
    this.missed = 0
    this.#length += chunk.length
    this.#append(chunk)
    if (this.ripe) this.#scheduler.schedule()
    if (!this.full) return
    this.#pause ??= Promise.withResolvers()
    return this.#pause.promise
  }

  /** Returns the free memory behind what waits: what is put there, update needs not copy. */
  room(): Uint8Array | undefined {
    const free = RING_BYTES - this.#waiting
    if (free === 0) return undefined
    const from = this.#ring + this.#end
    const most = free > RESERVE_BYTES ? free - RESERVE_BYTES : free
    return this.#kernel.bytes.subarray(from, from + Math.min(most, RING_BYTES - this.#end))
  }

  /** As BlockHasher.digest, in one of the engine's next turns. */
  async digest(): Promise<Buffer> {
    this.#mustBeOpen()
    this.#append(padding(this.#length))
    this.#open = false
    this.#digest = Promise.withResolvers()
    this.#scheduler.schedule()
    return this.#digest.promise
  }

  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#open = false
    this.#pause?.resolve()
    this.#scheduler.release(this)
  }

  /** Address of the next bytes. */
  get data(): number {
    return this.#ring + this.#start
  }

  /** Whole blocks that are yet to be hashed, and lie one behind the other. */
  get blocks(): number {
    return Math.floor(Math.min(this.#waiting, RING_BYTES - this.#start) / BLOCK_BYTES)
  }

  /** It has enough for a turn. */
  get ripe(): boolean {
    return this.#waiting >= RIPE_BYTES
  }

  /** Somebody waits for its MD5. */
  get ending(): boolean {
    return this.#digest !== undefined && this.#waiting > 0
  }

  /** Somebody waits for room in it: the next piece may not fit. */
  get full(): boolean {
    return this.#waiting > FULL_BYTES
  }

  /** So many blocks were hashed. */
  advance(blocks: number): void {
    this.#start = (this.#start + blocks * BLOCK_BYTES) % RING_BYTES
    this.#waiting -= blocks * BLOCK_BYTES
  }

  /** Tells those who wait for this stream what a turn has brought them. */
  settle(): void {
    if (this.#pause !== undefined && !this.full) {
      this.#pause.resolve()
      this.#pause = undefined
    }
    if (this.#digest !== undefined && this.#waiting === 0) {
      this.#digest.resolve(this.#kernel.read(this.slot))
      this.#scheduler.release(this)
    }
  }

  get #ring(): number {
    return this.slot + HEADER_BYTES
  }

  /** Where the next bytes go, as an offset in the ring. */
  get #end(): number {
    return (this.#start + this.#waiting) % RING_BYTES
  }

  #append(chunk: Uint8Array): void {
    if (this.#isInPlace(chunk)) {
      this.#waiting += chunk.length
      return
    }
    for (let taken = 0; taken < chunk.length; ) {
      if (this.#waiting === RING_BYTES) this.#scheduler.relieve(this)
      const room = this.room()!
      const some = chunk.subarray(taken, taken + room.length)
      room.set(some)
      this.#waiting += some.length
      taken += some.length
    }
  }

  /** True for what its reader has put where it should be. */
  #isInPlace(chunk: Uint8Array): boolean {
    const { bytes } = this.#kernel
    return chunk.buffer === bytes.buffer && chunk.byteOffset === this.#ring + this.#end
  }

  #mustBeOpen(): void {
    if (!this.#open) throw new Error('the hasher is used up')
  }
}

/**
 * Returns what RFC 1321, sections 3.1 and 3.2, puts after a message of `length` bytes: a one bit,
 * zeros up to the block's last 8 bytes, and there the number of bits, modulo 2^64.
 */
function padding(length: number): Uint8Array {
  const rest = length % BLOCK_BYTES
  const size = (rest < BLOCK_BYTES - 8 ? BLOCK_BYTES : 2 * BLOCK_BYTES) - rest
  const bytes = Buffer.alloc(size)
  bytes[0] = 0x80
  bytes.writeUInt32LE((length % 2 ** 29) * 8, size - 8)
  bytes.writeUInt32LE(Math.floor(length / 2 ** 29) % 2 ** 32, size - 4)
  return bytes
}
