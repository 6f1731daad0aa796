/** Drops what has vanished from the remote, but not the memory of a whole bucket by mistake. */
import { KeepgwError } from '../errors.ts'
import type { Catalog } from '../mapping/catalog.ts'
import type { BatchWriter } from './batch-writer.ts'

/** So few objects may always go, unless they are all there are. */
const ALWAYS_ALLOWED = 10

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

/** Returns the keys in question that the listing did not show, without those it could not tell. */
export function* vanishedKeys(catalog: Catalog, unlisted: ReadonlySet<string>): Iterable<string> {
  for (const key of catalog.unseen()) {
    if (!isUnlisted(key, unlisted)) yield key
  }
}

/** Drops the keys and their places. */
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

function isUnlisted(key: string, unlisted: ReadonlySet<string>): boolean {
  if (unlisted.size === 0) return false
  if (unlisted.has(key)) return true
  for (let at = key.indexOf('/'); at >= 0; at = key.indexOf('/', at + 1)) {
    if (unlisted.has(key.slice(0, at + 1))) return true
  }
  return false
}
