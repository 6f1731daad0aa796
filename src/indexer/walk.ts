/**
 * Walks the listing and the catalog side by side: both are in the order of the keys' bytes, so one
 * pass in constant memory tells new, changed, unchanged and vanished objects apart. Where a store
 * lists out of order, the stray keys are looked up one by one, and the result is the same.
 */
import { type Catalog, fitsCatalog, MAX_KEY } from '../mapping/catalog.ts'
import { type CatalogRecord, isDamaged } from '../mapping/record.ts'
import { compareKeys } from '../remote/key.ts'
import type { RemoteObject, RemoteStore, Unlisted } from '../remote/remote.ts'
import type { Scope } from './filter.ts'

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
}

type Entry = { key: string; record: CatalogRecord }

/**
 * Yields what is to be done, page by page. When it has come to its end, catalog.unseen() has the
 * keys of the catalog that the scope covers and the listing did not show. Throws RemoteError where
 * the listing does not come to its end.
 */
export async function* walk(
  remote: RemoteStore,
  catalog: Catalog,
  scope: Scope,
  signal: AbortSignal,
): AsyncIterable<WalkPage> {
  await catalog.clearUnseen()
  for (const prefix of scope.prefixes) {
    const known = new KnownKeys(catalog, scope, prefix)
    let last: string | undefined
    for await (const listed of remote.list({ prefix, signal })) {
      const page: WalkPage = {
        tasks: [],
        unchanged: 0,
        archived: 0,
        unlisted: [...listed.unlisted],
      }
      for (const object of listed.objects) {
        if (!scope.matches(object.key)) continue
        if (!fitsCatalog(object.key)) {
          const reason = `longer than ${MAX_KEY} bytes: ${JSON.stringify(object.key)}`
          page.unlisted.push({ key: object.key, reason })
          continue
        }
        const order = last === undefined ? 1 : compareKeys(object.key, last)
        if (order === 0) continue
        const before = order > 0 ? await known.upTo(object.key) : await known.lookUp(object.key)
        if (order > 0) last = object.key
        sort(page, object, before)
      }
      yield page
    }
    await known.end()
  }
}

function sort(page: WalkPage, object: RemoteObject, before: CatalogRecord | undefined): void {
  if (before !== undefined && isSame(before, object)) page.unchanged += 1
  else if (object.archived) page.archived += 1
  else page.tasks.push({ object, before })
}

function isSame(before: CatalogRecord, object: RemoteObject): boolean {
  return before.etag === object.etag && before.size === object.size && !isDamaged(before)
}

/** The catalog's side of the walk. */
class KnownKeys {
  readonly #catalog: Catalog
  readonly #entries: Iterator<Entry>
  readonly #matches: (key: string) => boolean
  #next: Entry | undefined

  constructor(catalog: Catalog, scope: Scope, prefix: string) {
    this.#catalog = catalog
    this.#entries = catalog.entries(prefix)[Symbol.iterator]()
    this.#matches = scope.matches
    this.#advance()
  }

  /** Passes by all keys before `key`, which the listing has not shown; returns its record, if any. */
  async upTo(key: string): Promise<CatalogRecord | undefined> {
    while (this.#next !== undefined) {
      const order = compareKeys(this.#next.key, key)
      if (order > 0) return undefined
      const { record } = this.#next
      if (order === 0) {
        this.#advance()
        return record
      }
      await this.#passBy()
    }
    return undefined
  }

  /** Returns the record of a key that the listing shows after a later one. */
  async lookUp(key: string): Promise<CatalogRecord | undefined> {
    const record = this.#catalog.get(key)
    if (record !== undefined) await this.#catalog.noteSeen(key)
    return record
  }

  async end(): Promise<void> {
    while (this.#next !== undefined) await this.#passBy()
  }

  async #passBy(): Promise<void> {
    const { key } = this.#next!
    this.#advance()
    await this.#catalog.noteUnseen(key)
  }

  #advance(): void {
    do {
      const { done, value } = this.#entries.next()
      this.#next = done ? undefined : value
    } while (this.#next !== undefined && !this.#matches(this.#next.key))
  }
}
