/** The objects of a catalog, read in the order of their keys' bytes. */
import type { Database, Transaction } from 'lmdb'
import { keyFromBytes, keyToBytes } from '../remote/key.ts'
import { type CatalogRecord, decodeRecord, isRecordOf, isSealed } from './record.ts'
import type { RunHistory } from './run-report.ts'

/** Longest key in bytes: LMDB's limit. S3 ends at 1,024. */
export const MAX_KEY = 1978
/** A page of the walk: long enough to be cheap, short enough to pin no old pages while it is used. */
const WALK_PAGE = 1000

/** A table of bytes by bytes. */
export type Bytes = Database<Buffer, Buffer>

/** What the catalog holds of an object, decoded when it is asked for. */
export class CatalogEntry {
  readonly key: string
  readonly #bytes: Buffer

  constructor(key: string, bytes: Buffer) {
    this.key = key
    this.#bytes = bytes
  }

  /** Throws KeepgwError where the catalog is damaged. */
  get record(): CatalogRecord {
    return decodeRecord(this.#bytes)
  }

  /** True where the record has a checksum: what it says is what was written. */
  get isSealed(): boolean {
    return isSealed(this.#bytes)
  }

  /** Returns whether the object is what it was, with no segment of it dropped since. */
  isStill(etag: string, size: number): boolean {
    return isRecordOf(this.#bytes, etag, size)
  }
}

/** A catalog as it was at one moment. */
export class CatalogSnapshot {
  readonly #objects: Bytes
  readonly #transaction: Transaction
  /** Segments whose hash is only trusted. */
  readonly trusted: number
  readonly lastRun: RunHistory | undefined

  constructor(
    objects: Bytes,
    transaction: Transaction,
    { trusted, lastRun }: { trusted: number; lastRun: RunHistory | undefined },
  ) {
    this.#objects = objects
    this.#transaction = transaction
    this.trusted = trusted
    this.lastRun = lastRun
  }

  /**
   * Yields the objects whose keys start with `prefix`, in order of the keys' bytes; from `from` on
   * where it is given. They are read as they are asked for: to stop early costs nothing.
   */
  *entries(prefix: string, from = prefix): Iterable<CatalogEntry> {
    const start = keyToBytes(from)
    if (start.length > MAX_KEY) return
    const end = afterPrefix(keyToBytes(prefix))
    const range = { start, transaction: this.#transaction, ...(end === undefined ? {} : { end }) }
    for (const { key, value } of this.#objects.getRange(range)) {
      yield new CatalogEntry(keyFromBytes(key), value)
    }
  }

  /** Returns what there is of an object, if anything. */
  entry(key: string): CatalogEntry | undefined {
    if (!fitsCatalog(key)) return undefined
    const bytes = this.#objects.get(keyToBytes(key), { transaction: this.#transaction })
    return bytes === undefined ? undefined : new CatalogEntry(key, bytes)
  }

  /** Lets the file use its pages again; nothing may be read from the snapshot any more. */
  close(): void {
    this.#transaction.done()
  }
}

/** Returns whether the catalog can hold a key. */
export function fitsCatalog(key: string): boolean {
  // A UTF-16 unit is at most three bytes.
  return key.length * 3 <= MAX_KEY || keyToBytes(key).length <= MAX_KEY
}

/** Yields a table's entries from `start` on, a page at a time: no snapshot is held in between. */
export function* paged(
  table: Bytes,
  start: Buffer,
  end: Buffer | undefined,
): Iterable<{ key: Buffer; value: Buffer }> {
  if (start.length > MAX_KEY) return
  let from = start
  let exclusiveStart = false
  for (;;) {
    const range = { start: from, exclusiveStart, limit: WALK_PAGE }
    const page = [...table.getRange(end === undefined ? range : { ...range, end })]
    yield* page
    if (page.length < WALK_PAGE) return
    from = page[page.length - 1]!.key
    exclusiveStart = true
  }
}

/** Returns the first bytes after all that start with the prefix; undefined where there are none. */
export function afterPrefix(prefix: Buffer): Buffer | undefined {
  const end = Buffer.from(prefix)
  for (let at = end.length - 1; at >= 0; at--) {
    if (end[at] === 0xff) continue
    end[at]! += 1
    return end.subarray(0, at + 1)
  }
  return undefined
}
