/**
 * Keeps V8 from taking memory that it does not need. The objects of a run live as long as their batch is
 * being written, those of an index until its reader has taken them: long enough to be taken for old ones,
 * so that V8 lets the young generation grow without need, and collects the old one only when there is
 * several times as much rubbish in it as there was in use. How much that comes to depends on how long the
 * work takes, and not on what it needs.
 */
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

/** Rubbish that may gather among the old objects, in percent of what was in use. */
const GROWING_PERCENT = 100

/**
 * One run's, or one index's. V8 has no other way to set these limits in a process that runs already: the
 * flags are read whenever a generation is about to grow, and one that V8 does not know changes nothing. They
 * are the whole process's.
 */
export class HeapBound {
  readonly #youngBytes: number
  #isSet = false

  /** The young generation may have `youngBytes`; with too little, too much is taken for old. */
  constructor(youngBytes: number) {
    this.#youngBytes = youngBytes
  }

  /** To be called now and again. Once the young generation is large enough, it stays so. */
  look(): void {
    if (this.#isSet || youngBytes() < this.#youngBytes) return
    this.#isSet = true
    setFlags(1, GROWING_PERCENT)
  }

  /** Lets go: code that was compiled under other flags than it is loaded with is of no use in the cache. */
  end(): void {
    if (this.#isSet) setFlags(2, 0)
    this.#isSet = false
  }
}

function youngBytes(): number {
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
  return young?.space_size ?? 0
}

/** V8's own values are 2 and 0. */
function setFlags(youngFactor: number, oldPercent: number): void {
  setFlagsFromString(`--semi-space-growth-factor=${youngFactor}`)
  setFlagsFromString(`--heap-growing-percent=${oldPercent}`)
}
