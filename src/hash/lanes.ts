/** Hashes many streams at once, eight side by side. */
import { type Kernel, LANES } from './kernel.ts'
import { LaneHasher, type Scheduler, SLOT_BYTES } from './lane-hasher.ts'
import type { BlockHasher, HashEngine } from './md5.ts'

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
    for (const hasher of this.#hashers) hasher.settle()
  }

  /** All lanes would be used, or as many as there can be, or somebody waits. */
  #worthRunning(): boolean {
    let ripe = 0
    for (const hasher of this.#hashers) {
      if (hasher.urgent) return true
      if (hasher.ripe) ripe += 1
    }
    return ripe > 0 && ripe >= Math.min(LANES, this.#hashers.size)
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

  /** Those whom somebody waits for, then the fullest. */
  #choose(): LaneHasher[] {
    return [...this.#hashers]
      .filter((hasher) => hasher.blocks > 0)
      .sort((a, b) => Number(b.urgent) - Number(a.urgent) || b.blocks - a.blocks)
      .slice(0, LANES)
  }
}
