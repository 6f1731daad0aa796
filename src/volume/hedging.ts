/**
 * When a place that is slow to its first byte is raced by another request, and how many of those
 * there may be. As in “The Tail at Scale” (Dean and Barroso, 2013): after the time that 95 of 100
 * first bytes took lately, so that a store as it always is sees few requests more.
 */
import type { BlockSource } from './volume.ts'

/** `auto`: after a time that is learnt; or after so many milliseconds. */
export type HedgeAfter = 'auto' | number

/** First bytes of a store that are remembered. */
const REMEMBERED = 128
/** The learnt time is looked up anew after so many; before there are so many, nothing is known. */
const RENEWED_EACH = 4
/** Milliseconds after which to ask another place while nothing is known of any store. */
const UNKNOWN = 1000
const PERCENTILE = 0.95
/** Or so many medians, if that is less: a few first bytes that were very slow (the first ones are) do not count. */
const MEDIANS = 2
/** Milliseconds: what a busy thread or a timer takes to notice is not the store's. */
const LEAST = 4
/** Requests in vain at a stretch, at most. */
const MOST_IN_VAIN = 16
/** What the first byte of any request earns: of ten requests, one may be followed by another in vain. */
const EARNED = 0.1

/** Shared by all reads of a thread. Safe for concurrent use. */
export class Hedging {
  readonly #after: HedgeAfter
  readonly #stores = new Map<string, FirstBytes>()
  /** Requests that may still be made without being of use. */
  #credit = MOST_IN_VAIN

  constructor(after: HedgeAfter) {
    this.#after = after
  }

  /**
   * Returns the milliseconds without a first byte after which to ask another place. One that has never
   * answered gets as long as the slowest of the others: it may be one that hangs.
   */
  delay({ store }: BlockSource): number {
    if (this.#after !== 'auto') return this.#after
    return this.#stores.get(store)?.limit ?? this.#slowest() ?? UNKNOWN
  }

  /** Notes that a first byte took so many milliseconds. */
  answered({ store }: BlockSource, milliseconds: number): void {
    this.#earn(EARNED)
    let known = this.#stores.get(store)
    if (known === undefined) {
      known = new FirstBytes()
      this.#stores.set(store, known)
    }
    known.add(milliseconds)
  }

  /** Returns true where one more request may be made. */
  begin(): boolean {
    if (this.#credit < 1) return false
    this.#credit -= 1
    return true
  }

  /** It was of use: the first one would have kept its reader waiting, or has failed. */
  won(): void {
    this.#earn(1)
  }

  #slowest(): number | undefined {
    const limits = [...this.#stores.values()].flatMap(({ limit }) => limit ?? [])
    return limits.length === 0 ? undefined : Math.max(...limits)
  }

  #earn(credit: number): void {
    this.#credit = Math.min(MOST_IN_VAIN, this.#credit + credit)
  }
}

/** What first bytes of one store took lately. */
class FirstBytes {
  readonly #times: number[] = []
  #next = 0
  /** Milliseconds that few of them took; undefined before there are some. */
  limit: number | undefined

  add(milliseconds: number): void {
    this.#times[this.#next++ % REMEMBERED] = milliseconds
    if (this.#next % RENEWED_EACH > 0) return
    const sorted = this.#times.toSorted((a, b) => a - b)
    const at = (part: number): number => sorted[Math.floor(sorted.length * part)]!
    this.limit = Math.max(LEAST, Math.min(at(PERCENTILE), MEDIANS * at(0.5)))
  }
}
