/** What the catalog says to a line of the tree. */
import type { Catalog } from '../mapping/catalog.ts'
import type { CatalogEntry } from '../mapping/catalog-entries.ts'
import type { Place } from '../mapping/mapping.ts'
import { formatPlace, MAX_BLOCK } from '../mapping/place-line.ts'
import { type CatalogRecord, segmentCount, segmentHash, segmentPlace } from '../mapping/record.ts'

/** `right`: as the catalog has it. The others are kinds of findings. */
export type Judgement =
  | { kind: 'right' | 'stale' | 'stray' | 'conflict' }
  | { kind: 'wrong'; expected: Place }

/** Returns the text that a place has in comparisons: without what keepgw has not written. */
export function placeText(hash: string, { extra: _extra, ...place }: Place): string {
  return `${hash} ${formatPlace(place)}`
}

function readable(entry: CatalogEntry): CatalogRecord | undefined {
  try {
    return entry.record
  } catch {
    return undefined
  }
}

/**
 * Judges a place that the file of `hash` names, by what the catalog has of its object. A line that may be
 * true is never called stale: the catalog has to prove otherwise. A record without a checksum proves
 * nothing against a line of the same ETag, or of the same hash: its own bits may have changed.
 */
export function judgePlace(catalog: Catalog, hash: string, place: Place): Judgement {
  const entry = catalog.entry(place.key)
  const record = entry && readable(entry)
  // A record that cannot be read is removed: its lines may bring it back.
  if (record === undefined) return { kind: 'stray' }
  const { isSealed } = entry!
  const segment = place.offset / MAX_BLOCK
  const isSegment = Number.isInteger(segment) && segment < segmentCount(record.size)
  const isSameObject = place.etag === undefined || place.etag === record.etag
  // Lines by hand may divide an object otherwise.
  if (!isSegment) return { kind: isSameObject ? 'stray' : 'stale' }
  const expected = segmentPlace(place.key, record, segment)
  const known = segmentHash(record, segment)
  const isSameRange = place.length === expected.length
  if (known === hash) {
    if (placeText(hash, place) === placeText(hash, expected)) return { kind: 'right' }
    if (isSealed || (isSameObject && isSameRange)) return { kind: 'wrong', expected }
    return { kind: 'conflict' }
  }
  // To be read anew: until then the line may be true.
  if (known === undefined) return { kind: isSameObject ? 'stray' : 'stale' }
  if (!isSameObject) return { kind: 'stale' }
  if (!isSameRange) return { kind: 'stray' }
  return { kind: isSealed ? 'stale' : 'conflict' }
}
