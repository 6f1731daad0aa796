/**
 * What the store's listing says to lines of objects that the catalog does not know. Where an object still
 * has the ETag that its lines have, they are as good as the day they were written: it goes into the
 * catalog without being read. Where it has another one, or is gone, they are false.
 */
import { BatchWriter } from '../indexer/batch-writer.ts'
import { guardShrinking, isUnlisted, missingDisks } from '../indexer/drop.ts'
import type { WritableMapping } from '../mapping/open-mapping.ts'
import { type CatalogRecord, segmentCount, segmentRange } from '../mapping/record.ts'
import type { BlockChange } from '../mapping/tree-update.ts'
import type { RemoteObject, RemoteStore } from '../remote/remote.ts'
import type { StrayPlace, StrayTable } from './stray-table.ts'

/** Lines dropped together. */
const BATCH = 4096

/** Whom to ask, for which mapping, and how much of it may go. */
export interface AskOptions {
  mapping: WritableMapping
  remote: RemoteStore
  /** The share of the objects whose lines may go, in percent. */
  allowDrop: number
  signal: AbortSignal
}

/** What became of the objects. */
export interface Asked {
  /** Taken into the catalog. */
  adopted: number
  /** Lines that were false, and are dropped. */
  dropped: number
}

/**
 * Asks about all places of the table. Throws RemoteError where the listing does not come to its end, and
 * KeepgwError where too many objects' lines would go: what was adopted by then is recorded.
 */
export async function askStore(
  strays: StrayTable,
  { mapping, remote, allowDrop, signal }: AskOptions,
): Promise<Asked> {
  const { catalog, recorder } = mapping
  const writer = new BatchWriter(recorder)
  const unlisted = new Set<string>()
  let adopted = 0
  let kept = 0
  try {
    for await (const page of remote.list({ signal })) {
      const unknown = [...page.unlisted, ...missingDisks(page, allowDrop)]
      for (const { key } of unknown) unlisted.add(key)
      for (const object of page.objects) {
        const all = strays.of(object.key)
        const true_ = all.filter(({ place }) => mayBeTrue(object, place))
        for (const stray of true_) strays.remove(stray)
        if (true_.length === 0) continue
        kept += 1
        const after = recordOf(object, true_)
        if (after === undefined || catalog.entry(object.key) !== undefined) continue
        await writer.add({ key: object.key, before: null, after })
        adopted += 1
      }
    }
  } finally {
    await writer.flush()
  }
  const isFalse = ({ place: { key } }: StrayPlace): boolean => {
    return isInListing(key, remote) && !isUnlisted(key, unlisted)
  }
  const count = countKeys(strays, isFalse)
  const total = Math.max(catalog.stats().objects, kept) + count
  guardShrinking(count, 'objects of the tree are not in the listing', { allowDrop, total })
  const dropped = await drop(strays, isFalse, mapping)
  return { adopted, dropped }
}

function isInListing(key: string, { spec }: RemoteStore): boolean {
  return spec.kind !== 's3' || key.startsWith(spec.prefix ?? '')
}

function mayBeTrue(object: RemoteObject, place: StrayPlace['place']): boolean {
  if (object.unreadable !== undefined) return true
  const isSame = place.etag === undefined || place.etag === object.etag
  return isSame && place.offset + place.length <= object.size
}

/** Undefined where the lines do not name each segment once, or not by this ETag. */
function recordOf(object: RemoteObject, strays: StrayPlace[]): CatalogRecord | undefined {
  const { etag, size, lastModified } = object
  const hashes: Buffer[] = []
  let trusted = false
  for (let segment = 0; segment < segmentCount(size); segment++) {
    const { offset, length } = segmentRange(size, segment)
    const own = strays.filter(({ place }) => place.etag === etag && place.offset === offset)
    if (own.length !== 1 || own[0]!.place.length !== length) return undefined
    trusted ||= own[0]!.place.trusted === true
    hashes.push(Buffer.from(own[0]!.hash, 'hex'))
  }
  if (hashes.length === 0 || (trusted && hashes.length > 1)) return undefined
  const record: CatalogRecord = { etag, size, lastModified, hashes: Buffer.concat(hashes) }
  return trusted ? { ...record, trusted } : record
}

function countKeys(strays: StrayTable, isFalse: (stray: StrayPlace) => boolean): number {
  let count = 0
  let last: string | undefined
  for (const stray of strays.left()) {
    if (stray.place.key === last || !isFalse(stray)) continue
    last = stray.place.key
    count += 1
  }
  return count
}

async function drop(
  strays: StrayTable,
  isFalse: (stray: StrayPlace) => boolean,
  { recorder }: WritableMapping,
): Promise<number> {
  let dropped = 0
  let batch = new Map<string, BlockChange>()
  for (const stray of strays.left()) {
    if (!isFalse(stray)) continue
    dropped += 1
    const change = batch.get(stray.hash) ?? { add: [], remove: [] }
    change.remove.push(stray.place)
    batch.set(stray.hash, change)
    if (dropped % BATCH !== 0) continue
    await recorder.mend(batch)
    batch = new Map()
  }
  await recorder.mend(batch)
  return dropped
}
