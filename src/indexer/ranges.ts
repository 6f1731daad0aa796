/**
 * Lists several ranges of a remote's keys at once. A listing goes page by page, each asked for with
 * what the one before has answered, so only another range can be asked for meanwhile. Ranges come
 * from a plan; when that is used up, an idle lister takes over a part of another one's range.
 */
import { compareKeys } from '../remote/key.ts'
import { type ListPage, RemoteError, type RemoteStore } from '../remote/remote.ts'
import { splitPoint } from './split-point.ts'

/** Keys that start with `prefix`, behind `after`, up to `upTo` and with it. */
export interface KeyRange {
  readonly prefix: string
  readonly after?: string | undefined
  /** Falls when the range is split; what has been listed of it stays below. */
  readonly upTo?: string | undefined
}

/** A piece of a range's listing. The pages of one range come in their order. */
export interface RangePage extends ListPage {
  /** The same object for all pages of a range. */
  range: KeyRange
  /** The range has come to its end. */
  isLast: boolean
}

/** How ranges are listed, which depends on the store's order. Aborting ends it with the signal's reason. */
export interface RangeOptions {
  /** Ranges listed at once. */
  concurrency: number
  /** Whether ranges may be split: the store must list in byte order. */
  canSplit: boolean
  /** Whether it has to be seen that it does. */
  mustProve: boolean
  signal: AbortSignal
}

/** A range that is still going on after so many pages is worth another request. */
const PAGES_BEFORE_SPLIT = 3

/**
 * Yields the pages of all ranges of the plan, whichever comes first. While the caller is busy, each
 * range waits with one page at most. Throws RemoteError as soon as one range fails, or where the
 * store proves to list out of order what was split.
 */
export async function* listRanges(
  remote: RemoteStore,
  plan: Iterable<KeyRange>,
  { concurrency, canSplit, mustProve, signal }: RangeOptions,
): AsyncIterable<RangePage> {
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const planned = plan[Symbol.iterator]()
  const pending = new Map<ListedRange, Promise<RangePage>>()
  let seam: Seam | undefined

  const begin = (range: KeyRange, start: Seam | undefined, end: Seam | undefined): void => {
    const { prefix, after } = range
    const pages = remote.list({ prefix, ...(after === undefined ? {} : { after }), signal: either })
    ask(new ListedRange(range, pages[Symbol.asyncIterator](), start, end))
  }
  const ask = (range: ListedRange): void => {
    const page = range.next()
    // A failure is heard of when its turn comes.
    page.catch(() => {})
    pending.set(range, page)
  }
  const beginPlanned = (): boolean => {
    const { done, value: range } = planned.next()
    if (done) return false
    const start = range.after === undefined ? undefined : seam
    seam = mustProve && range.upTo !== undefined ? new Seam() : undefined
    begin(range, start, seam)
    return true
  }
  const beginSplit = (): boolean => {
    const splittable = [...pending.keys()].filter((range) => range.pages >= PAGES_BEFORE_SPLIT)
    for (const range of splittable.sort((a, b) => b.pages - a.pages)) {
      const between = mustProve ? new Seam() : undefined
      const rest = range.split(between)
      if (rest === undefined) continue
      begin(rest.range, between, rest.end)
      return true
    }
    return false
  }

  try {
    for (;;) {
      while (pending.size < concurrency) if (!beginPlanned() && !(canSplit && beginSplit())) break
      if (pending.size === 0) return
      const page = await Promise.race(pending.values())
      const range = page.range as ListedRange
      // Behind the others, so that each has its turn.
      pending.delete(range)
      if (!page.isLast) ask(range)
      yield page
    }
  } finally {
    stop.abort()
    await Promise.allSettled(pending.values())
    for (const range of pending.keys()) await range.close()
  }
}

class ListedRange implements KeyRange {
  readonly prefix: string
  readonly after: string | undefined
  upTo: string | undefined
  /** Pages listed since the range began or was split. */
  pages = 0
  readonly #listing: AsyncIterator<ListPage>
  readonly #start: Seam | undefined
  #end: Seam | undefined
  #first: string | undefined
  #last: string | undefined
  #isOrdered = true
  #isDone = false

