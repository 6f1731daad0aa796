/** One stream of a lane engine: its state and its next bytes, in the kernel's memory. */
import { BLOCK_BYTES, type Kernel } from './kernel.ts'
import type { BlockHasher } from './md5.ts'

/** The buffer follows the state, from the next line of the cache on. */
const HEADER_BYTES = 64

/** Room for what comes while the stream waits for its turn; a piece of a body has up to 128 KiB. */
const BUFFER_BYTES = 256 * 1024

/** With more than this the next piece may not fit. */
const FULL_BYTES = BUFFER_BYTES - 128 * 1024

/** Fewer bytes are not worth a turn. */
const RIPE_BYTES = 64 * 1024

/** What a stream takes of the kernel's memory. */
export const SLOT_BYTES = HEADER_BYTES + BUFFER_BYTES

/** The engine, as its hashers see it. */
export interface Scheduler {
  /** Asks for a turn, soon: a hasher has become ripe, or is at its end. */
  schedule(): void
  /** Runs at once, until the hasher is not ripe any more. */
  relieve(hasher: LaneHasher): void
  /** The hasher's slot is free again. */
  release(hasher: LaneHasher): void
}

/** A hasher whose bytes are gathered, to be hashed together with those of others. */
export class LaneHasher implements BlockHasher {
  /** Address of its SLOT_BYTES, and so of its state. */
  readonly slot: number
  readonly #kernel: Kernel
  readonly #scheduler: Scheduler
  /** The bytes that are yet to be hashed, as offsets in the buffer. */
  #start = 0
  #end = 0
  /** All bytes there were. */
  #length = 0
  #open = true
  #pause: PromiseWithResolvers<void> | undefined
  #digest: PromiseWithResolvers<Buffer> | undefined

  constructor(kernel: Kernel, slot: number, scheduler: Scheduler) {
    this.slot = slot
    this.#kernel = kernel
    this.#scheduler = scheduler
    kernel.reset(slot)
  }

  update(chunk: Uint8Array): void | Promise<void> {
    this.#mustBeOpen()
    this.#length += chunk.length
    this.#append(chunk)
    if (this.ripe) this.#scheduler.schedule()
    if (!this.full) return
    this.#pause ??= Promise.withResolvers()
    return this.#pause.promise
  }

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
    return this.slot + HEADER_BYTES + this.#start
  }

  /** Whole blocks that are yet to be hashed. */
  get blocks(): number {
    return Math.floor(this.#waiting / BLOCK_BYTES)
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
    this.#start += blocks * BLOCK_BYTES
    // What comes next shall find the part of the buffer that is in the cache.
    if (this.#waiting < BLOCK_BYTES) this.#moveToFront()
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

  get #waiting(): number {
    return this.#end - this.#start
  }

  #append(chunk: Uint8Array): void {
    let taken = 0
    while (taken < chunk.length) {
      if (this.#waiting === BUFFER_BYTES) this.#scheduler.relieve(this)
      const some = chunk.subarray(taken, taken + BUFFER_BYTES - this.#waiting)
      if (this.#end + some.length > BUFFER_BYTES) this.#moveToFront()
      this.#kernel.bytes.set(some, this.slot + HEADER_BYTES + this.#end)
      this.#end += some.length
      taken += some.length
    }
  }

  #moveToFront(): void {
    const buffer = this.slot + HEADER_BYTES
    this.#kernel.bytes.copyWithin(buffer, buffer + this.#start, buffer + this.#end)
    this.#end -= this.#start
    this.#start = 0
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
