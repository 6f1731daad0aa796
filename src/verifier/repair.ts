/** Drops the places that were proven bad, so that the next index reads their objects anew. */
import { guardShrinking } from '../indexer/drop.ts'
import type { Catalog } from '../mapping/catalog.ts'
import type { Change } from '../mapping/catalog-contents.ts'
import type { Place } from '../mapping/mapping.ts'
import type { WritableMapping } from '../mapping/open-mapping.ts'
import { MAX_BLOCK } from '../mapping/place-line.ts'
import { segmentHash, withoutSegments } from '../mapping/record.ts'
import type { BlockChange } from '../mapping/tree-update.ts'
import type { BlockReport, Verdict } from './verify.ts'

/** A place that does not hold its block. */
export interface BadPlace {
  hash: string
  place: Place
}

const PROVEN_BAD: ReadonlySet<Verdict> = new Set(['changed', 'gone', 'corrupt'])
/** Objects changed in one batch. */
const BATCH = 1000

/** Returns the places that are proven bad; an unreachable one may be good. */
export function provenBad({ hash, places }: BlockReport): BadPlace[] {
  return places
    .filter(({ verdict }) => PROVEN_BAD.has(verdict))
    .map(({ place }) => ({ hash, place }))
}

/**
 * Drops the places from the tree, and marks their objects in the catalog as to be read anew.
 * Throws KeepgwError where that would be more than `allowDrop` percent of the objects.
 */
export async function dropPlaces(
  bad: BadPlace[],
  { catalog, recorder }: WritableMapping,
  allowDrop: number,
): Promise<void> {
  const byKey = Map.groupBy(bad, ({ place }) => place.key)
  const total = Math.max(catalog.stats().objects, byKey.size)
  guardShrinking(byKey.size, 'indexed objects have bad places', { allowDrop, total })
  const strays: BadPlace[] = []
  let batch: Change[] = []
  for (const [key, places] of byKey) {
    const { change, unknown } = withoutPlaces(key, places, catalog)
    strays.push(...unknown)
    if (change !== undefined) batch.push(change)
    if (batch.length === BATCH) {
      await recorder.record(batch)
      batch = []
    }
  }
  await recorder.record(batch)
  const strayByHash = Map.groupBy(strays, ({ hash }) => hash)
  const removals = Array.from(strayByHash, ([hash, places]): [string, BlockChange] => {
    return [hash, { add: [], remove: places.map(({ place }) => place) }]
  })
  await recorder.mend(new Map(removals))
}

/** Splits bad places into those that the catalog has (as a change to it) and the others. */
function withoutPlaces(
  key: string,
  bad: BadPlace[],
  catalog: Catalog,
): { change?: Change; unknown: BadPlace[] } {
  const before = catalog.get(key)
  if (before === undefined) return { unknown: bad }
  const segments: number[] = []
  const unknown: BadPlace[] = []
  for (const one of bad) {
    const segment = one.place.offset / MAX_BLOCK
    const has = Number.isInteger(segment) && segmentHash(before, segment) === one.hash
    if (!has) unknown.push(one)
    // An index run may have read the object since; then its new line is not the one that was bad.
    else if (one.place.etag === undefined || one.place.etag === before.etag) segments.push(segment)
  }
  if (segments.length === 0) return { unknown }
  return { change: { key, before, after: withoutSegments(before, segments) }, unknown }
}
