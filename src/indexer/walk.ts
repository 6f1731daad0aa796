/**
 * Walks the listing and the catalog side by side: both are in the order of the keys' bytes, so one
 * pass in constant memory tells new, changed, unchanged and vanished objects apart. Where a store
 * lists out of order, the stray keys are looked up one by one, and the result is the same. Where it
 * does not, several ranges of the keys are walked at once, each beside its part of the catalog.
 */
import type { Catalog } from '../mapping/catalog.ts'
import { type CatalogEntry, fitsCatalog, MAX_KEY } from '../mapping/catalog-entries.ts'
import type { CatalogRecord } from '../mapping/record.ts'
import { compareKeys } from '../remote/key.ts'
import type {
  ListPage,
  RangeSupport,
  RemoteObject,
  RemoteStore,
  Unlisted,
} from '../remote/remote.ts'
import { missingDisks } from './drop.ts'
import { type KeyRange, listRanges } from './ranges.ts'
import type { Scope } from './scope.ts'

/** An object that must be read. */
export interface Task {
  object: RemoteObject
  /** What the catalog knows of it. */
  before: CatalogRecord | undefined
}

/** What one page of the listing came to. */
export interface WalkPage {
  tasks: Task[]
  unchanged: number
  archived: number
  unlisted: Unlisted[]
  /** Objects that are there, and cannot be indexed. */
  unreadable: { key: string; reason: string }[]
}

/** How a listing is walked. Aborting ends it with the signal's reason. */
export interface WalkOptions {
  signal: AbortSignal
  /** Percent of the objects in question that may be dropped. */
  allowDrop: number
  /** Ranges listed at once; by default several where the store is sure to list in order, else one. */
  listConcurrency?: number | undefined
}

/** Amazon answers a page in about 100 ms: eight are more than a core can take in. */
const DEFAULT_CONCURRENCY: Record<RangeSupport, number> = { sure: 8, likely: 1, none: 1 }
/** Keys of the catalog in a range: ten pages, so that a page asked for in vain does not weigh much. */
const KEYS_IN_RANGE = 10_000

/**
 * Yields what is to be done, page by page; pages of different ranges come in any order. When it has
 * come to its end, catalog.unseen.keys() has the keys of the catalog that the scope covers and the listing
 * did not show. Throws RemoteError where the listing does not come to its end.
 */
export async function* walk(
  remote: RemoteStore,
  catalog: Catalog,
  scope: Scope,
  { signal, allowDrop, listConcurrency }: WalkOptions,
): AsyncIterable<WalkPage> {
  catalog.unseen.clear()
  const support = await remote.ranges()
  const concurrency = listConcurrency ?? DEFAULT_CONCURRENCY[support]
  const canSplit = concurrency > 1 && support !== 'none'
  const plan = planRanges(catalog, scope.prefixes, canSplit)
  const options = { concurrency, canSplit, mustProve: support !== 'sure', signal }
  const merges = new Map<KeyRange, Merge>()
  for await (const page of listRanges(remote, plan, options)) {
    const merge = merges.get(page.range) ?? new Merge(catalog, scope, page.range)
    merges.set(page.range, merge)
    yield await merge.take(page, missingDisks(page, allowDrop))
    if (!page.isLast) continue
    await merge.end()
    merges.delete(page.range)
  }
}

/** What the catalog knows of the keys tells where to split them. */
function* planRanges(
  catalog: Catalog,
  prefixes: string[],
  canSplit: boolean,
): Generator<KeyRange, void> {
  for (const prefix of prefixes) {
    let after: string | undefined
    for (const upTo of canSplit ? catalog.keysAtSteps(prefix, KEYS_IN_RANGE) : []) {
      yield { prefix, after, upTo }
      after = upTo
    }
    yield { prefix, after }
  }
}

/** Puts the listing of one range beside the catalog. */
class Merge {
  readonly #scope: Scope
  readonly #known: KnownKeys
  #last: string | undefined

  constructor(catalog: Catalog, scope: Scope, range: KeyRange) {
    this.#scope = scope
    this.#known = new KnownKeys(catalog, scope, range)
  }

