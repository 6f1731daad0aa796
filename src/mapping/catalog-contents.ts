/** What lies in a catalog beside the records of objects, and its forms there. Pure. */
import type { ProcessId } from '../process-id.ts'
import { type CatalogRecord, decodeRecord, encodeRecord } from './record.ts'

/** Counts over the whole catalog. */
export interface CatalogStats {
  objects: number
  /** Segments of all objects: places in the tree. */
  segments: number
  /** Bytes of all segments. */
  bytes: number
  /** Different blocks: files in the tree. */
  blocks: number
  /** Bytes of the different blocks. */
  blockBytes: number
  /** Segments whose hash was taken from the ETag, and that no read has proven since. */
  trusted: number
}

/** A block that lost its last place. */
export interface LostBlock {
  /** Bytes. */
  length: number
  /** The keys of the places that it lost last. */
  keys: string[]
  /** ISO 8601, UTC. */
  since: string
}

/** Who writes to the mapping; lock.ts says what it means. */
export interface LockRecord extends ProcessId {
  /** Unique to this holding of the lock. */
  id: string
  /** The command that holds it. */
  command: string
  host: string
  /** ISO 8601, UTC. */
  since: string
  heartbeat: string
}

/** What a batch is about to do to one object; `null` stands for no record. */
export interface Change {
  key: string
  before: CatalogRecord | null
  after: CatalogRecord | null
}

/** A batch that was begun: what recovery needs to finish it. */
export interface Intent {
  changes: Change[]
  /** What to add to the counts. */
  delta: CatalogStats
  lost: [hash: string, block: LostBlock][]
  /** Hashes that have a place (again). */
  found: string[]
}

/** What a repair does to the catalog. */
export interface CatalogMend {
  /** Objects whose records are bad: the next index reads them anew. */
  forget?: Iterable<string>
  /** Hashes that are not lost. */
  found?: Iterable<string>
  unreadable?: Iterable<Unreadable>
  /** The counts as they are. */
  stats?: CatalogStats
}

/** An entry of a table beside the objects. */
export interface Unreadable {
  table: 'meta' | 'lost'
  key: string
}

/** Of an empty catalog. */
export const NO_STATS: CatalogStats = {
  objects: 0,
  segments: 0,
  bytes: 0,
  blocks: 0,
  blockBytes: 0,
  trusted: 0,
}

/** Returns the sum of counts. */
export function added(a: CatalogStats, b: CatalogStats): CatalogStats {
  return {
    objects: a.objects + b.objects,
    segments: a.segments + b.segments,
    bytes: a.bytes + b.bytes,
    blocks: a.blocks + b.blocks,
    blockBytes: a.blockBytes + b.blockBytes,
    trusted: a.trusted + b.trusted,
  }
}

type StoredRecord = string | null
/** An intent as JSON has it. */
export interface StoredIntent extends Omit<Intent, 'changes'> {
  changes: [key: string, before: StoredRecord, after: StoredRecord][]
}

/** Returns what decodeIntent() takes. `after` are the records that the changes end with, encoded. */
export function encodeIntent(intent: Intent, after: readonly (Buffer | null)[]): StoredIntent {
  const text = (record: Buffer | null): StoredRecord => record?.toString('base64') ?? null
  const changes = intent.changes.map(({ key, before }, i): StoredIntent['changes'][number] => {
    return [key, text(before && encodeRecord(before)), text(after[i]!)]
  })
  return { ...intent, changes }
}

/** Returns the intent again. Throws KeepgwError where its records are damaged. */
export function decodeIntent(stored: StoredIntent): Intent {
  const decode = (record: StoredRecord): CatalogRecord | null =>
    record === null ? null : decodeRecord(Buffer.from(record, 'base64'))
  return {
    ...stored,
    delta: { ...NO_STATS, ...stored.delta },
    changes: stored.changes.map(([key, before, after]) => ({
      key,
      before: decode(before),
      after: decode(after),
    })),
  }
}
