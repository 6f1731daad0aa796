/**
 * A fixed number of slots, taken before work is begun. p-limit queues without bound what it cannot
 * start; a walk over 10^8 objects must be held back instead, and let on in the order it came.
 */
export class Slots {
  #left: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#left = count
  }

  /** Resolves once a slot is the caller's, first come, first served. */
  async take(): Promise<void> {
    if (this.#left > 0) this.#left -= 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Gives a slot back: to the one that has waited longest. */
  free(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#left += 1
    else next()
  }
}