  constructor(
    { prefix, after, upTo }: KeyRange,
    listing: AsyncIterator<ListPage>,
    start: Seam | undefined,
    end: Seam | undefined,
  ) {
    this.prefix = prefix
    this.after = after
    this.upTo = upTo
    this.#listing = listing
    this.#start = start
    this.#end = end
  }

  /** Returns the next page. */
  async next(): Promise<RangePage> {
    const { done, value } = await this.#listing.next()
    const page: ListPage = done ? { objects: [], unlisted: [] } : value
    this.#noteOrder(page)
    this.#noteSeams(page, done === true)
    const isLast = done === true || this.#isBehindEnd()
    if (isLast) {
      this.#isDone = true
      await this.close()
    }
    const isWithin = ({ key }: { key: string }): boolean => compareKeys(key, this.upTo!) <= 0
    const { upTo } = this
    const objects = isLast && upTo !== undefined ? page.objects.filter(isWithin) : page.objects
    const unlisted = upTo === undefined ? page.unlisted : page.unlisted.filter(isWithin)
    return { ...page, range: this, objects, unlisted, isLast }
  }

  /** Gives away what lies behind a point that is still to be listed; undefined where there is none. */
  split(between: Seam | undefined): { range: KeyRange; end: Seam | undefined } | undefined {
    if (this.#isDone || !this.#isOrdered || this.#last === undefined) return undefined
    if (this.upTo !== undefined && compareKeys(this.#last, this.upTo) >= 0) return undefined
    const point = splitPoint(this.#first!, this.#last, this.upTo)
    if (point === undefined) return undefined
    const rest = { range: { prefix: this.prefix, after: point, upTo: this.upTo }, end: this.#end }
    this.upTo = point
    this.#end = between
    this.pages = 0
    return rest
  }

  async close(): Promise<void> {
    await this.#listing.return?.()
  }

  #noteOrder({ objects }: ListPage): void {
    if (objects.length > 0) this.pages += 1
    for (const { key } of objects) {
      if (this.#isBehind(key)) this.#last = key
      else this.#isOrdered = false
    }
    this.#first ??= objects[0]?.key
    // An unbounded range is the whole listing in whatever order: it is just never split.
    const isBounded = this.after !== undefined || this.upTo !== undefined
    if (isBounded && !this.#isOrdered) throw outOfOrder()
  }

  /** A key may be shown twice. */
  #isBehind(key: string): boolean {
    if (this.#last !== undefined) return compareKeys(key, this.#last) >= 0
    return this.after === undefined || compareKeys(key, this.after) > 0
  }

  #noteSeams({ objects }: ListPage, isDone: boolean): void {
    if (this.#first !== undefined || isDone) this.#start?.noteFirst(this.#first ?? '')
    if (this.#end === undefined) return
    const beyond = objects.find(({ key }) => compareKeys(key, this.upTo!) > 0)
    if (beyond !== undefined || isDone) this.#end.noteBeyond(beyond?.key ?? '')
  }

  #isBehindEnd(): boolean {
    const { upTo } = this
    if (upTo === undefined || this.#last === undefined) return false
    const order = compareKeys(this.#last, upTo)
    // With a seam to prove, what comes next has to be seen.
    return order > 0 || (order === 0 && this.#end === undefined)
  }
}

/**
 * Where one range ends and the next begins. The first key that the one finds beyond its end must be
 * the first of the other: where a store lists in another order, or leaves out more than it was told
 * to, keys would fall through between the two, and it shows here or as disorder within a range.
 */
class Seam {
  /** '' stands for no key. */
  #beyond: string | undefined
  #first: string | undefined

  noteBeyond(key: string): void {
    this.#beyond ??= key
    this.#check()
  }

  noteFirst(key: string): void {
    this.#first ??= key
    this.#check()
  }

  #check(): void {
    if (this.#beyond === undefined || this.#first === undefined) return
    if (this.#beyond !== this.#first) throw outOfOrder()
  }
}

function outOfOrder(): RemoteError {
  return new RemoteError('unreachable', 'the store does not list its keys in byte order', {
    hint: 'List with --list-concurrency 1; or run again, if objects came or went just now',
  })
}