  /** Disks that seem to be missing are of note only where something is known of them. */
  async take(listed: ListPage, disks: Unlisted[]): Promise<WalkPage> {
    const missed = disks.filter(({ key }) => this.#known.hasBelow(key))
    const unlisted = [...listed.unlisted, ...missed]
    const page: WalkPage = { tasks: [], unchanged: 0, archived: 0, unlisted, unreadable: [] }
    for (const object of listed.objects) {
      const { key } = object
      if (!this.#scope.matches(key)) continue
      if (!fitsCatalog(key)) {
        const reason = `longer than ${MAX_KEY} bytes: ${JSON.stringify(key)}`
        page.unlisted.push({ key, reason })
        continue
      }
      const order = this.#last === undefined ? 1 : compareKeys(key, this.#last)
      if (order === 0) continue
      if (order < 0) {
        sort(page, object, await this.#known.lookUp(key))
        continue
      }
      this.#last = key
      // Mostly it is there already, and waiting would cost more than all the rest.
      if (!this.#known.hasReached(key)) await this.#known.advanceTo(key)
      sort(page, object, this.#known.take(key))
    }
    return page
  }

  /** Passes by the rest of the range. */
  async end(): Promise<void> {
    await this.#known.end()
  }
}

function sort(page: WalkPage, object: RemoteObject, known: CatalogEntry | undefined): void {
  const { key, unreadable: reason } = object
  if (reason !== undefined) page.unreadable.push({ key, reason })
  else if (known?.isStill(object.etag, object.size)) page.unchanged += 1
  else if (object.archived) page.archived += 1
  else page.tasks.push({ object, before: known?.record })
}

/** The catalog's side of a range. */
class KnownKeys {
  readonly #catalog: Catalog
  readonly #range: KeyRange
  readonly #entries: Iterator<CatalogEntry>
  readonly #matches: (key: string) => boolean
  #next: CatalogEntry | undefined

  constructor(catalog: Catalog, scope: Scope, range: KeyRange) {
    this.#catalog = catalog
    this.#range = range
    this.#matches = scope.matches
    const { prefix, after } = range
    this.#entries = catalog.entries(prefix, after)[Symbol.iterator]()
    this.#advance()
    if (after !== undefined && this.#next?.key === after) this.#advance()
  }

  /** Whether there are keys in a directory; a range's prefix may begin below it. */
  hasBelow(directory: string): boolean {
    const { prefix } = this.#range
    const below = directory.startsWith(prefix) ? directory : prefix
    for (const { key } of this.#catalog.entries(below)) if (this.#matches(key)) return true
    return false
  }

  /** Whether all keys before `key` have been passed by. */
  hasReached(key: string): boolean {
    const next = this.#next?.key
    return next === undefined || next === key || compareKeys(next, key) > 0
  }

  /** Passes by all keys before `key`, which the listing has not shown. */
  async advanceTo(key: string): Promise<void> {
    while (!this.hasReached(key)) await this.#passBy()
  }

  /** Returns what is known of a key that has been reached. */
  take(key: string): CatalogEntry | undefined {
    const entry = this.#next
    if (entry?.key !== key) return undefined
    this.#advance()
    return entry
  }

  /** Returns what is known of a key that the listing shows after a later one. */
  async lookUp(key: string): Promise<CatalogEntry | undefined> {
    const entry = this.#catalog.entry(key)
    if (entry !== undefined) await this.#catalog.unseen.delete(key)
    return entry
  }

  async end(): Promise<void> {
    const { upTo } = this.#range
    while (this.#next !== undefined) {
      if (upTo !== undefined && compareKeys(this.#next.key, upTo) > 0) return
      await this.#passBy()
    }
  }

  async #passBy(): Promise<void> {
    const { key } = this.#next!
    this.#advance()
    await this.#catalog.unseen.add(key)
  }

  #advance(): void {
    do {
      const { done, value } = this.#entries.next()
      this.#next = done ? undefined : value
    } while (this.#next !== undefined && !this.#matches(this.#next.key))
  }
}
