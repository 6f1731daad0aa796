/**
 * Keeps V8 from taking memory that it does not need. A run's objects live as long as their batch is
 * being written: long enough to be taken for old ones, so that V8 lets the young generation grow, to
 * 134 MB in a first index of 60,000 keys with --etag=trust, and collects the old one only when there is several times
 * as much rubbish in it as there was in use. How much that comes to depends on how long a run takes,
 * and not on what it needs.
 */
import { setFlagsFromString } from 'node:v8'

/** Pages of the listing after which a run is a long one: by then its code is loaded and compiled. */
const LONG = 5
/** Rubbish that may gather among the old objects, in percent of what was in use. */
const GROWING_PERCENT = 50

/**
 * One run's. V8 has no other way to set these limits in a process that runs already: the flags are
 * read whenever a generation is about to grow, and one that V8 does not know changes nothing. They are
 * the whole process's.
 */
export class HeapBound {
  #pages = 0

  /** Another page of the listing has come. In a long run, the heap grows only with what is in use from now on. */
  page(): void {
    this.#pages += 1
    if (this.#pages === LONG) setFlags(1, GROWING_PERCENT)
  }

  /** Lets go: code that was compiled under other flags than it is loaded with is of no use in the cache. */
  end(): void {
    if (this.#pages >= LONG) setFlags(2, 0)
  }
}

/** V8's own values are 2 and 0. */
function setFlags(youngFactor: number, oldPercent: number): void {
  setFlagsFromString(`--semi-space-growth-factor=${youngFactor}`)
  setFlagsFromString(`--heap-growing-percent=${oldPercent}`)
}
