/**
 * The catalog: what the last index run saw of each object, in the order of the keys' bytes, in an
 * LMDB environment below MAPPINGS/.keepgw/catalog. One process writes (it holds the lock of
 * lock.ts), any number read. A transaction is all or nothing, and on disk when its promise resolves.
 * They run synchronously: of an asynchronous one that cannot be committed (a full disk) lmdb leaves
 * promises behind that nobody can handle, which would end the process; and it keeps what was written
 * before a throw.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Database, open, type RootDatabase, type Transaction } from 'lmdb'
import { ExitCode, KeepgwError, messageOf } from '../errors.ts'
import { keyFromBytes, keyToBytes } from '../remote/key.ts'
import {
  added,
  type CatalogMend,
  type CatalogStats,
  decodeIntent,
  encodeIntent,
  type Intent,
  type LockRecord,
  type LostBlock,
  NO_STATS,
  type StoredIntent,
  type Unreadable,
} from './catalog-contents.ts'
import {
  CatalogDamaged,
  CatalogMissing,
  CatalogUnusable,
  refuseBadFile,
  refuseFullDisk,
  refuseNetworkFileSystem,
  refuseNoCatalog,
} from './catalog-disk.ts'
import {
  afterPrefix,
  type Bytes,
  CatalogEntry,
  CatalogSnapshot,
  fitsCatalog,
  MAX_KEY,
  paged,
} from './catalog-entries.ts'
import { lastTransactionOf, refuseBadPages } from './catalog-pages.ts'
import { stateDir } from './description.ts'
import { DENIED_HINT, isDenied } from './file-errors.ts'
import { type CatalogRecord, encodeRecord } from './record.ts'
import { asHistory, type RunHistory, type RunReport, withRun } from './run-report.ts'
import { syncPath } from './sync.ts'
import { UnseenKeys } from './unseen-keys.ts'

const META_KEYS = ['stats', 'lastRun', 'intent', 'lock'] as const
type MetaKey = (typeof META_KEYS)[number]
const HASH = /^[0-9a-f]{32}$/

type Json = Database<unknown, string>

/**
 * An open catalog, which must be closed. What writes is for the holder of the mapping's lock, and throws
 * KeepgwError, for a full disk too; what reads throws KeepgwError where the catalog is damaged, and lmdb's
 * own errors. Safe for concurrent use, but for begin() and finish(): one batch at a time.
 */
export class Catalog {
  readonly #dir: string
  readonly #root: RootDatabase
  readonly #objects: Bytes
  readonly #meta: Json
  readonly #lost: Json
  /** Keys that the listing under way has not shown (yet). */
  readonly unseen: UnseenKeys
  /** The intent under way, with the records that it ends with, encoded. */
  #begun: { intent: Intent; after: (Buffer | null)[] } | undefined

