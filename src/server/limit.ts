/** A bound on what is under way at once. What comes beyond is refused, and its client tries again. */
import { tooBusy } from './errors.ts'

/** Counts what runs, up to a maximum. Not a queue: Keep clients retry a 503, here or elsewhere. */
export class Limit {
  /** 0: there is no limit. */
  readonly max: number
  #running = 0

  constructor(max: number) {
    this.max = max
  }

  /** How many run now. */
  get running(): number {
    return this.#running
  }

  /** Returns what `work` returns, or throws Refused (503, Retry-After) without running it. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.max > 0 && this.#running >= this.max) {
      throw tooBusy('Service Unavailable: too many requests at once')
    }
    this.#running += 1
    try {
      return await work()
    } finally {
      this.#running -= 1
    }
  }
}
