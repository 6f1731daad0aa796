/**
 * A limit on the bytes that all threads of a process read in a second. It is one number that they
 * share: the time until which the bytes taken so far have used the link up (the "generic cell rate
 * algorithm": a token bucket that needs nobody to fill it). Whoever takes bytes moves that time on
 * and waits for it, so that no thread needs to know of the others.
 */
import { setTimeout } from 'node:timers/promises'
import { type Sink, sinkInto } from '../remote/remote.ts'

/** Unused time is kept this long: a reader that comes a little late loses nothing. */
const BURST_NS = 100_000_000n

/** What the threads share. It travels to them as workerData. */
export interface BandwidthShare {
  bytesPerSecond: number
  /** One 64-bit integer: nanoseconds of the system's monotonic clock. */
  busyUntil: SharedArrayBuffer
}

/** Where time comes from. */
export interface BandwidthClock {
  /** Nanoseconds; the same in all threads, and never goes back. */
  now(): bigint
  /** Resolves after so many milliseconds. */
  sleep(milliseconds: number): Promise<void>
}

/** The system's own, which all threads share. */
export const SYSTEM_CLOCK: BandwidthClock = {
  now: process.hrtime.bigint,
  sleep: (milliseconds) => setTimeout(milliseconds),
}

/** Returns a limit that nobody has used yet, for any number of threads. */
export function shareBandwidth(bytesPerSecond: number): BandwidthShare {
  return { bytesPerSecond, busyUntil: new SharedArrayBuffer(8) }
}

/** One thread's use of a limit. Safe for concurrent use, in any number of threads. */
export class BandwidthLimit {
  readonly #nanosecondsPerByte: number
  readonly #busyUntil: BigInt64Array
  readonly #clock: BandwidthClock

  constructor({ bytesPerSecond, busyUntil }: BandwidthShare, clock = SYSTEM_CLOCK) {
    this.#nanosecondsPerByte = 1e9 / bytesPerSecond
    this.#busyUntil = new BigInt64Array(busyUntil)
    this.#clock = clock
  }

  /** Returns a sink that passes all on to another, and holds the reader back besides. */
  before(sink: Sink): Sink {
    return sinkInto(sink, (chunk) => {
      const { length } = chunk
      const busy = sink(chunk)
      const pause = this.take(length)
      if (pause === undefined) return busy
      return busy === undefined ? pause : Promise.all([busy, pause]).then(() => {})
    })
  }

  /**
   * Takes note of bytes that were read. Returns undefined where more may be read at once, and else a
   * promise for when.
   */
  take(bytes: number): Promise<void> | undefined {
    const now = this.#clock.now()
    const wait = this.#occupy(bytes, now) - now
    return wait > 0n ? this.#clock.sleep(Math.ceil(Number(wait) / 1e6)) : undefined
  }

  /** Returns when the link has carried these bytes. */
  #occupy(bytes: number, now: bigint): bigint {
    const cost = BigInt(Math.round(bytes * this.#nanosecondsPerByte))
    let seen = Atomics.load(this.#busyUntil, 0)
    while (true) {
      const idleSince = now - BURST_NS
      const until = (seen > idleSince ? seen : idleSince) + cost
      const found = Atomics.compareExchange(this.#busyUntil, 0, seen, until)
      if (found === seen) return until
      seen = found
    }
  }
}
