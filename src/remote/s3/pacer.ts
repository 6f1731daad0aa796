/**
 * Slows one client's requests down where the store asks for it, and lets them go faster again. The
 * rate falls to a part of what the store has lately let through, and climbs by a cubic function of
 * the time since: fast at first, slowly near the rate that was too much, then ever faster. That is
 * CUBIC of TCP (RFC 9438, section 4.2), with which the AWS SDKs' adaptive retry mode paces requests.
 */

/** What is left of the rate after a fall. */
const BETA = 0.7
/** How fast the rate climbs: requests per second, per second cubed. */
const CUBIC = 0.4
/** However often the store refuses, requests go on at this rate, per second: one finds out when it is over. */
const MIN_RATE = 1
/** Refusals within this time of a fall are of requests that were under way then. */
const FALL_WINDOW_MS = 1000
/** No store may silence us for longer: who waits for a block has given up by then. */
const MAX_RETRY_AFTER_MS = 20_000
/** Turns that a late timer has missed are made up for, but no more than this long a backlog. */
const LATENESS_MS = 50
/** The rate is measured over a time like this. */
const METER_MS = 1000

/** Where time comes from, milliseconds. */
export interface PacerClock {
  /** Never goes back. */
  now(): number
  setTimer(run: () => void, delay: number): unknown
  clearTimer(timer: unknown): void
}

const SYSTEM_CLOCK: PacerClock = {
  now: () => performance.now(),
  setTimer: (run, delay) => setTimeout(run, delay),
  clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
}

interface Waiter {
  go(): void
  fail(reason: unknown): void
}

/** Paces the requests of one thread to one store. Safe for concurrent use. */
export class Pacer {
  readonly #clock: PacerClock
  readonly #admitted: RateMeter
  /** Requests per second; infinite while nothing was throttled lately. */
  #rate = Number.POSITIVE_INFINITY
  /** The rate at the last fall, which was too much. */
  #ceiling = 0
  /** When the store was last told to be throttling; requests flow again from then on. */
  #fellAt = 0
  /** When the next request may go. */
  #nextAt = 0
  #waiting: Waiter[] = []
  #timer: unknown
  /** Why nobody gets a turn any more. */
  #closed: Error | undefined

  constructor(clock: PacerClock = SYSTEM_CLOCK) {
    this.#clock = clock
    this.#admitted = new RateMeter(clock.now())
  }

  /**
   * Call it before each request, also before one that is made again. Returns undefined where it may
   * go now, and else a promise for when it may: first come, first served. The promise rejects with
   * the signal's reason, or that of close().
   */
  turn(signal?: AbortSignal): Promise<void> | undefined {
    if (this.#rate === Number.POSITIVE_INFINITY) return undefined
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    if (signal?.aborted) return Promise.reject(signal.reason)
    if (this.#waiting.length === 0 && this.#mayGo()) {
      this.#charge()
      return undefined
    }
    return this.#queue(signal)
  }

  /** The store has answered, with anything but a wish to be asked less. */
  succeeded(): void {
    const now = this.#clock.now()
    this.#admitted.count(now)
    if (this.#rate !== Number.POSITIVE_INFINITY) this.#climb(now)
  }

  /**
   * The store has refused a request because there are too many. `retryAfter`: the seconds of the
   * answer's Retry-After, where it has one.
   */
  throttled(retryAfter?: number): void {
    const now = this.#clock.now()
    const pause = Math.min(MAX_RETRY_AFTER_MS, Math.max(0, (retryAfter || 0) * 1000))
    if (now >= this.#fellAt + FALL_WINDOW_MS || this.#rate === Number.POSITIVE_INFINITY) {
      this.#fall(now)
    }
    if (pause === 0) return
    this.#nextAt = Math.max(this.#nextAt, now + pause)
    this.#fellAt = Math.max(this.#fellAt, now + pause)
  }

  /** There will be no more requests: those who wait for a turn get the reason. */
  close(reason: Error): void {
    this.#closed ??= reason
    for (const waiter of this.#waiting.splice(0)) waiter.fail(reason)
    this.#setTimer()
  }

  #fall(now: number): void {
    this.#ceiling = Math.min(this.#rate, this.#admitted.perSecond(now))
    this.#rate = Math.max(MIN_RATE, this.#ceiling * BETA)
    this.#fellAt = now
    this.#nextAt = Math.max(this.#nextAt, now + 1000 / this.#rate)
  }

  #climb(now: number): void {
    // Answers to requests from before the fall say nothing about the rate since.
    const seconds = (now - this.#fellAt) / 1000
    if (seconds <= 0) return
    const plateau = Math.cbrt((this.#ceiling * (1 - BETA)) / CUBIC)
    this.#rate = Math.max(MIN_RATE, this.#ceiling + CUBIC * (seconds - plateau) ** 3)
    // A rate that is out of reach limits nothing.
    const isIdle = this.#waiting.length === 0 && this.#rate >= 2 * this.#admitted.perSecond(now)
    if (seconds > plateau && isIdle && now >= this.#fellAt + FALL_WINDOW_MS) {
      this.#rate = Number.POSITIVE_INFINITY
      this.#nextAt = 0
    }
  }

  #mayGo(): boolean {
    return this.#nextAt <= this.#clock.now()
  }

  #charge(): void {
    const earliest = this.#clock.now() - LATENESS_MS
    this.#nextAt = Math.max(this.#nextAt, earliest) + 1000 / this.#rate
  }

  #queue(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        signal?.removeEventListener('abort', leave)
        how()
      }
      const waiter: Waiter = {
        go: () => settle(resolve),
        fail: (reason) => settle(() => reject(reason)),
      }
      const leave = (): void => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter)
        this.#setTimer()
        waiter.fail(signal!.reason)
      }
      signal?.addEventListener('abort', leave, { once: true })
      this.#waiting.push(waiter)
      if (this.#timer === undefined) this.#setTimer()
    })
  }

  /** Lets go who may. */
  #release(): void {
    while (this.#waiting.length > 0 && this.#mayGo()) {
      this.#charge()
      this.#waiting.shift()!.go()
    }
    this.#setTimer()
  }

  /** Nobody waits, no timer: it would keep the process. */
  #setTimer(): void {
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer)
    this.#timer = undefined
    if (this.#waiting.length === 0) return
    const delay = Math.max(0, this.#nextAt - this.#clock.now())
    this.#timer = this.#clock.setTimer(() => this.#release(), delay)
  }
}

/** Counts events, and says how many there were lately. */
class RateMeter {
  /** When the current span began. */
  #since: number
  #current = 0
  #previous = 0

  constructor(now: number) {
    this.#since = now
  }

  count(now: number): void {
    this.#advance(now)
    this.#current += 1
  }

  /** Returns events per second: those of this span, and as many of the one before as make a whole. */
  perSecond(now: number): number {
    this.#advance(now)
    const share = (now - this.#since) / METER_MS
    return ((this.#previous * (1 - share) + this.#current) * 1000) / METER_MS
  }

  #advance(now: number): void {
    const spans = Math.floor((now - this.#since) / METER_MS)
    if (spans === 0) return
    this.#previous = spans === 1 ? this.#current : 0
    this.#current = 0
    this.#since += spans * METER_MS
  }
}