  private constructor(dir: string, root: RootDatabase) {
    const bytes = { encoding: 'binary', keyEncoding: 'binary' } as const
    this.#dir = dir
    this.#root = root
    this.#objects = root.openDB({ name: 'objects', ...bytes })
    const unseen: Bytes = root.openDB({ name: 'unseen', ...bytes })
    this.unseen = new UnseenKeys(unseen, (work) => this.#transact(work))
    this.#meta = root.openDB({ name: 'meta', encoding: 'json' })
    this.#lost = root.openDB({ name: 'lost', encoding: 'json' })
    // The last table that is made; a reader makes none, and is given undefined for it.
    if (this.#lost === undefined) throw new CatalogMissing(dir)
  }

  /**
   * Makes the catalog of a mapping, where there is none: whole and on disk, or not at all. Several
   * processes may do so at once. Throws KeepgwError.
   */
  static async make(mappings: string): Promise<void> {
    const dir = catalogDir(mappings)
    const beside = `${dir}-${randomUUID()}`
    try {
      if (!existsSync(dir)) {
        await mkdir(beside)
        await Catalog.#openAt(beside).close()
        await syncPath(beside)
        // It takes no other's place: that would not be empty.
        await rename(beside, dir)
        await removeUnfinished(mappings)
      }
    } catch (error) {
      await rm(beside, { recursive: true, force: true })
      if (!existsSync(dir)) throw cannotOpen(mappings, error)
    }
    // Without its name in there, lines would be on disk that no catalog knows of.
    await syncPath(stateDir(mappings))
  }

  /**
   * Opens the catalog of a mapping, for writing unless told otherwise, and looks at all of its pages first:
   * 0.3 s for a million objects. Who reads but a few entries may leave that out (`allPages`); a damaged
   * file can then end the process. Throws KeepgwError.
   */
  static open(mappings: string, options: { readOnly?: boolean; allPages?: boolean } = {}): Catalog {
    const { readOnly = false, allPages = true } = options
    try {
      return Catalog.#openAt(catalogDir(mappings), readOnly, allPages)
    } catch (error) {
      throw cannotOpen(mappings, error)
    }
  }

  static #openAt(dir: string, readOnly = false, allPages = true): Catalog {
    refuseNoCatalog(dir)
    refuseNetworkFileSystem(dir)
    if (!readOnly) refuseFullDisk(dir)
    const { isShort } = refuseBadFile(dir, readOnly)
    // Without overlapping syncs, a transaction that has ended is on disk.
    const root = open({ path: dir, readOnly, overlappingSync: false, maxDbs: 8 })
    try {
      if (allPages || isShort) refuseBadPages(dir, root)
      return new Catalog(dir, root)
    } catch (error) {
      void root.close()
      throw error
    }
  }

  /** The directory of the mapping. */
  get mappings(): string {
    return dirname(dirname(this.#dir))
  }

  /** Closes the file. Snapshots must be closed before. */
  async close(): Promise<void> {
    await this.#root.close()
  }

  /** Returns what is known of an object, if anything. Throws KeepgwError where its record is damaged. */
  get(key: string): CatalogRecord | undefined {
    return this.entry(key)?.record
  }

  /** As get(), with the record not yet decoded. */
  entry(key: string): CatalogEntry | undefined {
    if (!fitsCatalog(key)) return undefined
    const bytes = this.#objects.get(keyToBytes(key))
    return bytes === undefined ? undefined : new CatalogEntry(key, bytes)
  }

  /**
   * Yields the objects whose keys start with `prefix`, in order of the keys' bytes; from `from` on
   * where it is given. Holds no snapshot: what is written meanwhile may or may not be seen.
   */
  *entries(prefix = '', from = prefix): Iterable<CatalogEntry> {
    const end = afterPrefix(keyToBytes(prefix))
    for (const { key, value } of paged(this.#objects, keyToBytes(from), end)) {
      yield new CatalogEntry(keyFromBytes(key), value)
    }
  }

  /**
   * Returns the catalog as it is now, whatever is written to it meanwhile. Close it soon, and before
   * the catalog: until then the file cannot use the room of what is replaced.
   */
  snapshot(): CatalogSnapshot {
    const transaction = this.#root.useReadTransaction()
    const stored = (key: MetaKey): unknown => this.#stored(key, transaction)
    return new CatalogSnapshot(this.#objects, transaction, {
      trusted: (stored('stats') as Partial<CatalogStats> | undefined)?.trusted ?? 0,
      lastRun: asHistory(stored('lastRun')),
    })
  }

  /** Yields every `step`th key that starts with `prefix`. Steps over the others without reading them. */
  *keysAtSteps(prefix: string, step: number): Iterable<string> {
    const end = afterPrefix(keyToBytes(prefix))
    let start = keyToBytes(prefix)
    if (start.length > MAX_KEY) return
    for (let offset = step - 1; ; offset = step) {
      const range = { start, offset, limit: 1, ...(end === undefined ? {} : { end }) }
      const [key] = this.#objects.getKeys(range)
      if (key === undefined) return
      yield keyFromBytes(key)
      start = key
    }
  }

  /** Returns the counts over all objects, as the last batch has left them. Throws CatalogDamaged. */
  stats(): CatalogStats {
    // Older counts lack what was not counted then.
    return { ...NO_STATS, ...(this.#stored('stats') as Partial<CatalogStats> | undefined) }
  }

  /** Returns how the last index run has ended, and those before it that count. Throws CatalogDamaged. */
  lastRun(): RunHistory | undefined {
    return asHistory(this.#stored('lastRun'))
  }

  /** Adds a report to those of earlier runs; whose the lock is, it does not ask. Throws KeepgwError. */
  async reportRun(report: RunReport): Promise<void> {
    this.#transact(() => this.#meta.put('lastRun', withRun(this.#lastReadable(), report)))
  }

  /** What cannot be read, the next report takes the place of. */
  #lastReadable(): RunHistory | undefined {
    try {
      return this.lastRun()
    } catch {
      return undefined
    }
  }

  /** True for a block that is noted as one without a place. */
  isLost(hash: string): boolean {
    return this.#lost.doesExist(hash)
  }

  /** Yields the blocks that have no place left, in order of their hashes. */
  *lostBlocks(): Iterable<{ hash: string; block: LostBlock }> {
    for (const hash of this.#lost.getKeys()) {
      // What cannot be read is named by unreadable().
      if (!this.#isLostBlock(hash)) continue
      const block = this.#lost.get(hash) as LostBlock | undefined
      if (block !== undefined) yield { hash, block }
    }
  }

  /** Returns the batch that was begun and not finished, if any. Throws CatalogDamaged. */
  intent(): Intent | undefined {
    const stored = this.#stored('intent') as StoredIntent | undefined
    try {
      return stored === undefined ? undefined : decodeIntent(stored)
    } catch (error) {
      throw new CatalogDamaged(this.#dir, 'the batch that was begun', { cause: error })
    }
  }

  /**
   * Says what is about to be done to the tree. Throws KeepgwError, with exit code 4 where the lock is not
   * `lockId`'s any more.
   */
  async begin(intent: Intent, lockId: string): Promise<void> {
    const after = intent.changes.map(({ after }) => after && encodeRecord(after))
    this.#transact(() => {
      this.#assertLocked(lockId)
      this.#meta.put('intent', encodeIntent(intent, after))
    })
    this.#begun = { intent, after }
  }

  /**
   * Applies a batch whose lines are in the tree and on disk, and forgets its intent: all or nothing. Throws
   * as begin() does.
   */
  async finish(intent: Intent, lockId: string): Promise<void> {
    const begun = this.#begun?.intent === intent ? this.#begun.after : undefined
    this.#begun = undefined
    this.#transact(() => {
      this.#assertLocked(lockId)
      for (const [i, { key, after }] of intent.changes.entries()) {
        if (after === null) this.#objects.remove(keyToBytes(key))
        else this.#objects.put(keyToBytes(key), begun?.[i] ?? encodeRecord(after))
      }
      for (const [hash, block] of intent.lost) this.#lost.put(hash, block)
      for (const hash of intent.found) this.#lost.remove(hash)
      this.#meta.put('stats', added(this.stats(), intent.delta))
      this.#meta.remove('intent')
    })
  }

  /**
   * Changes the lock's record in one transaction: `update` gets the stored one and returns the one
   * to store, or undefined for none. Throws what `update` throws; then nothing has changed.
   */
  async updateLock(
    update: (stored: LockRecord | undefined) => LockRecord | undefined,
  ): Promise<void> {
    this.#transact(() => {
      const record = update(this.lockRecord())
      if (record === undefined) this.#meta.remove('lock')
      else this.#meta.put('lock', record)
    })
  }

  /** A lock that cannot be read is none: should its holder be alive, its next write is refused. */
  lockRecord(): LockRecord | undefined {
    try {
      return this.#stored('lock') as LockRecord | undefined
    } catch {
      return undefined
    }
  }

  /** What is read from now on is as new as it can be. */
  refresh(): void {
    this.#root.resetReadTxn()
  }

  /** Returns a number that each write to the catalog raises, by any process. */
  lastTransaction(): number {
    return lastTransactionOf(this.#root)
  }

  /** Yields what lies beside the objects and cannot be read. */
  *unreadable(): Iterable<Unreadable> {
    for (const key of META_KEYS) {
      try {
        if (key === 'intent') this.intent()
        else this.#stored(key)
      } catch {
        yield { table: 'meta', key }
      }
    }
    for (const key of this.#lost.getKeys()) {
      if (!this.#isLostBlock(key)) yield { table: 'lost', key }
    }
  }

  /** Mends the catalog alone, all or nothing. Throws as begin() does. */
  mend({ forget = [], found = [], unreadable = [], stats }: CatalogMend, lockId: string): void {
    this.#transact(() => {
      this.#assertLocked(lockId)
      for (const key of forget) this.#objects.remove(keyToBytes(key))
      for (const hash of found) this.#lost.remove(hash)
      for (const { table, key } of unreadable) {
        if (table === 'lost') this.#lost.remove(key)
        else this.#meta.remove(key)
      }
      if (stats !== undefined) this.#meta.put('stats', stats)
    })
  }

  #isLostBlock(hash: string): boolean {
    try {
      const block = this.#lost.get(hash) as Partial<LostBlock> | undefined
      return HASH.test(hash) && Array.isArray(block?.keys) && typeof block.length === 'number'
    } catch {
      return false
    }
  }

