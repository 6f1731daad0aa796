/** Ends a run early: the next one carries on, since what was read is not read again. */
import type { RunLimit } from '../mapping/run-report.ts'

/** How much one run may do. */
export interface RunLimits {
  /** Objects to be read, or trusted. */
  maxObjects?: number | undefined
  /** Less than 24 days, which is as long as a timer runs. */
  maxSeconds?: number | undefined
}

/** Ends a run that has done what it may, and is no failure. */
export class LimitReached extends Error {
  override readonly name = 'LimitReached'
  readonly limit: RunLimit

  constructor(limit: RunLimit) {
    super(`${limit} was reached`)
    this.limit = limit
  }
}

/** What one run may still do. */
export class RunBudget {
  #objects: number
  readonly #milliseconds: number | undefined
  #timer: NodeJS.Timeout | undefined

  constructor({ maxObjects, maxSeconds }: RunLimits) {
    this.#objects = maxObjects ?? Number.POSITIVE_INFINITY
    this.#milliseconds = maxSeconds === undefined ? undefined : maxSeconds * 1000
  }

  /** The time begins; `timeUp` is called once it is over. */
  start(timeUp: (reached: LimitReached) => void): void {
    if (this.#milliseconds === undefined) return
    this.#timer = setTimeout(() => timeUp(new LimitReached('max-duration')), this.#milliseconds)
  }

  /** Time does not matter any more. */
  stop(): void {
    clearTimeout(this.#timer)
  }

  /** Returns whether one more object may be begun, and counts it. */
  takeObject(): boolean {
    if (this.#objects === 0) return false
    this.#objects -= 1
    return true
  }

  /**
   * An object that was begun could not be read, and another one may be in its place: were it
   * counted, a run that begins with many of them would never come to the others.
   */
  returnObject(): void {
    this.#objects += 1
  }
}
