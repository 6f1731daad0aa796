/** Hashes many streams at once, eight side by side. */
import { type Kernel, LANES } from './kernel.ts'
import { LaneHasher, type Scheduler, SLOT_BYTES } from './lane-hasher.ts'
import type { BlockHasher, HashEngine } from './md5.ts'

/**
 * A stream whose buffer is full waits so long for others to fill their lanes. Its connection does not
 * stand still meanwhile: the kernel has a buffer too.
 */
const PATIENCE_MS = 2

/**
 * An engine whose hashers only gather bytes; in turns, of which there is at most one between two
 * polls of the event loop, it hashes what eight of them have. It holds 256 KiB for each of the most
 * hashers that were ever in use at once. For one thread.
 */
export class LaneEngine implements HashEngine, Scheduler {
  readonly #kernel: Kernel
  readonly #hashers = new Set<LaneHasher>()
  readonly #freeSlots: number[] = []
  #scheduled = false
  /** Runs out when those who are full have waited long enough for others to join them. */
  #patience: NodeJS.Timeout | undefined

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  /** Throws RangeError where the 4 GiB of a WebAssembly memory are in use. */
  open(): BlockHasher {
    const slot = this.#freeSlots.pop() ?? this.#kernel.allocate(SLOT_BYTES)
    const hasher = new LaneHasher(this.#kernel, slot, this)
    this.#hashers.add(hasher)
    return hasher
  }

  schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    // After the poll: whatever sockets have brought by then takes part.
    setImmediate(() => this.#turn())
  }

  relieve(hasher: LaneHasher): void {
    while (hasher.ripe) this.#run()
  }

  release(hasher: LaneHasher): void {
    this.#hashers.delete(hasher)
    this.#freeSlots.push(hasher.slot)
  }

  #turn(): void {
    this.#scheduled = false
    while (this.#worthRunning()) this.#run()
    this.#settle()
  }

  /** Hashes what those have who are full, however few. */
  #lateTurn(): void {
    this.#patience = undefined
    while (this.#someFull()) this.#run()
    this.#settle()
  }

  #settle(): void {
    for (const hasher of this.#hashers) hasher.settle()
    if (this.#patience !== undefined || !this.#someFull()) return
    this.#patience = setTimeout(() => this.#lateTurn(), PATIENCE_MS)
  }

  /** All lanes would be used, or as many as there can be, or somebody waits for an MD5. */
  #worthRunning(): boolean {
    let ripe = 0
    for (const hasher of this.#hashers) {
      if (hasher.ending) return true
      if (hasher.ripe) ripe += 1
    }
    return ripe > 0 && ripe >= Math.min(LANES, this.#hashers.size)
  }

  #someFull(): boolean {
    for (const hasher of this.#hashers) if (hasher.full) return true
    return false
  }

  /** Takes up to eight hashers as far as all of them go. */
  #run(): void {
    const hashers = this.#choose()
    const blocks = Math.min(...hashers.map((hasher) => hasher.blocks))
    this.#kernel.run(
      hashers.map(({ slot, data }) => ({ state: slot, data })),
      blocks,
    )
    for (const hasher of hashers) hasher.advance(blocks)
  }

  /** Those who end, then the fullest. */
  #choose(): LaneHasher[] {
    return [...this.#hashers]
      .filter((hasher) => hasher.blocks > 0)
      .sort((a, b) => Number(b.ending) - Number(a.ending) || b.blocks - a.blocks)
      .slice(0, LANES)
  }
}
