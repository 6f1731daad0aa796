/** Drops what has vanished from the remote, but not the memory of a whole bucket by mistake. */
import { KeepgwError } from '../errors.ts'
import type { Catalog } from '../mapping/catalog.ts'
import type { ListPage, Unlisted } from '../remote/remote.ts'
import type { BatchWriter } from './batch-writer.ts'
import type { Scope } from './scope.ts'

/** So few objects may always go, unless they are all there are. */
const ALWAYS_ALLOWED = 10

/** How many objects may go. */
export interface DropLimits {
  /** The share of the objects in question that may go, in percent. */
  allowDrop: number
  /** Objects in question: those of the catalog that the run is about. */
  total: number
}

/**
 * Throws KeepgwError where dropping `count` objects would be more than a run may do unasked: a
 * wrong prefix or an empty answer looks just like a bucket that was emptied.
 */
export function guardShrinking(
  count: number,
  what: string,
  { allowDrop, total }: DropLimits,
): void {
  if (count === 0 || allowDrop >= 100) return
  const few = count <= ALWAYS_ALLOWED && count < total
  if (few || count <= (total * allowDrop) / 100) return
  const percent = Math.ceil((100 * count) / total)
  throw new KeepgwError(
    `${count} of ${total} ${what}: more than ${allowDrop} % are not dropped unasked`,
    {
      hint: `Nothing was dropped. If it is right, run again with --allow-drop ${percent}`,
    },
  )
}

/**
 * Returns the empty directories of a page as what the listing could not look into: each may be without its
 * disk. As with an empty root, only who lets everything go lets go of what was in them.
 */
export function missingDisks({ empty = [] }: ListPage, allowDrop: number): Unlisted[] {
  if (allowDrop >= 100) return []
  const reason = 'it is empty: is its disk mounted? If its files were deleted, say --allow-drop 100'
  return empty.map((key) => ({ key, reason }))
}

/** Returns the keys in question that the listing did not show, without those it could not tell. */
export function* vanishedKeys(catalog: Catalog, unlisted: ReadonlySet<string>): Iterable<string> {
  for (const key of catalog.unseen.keys()) {
    if (!isUnlisted(key, unlisted)) yield key
  }
}

/** Returns how many keys vanishedKeys() has. */
export function countVanished(catalog: Catalog, unlisted: ReadonlySet<string>): number {
  let count = 0
  for (const _key of vanishedKeys(catalog, unlisted)) count += 1
  return count
}

/** What may be dropped, and out of what. */
export interface DropOptions {
  /** The share of the objects in the scope that may go, in percent. */
  allowDrop: number
  scope: Scope
  /** What the listing could not look into: keys, and prefixes that end with `/`. */
  unlisted: ReadonlySet<string>
  /** Objects that this run has added: they must not make a loss look small. */
  added: number
}

/**
 * Drops what a listing that came to its end did not show. Returns how many objects these were, once
 * that is recorded. Throws KeepgwError where they are too many; then nothing is dropped.
 */
export async function dropVanished(
  catalog: Catalog,
  writer: BatchWriter,
  { allowDrop, scope, unlisted, added }: DropOptions,
): Promise<number> {
  const count = countVanished(catalog, unlisted)
  if (count === 0) return 0
  const total = countInScope(catalog, scope) - added
  guardShrinking(count, 'indexed objects are not in the listing', { allowDrop, total })
  await dropKeys(vanishedKeys(catalog, unlisted), catalog, writer)
  await writer.flush()
  return count
}

/** Drops the keys and their places, once the caller has flushed the writer. Throws KeepgwError. */
export async function dropKeys(
  keys: Iterable<string>,
  catalog: Catalog,
  writer: BatchWriter,
): Promise<void> {
  for (const key of keys) {
    const before = catalog.get(key)
    if (before !== undefined) await writer.add({ key, before, after: null })
  }
}

/** Returns whether a listing could not look at the key: it may be there all the same. */
export function isUnlisted(key: string, unlisted: ReadonlySet<string>): boolean {
  if (unlisted.size === 0) return false
  if (unlisted.has(key)) return true
  for (let at = key.indexOf('/'); at >= 0; at = key.indexOf('/', at + 1)) {
    if (unlisted.has(key.slice(0, at + 1))) return true
  }
  return false
}

function countInScope(catalog: Catalog, scope: Scope): number {
  let count = 0
  for (const prefix of scope.prefixes) {
    for (const { key } of catalog.entries(prefix)) if (scope.matches(key)) count += 1
  }
  return count
}