  #stored(key: MetaKey, transaction?: Transaction): unknown {
    try {
      return this.#meta.get(key, transaction === undefined ? {} : { transaction })
    } catch (error) {
      throw new CatalogDamaged(this.#dir, `its ${key}`, { cause: error })
    }
  }

  #transact(work: () => void): void {
    refuseFullDisk(this.#dir)
    try {
      this.#root.transactionSync(() => {
        // What lmdb's writes return looks like a promise, and would put the commit off.
        work()
      })
    } catch (error) {
      if (error instanceof KeepgwError) throw error
      throw new KeepgwError(`cannot write to the catalog ${this.#dir}: ${messageOf(error)}`, {
        cause: error,
        hint: 'Check its disk, then run again: what was recorded so far is kept',
      })
    }
  }

  #assertLocked(lockId: string): void {
    if (this.lockRecord()?.id === lockId) return
    throw new KeepgwError('another run has broken the lock of this mapping', {
      hint: 'Nothing of the batch was written; let the other run finish, then run again',
      exitCode: ExitCode.locked,
    })
  }
}

function catalogDir(mappings: string): string {
  return join(stateDir(mappings), 'catalog')
}

/** Removes what runs have left that were killed while they made a catalog. */
async function removeUnfinished(mappings: string): Promise<void> {
  const dir = stateDir(mappings)
  const unfinished = (await readdir(dir)).filter((name) => name.startsWith('catalog-'))
  for (const name of unfinished) await rm(join(dir, name), { recursive: true, force: true })
}

function cannotOpen(mappings: string, error: unknown): KeepgwError {
  if (error instanceof KeepgwError) return error
  const message = `cannot open the catalog ${catalogDir(mappings)}: ${messageOf(error)}`
  if (isDenied(error)) return new CatalogUnusable(message, { cause: error, hint: DENIED_HINT })
  return new KeepgwError(message, {
    cause: error,
    hint: `Is there a mapping? It is made by: keepgw index BUCKET --mappings ${mappings}`,
  })
}
