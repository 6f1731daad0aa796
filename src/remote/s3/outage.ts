/**
 * Tells a store that is away from one that fails a single request: what it answers nobody is worth
 * waiting for, and what it answers others is not.
 */

export interface OutageLimits {
  /** Milliseconds for which the store may be away before requests fail; none by default. */
  outage?: number
  /** True where it has answered others. One that never has may be the wrong one, and is not waited for. */
  hasAnswered?: boolean
}

/** What all requests of one client have met. */
export class Outage {
  readonly #longest: number
  readonly #now: () => number
  #answers: number
  /** When a request failed first since the last answer; infinite where none has. */
  #since = Number.POSITIVE_INFINITY

  /** `now`: milliseconds, which never go back. */
  constructor(
    { outage = 0, hasAnswered = false }: OutageLimits,
    now: () => number = () => performance.now(),
  ) {
    this.#longest = outage
    this.#answers = hasAnswered ? 1 : 0
    this.#now = now
  }

  /** Answers that the store has given, up to now. */
  get answers(): number {
    return this.#answers
  }

  /** True where requests have failed for longer than an outage is waited for, and none was answered. */
  get isTooLong(): boolean {
    return this.#longest > 0 && this.#now() >= this.#since + this.#longest
  }

  /** It has answered a request. */
  answered(): void {
    this.#answers += 1
    this.#since = Number.POSITIVE_INFINITY
  }

  /**
   * A request has failed. Returns true where the store is away: it was there once, nobody has had an answer
   * since there were `answers`, and that is not too long ago.
   */
  failed(answers: number): boolean {
    const now = this.#now()
    this.#since = Math.min(this.#since, now)
    return answers > 0 && answers === this.#answers && now < this.#since + this.#longest
  }
}
