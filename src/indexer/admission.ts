/** How much work lies ready for the threads. */

/** Small segments are handed over in advance, so that a thread never waits for its next one. */
const READY_BYTES = 16 * 1024 * 1024
const READY_SEGMENTS = 1024

/** Has room for as many segments as are read at once, and beyond that for small ones up to a bound. */
export class Admission {
  readonly #atOnce: number
  #segments = 0
  #bytes = 0
  #waiting: (() => void)[] = []

  constructor(atOnce: number) {
    this.#atOnce = atOnce
  }

  /** Returns undefined where there is room for a segment of `length` bytes, else a promise for when there is. */
  room(length: number): Promise<void> | undefined {
    return this.#hasRoom(length) ? undefined : this.#wait(length)
  }

  /** A segment of `length` bytes is handed over; whether there is room for it is not asked. */
  enter(length: number): void {
    this.#segments += 1
    this.#bytes += length
  }

  /** It is done with: those who wait for room look again. */
  leave(length: number): void {
    this.#segments -= 1
    this.#bytes -= length
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }

  async #wait(length: number): Promise<void> {
    while (!this.#hasRoom(length)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  #hasRoom(length: number): boolean {
    if (this.#segments < this.#atOnce) return true
    return this.#segments < READY_SEGMENTS && this.#bytes + length <= READY_BYTES
  }
}
