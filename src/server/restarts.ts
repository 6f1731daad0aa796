/** When a process that has ended is followed by another one. */

/** Milliseconds: whoever lives longer has not ended at once. */
const YOUNG = 10_000
/** Milliseconds before the first one that follows one that ended at once; then twice as long each time. */
const FIRST_PAUSE = 100
/** How many may end at once, for each process that there should be. */
const MAX_ENDS = 5

/** The ends of processes of which there should be a number. */
export class Restarts {
  readonly #processes: number
  /** How many ended at once, since the last one that did not. */
  #ends = 0

  constructor(processes: number) {
    this.#processes = processes
  }

  /**
   * Counts an end. Returns the milliseconds to wait before the next process is started, or undefined
   * where it would only end again.
   */
  next(livedMs: number): number | undefined {
    if (livedMs >= YOUNG) this.#ends = 0
    this.#ends += 1
    if (this.#ends >= MAX_ENDS * this.#processes) return undefined
    const round = Math.floor((this.#ends - 1) / this.#processes)
    return FIRST_PAUSE * 2 ** round
  }
}
