/** Hashes many streams at once, eight side by side. */
import { type Kernel, LANES, type Lane } from './kernel.ts'
import { LaneHasher, type Scheduler, SLOT_BYTES } from './lane-hasher.ts'
import { type BlockHasher, type HashEngine, nodeEngine } from './md5.ts'

/** How a stream that is full, or at its end, waits for others to fill the other lanes. */
export interface Patience {
  /** Milliseconds: longer where others have come in time of late, and less long where they have not. */
  least: number
  most: number
  /** A stream that others have waited for so often in vain is not waited for until it moves again. */
  stillAfter: number
}

/** Where CPU is all that counts: the kernel has buffers for connections, too. */
export const PATIENT: Patience = { least: 2, most: 8, stillAfter: 4 }

/** Where somebody waits for what is hashed, and a stream whose store is yet to answer must hold no other up. */
export const BRISK: Patience = { least: 1, most: 2, stillAfter: 1 }

/**
 * An engine whose hashers only gather bytes; in turns, of which there is at most one between two
 * polls of the event loop, it hashes what eight of them have. It reserves 2 MiB for each of
 * `streams` hashers, which the system provides when they are first used; further ones that are in use
 * at the same time hash by themselves. For one thread.
 */
export class LaneEngine implements HashEngine, Scheduler {
  readonly #kernel: Kernel
  readonly #hashers = new Set<LaneHasher>()
  readonly #freeSlots: number[]
  readonly #patience: Patience
  #scheduled = false
  /** How long somebody waits now, milliseconds. */
  #wait: number
  /** Runs while somebody waits for others to join. */
  #waiting: NodeJS.Timeout | undefined

  /** Throws RangeError where there is no address space for so many streams. */
  constructor(kernel: Kernel, streams: number, patience = PATIENT) {
    this.#kernel = kernel
    this.#patience = patience
    this.#wait = patience.most
    // All at once: memory that grows later moves, and readers read right into it.
    const slots = kernel.allocate(streams * SLOT_BYTES)
    this.#freeSlots = Array.from({ length: streams }, (_, i) => slots + i * SLOT_BYTES).reverse()
  }

  /** Returns a hasher: one that hashes by itself where all `streams` are in use. */
  open(): BlockHasher {
    const slot = this.#freeSlots.pop()
    if (slot === undefined) return nodeEngine.open()
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
    if (this.#wouldFill()) {
      if (this.#waiting !== undefined) this.#stopWaiting(this.#wait * 2)
      while (this.#wouldFill()) this.#run()
    }
    this.#settle()
  }

  /** Hashes what those have who are full or at their end, however few. */
  #lateTurn(): void {
    this.#stopWaiting(this.#wait / 2)
    // A stream that stands still, as that of a slow client does, is not waited for time and again.
    for (const hasher of this.#hashers) hasher.missed = hasher.isFed ? 0 : hasher.missed + 1
    while (this.#someWait()) this.#run()
    this.#settle()
  }

  /** The next one waits for `wait` milliseconds, or what comes next to it. */
  #stopWaiting(wait: number): void {
    clearTimeout(this.#waiting)
    this.#waiting = undefined
    this.#wait = Math.min(this.#patience.most, Math.max(this.#patience.least, wait))
  }

  #settle(): void {
    for (const hasher of this.#hashers) hasher.settle()
    if (this.#waiting !== undefined || !this.#someWait()) return
    for (const hasher of this.#hashers) hasher.isFed = hasher.full || hasher.ending
    this.#waiting = setTimeout(() => this.#lateTurn(), this.#wait)
  }

  /** All lanes would be used, or as many as there can be. */
  #wouldFill(): boolean {
    let ready = 0
    let expected = 0
    for (const hasher of this.#hashers) {
      if (hasher.ripe || hasher.ending) ready += 1
      else if (hasher.missed < this.#patience.stillAfter) expected += 1
    }
    return ready > 0 && (ready >= LANES || expected === 0)
  }

  #someWait(): boolean {
    for (const hasher of this.#hashers) if (hasher.full || hasher.ending) return true
    return false
  }

  /** Takes up to eight hashers as far as all of them go. */
  #run(): void {
    const hashers = this.#choose()
    let blocks = Number.POSITIVE_INFINITY
    const lanes: Lane[] = []
    for (const hasher of hashers) {
      blocks = Math.min(blocks, hasher.blocks)
      lanes.push({ state: hasher.slot, data: hasher.data })
    }
    this.#kernel.run(lanes, blocks)
    for (const hasher of hashers) hasher.advance(blocks)
  }

  /** Those who end, then those who have most. */
  #choose(): LaneHasher[] {
    const able = [...this.#hashers].filter((hasher) => hasher.blocks > 0)
    if (able.length <= LANES) return able
    return able
      .sort((a, b) => Number(b.ending) - Number(a.ending) || b.blocks - a.blocks)
      .slice(0, LANES)
  }
}
