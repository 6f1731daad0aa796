/**
 * Writes batches of changes to tree and catalog so that a kill -9 or a power cut at any moment
 * loses nothing and leaves nothing untrue: (1) a transaction says what will be done (the intent),
 * (2) the lines are written, (3) the file system is synced, (4) a transaction applies the batch to
 * the catalog and drops the intent. Whoever finds an intent does (2) to (4) again.
 * At any moment the tree is the union of the catalog's places, but for the files an intent names.
 */
import { readdirSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import { KeepgwError, messageOf } from '../errors.ts'
import { HashFilter } from '../hash-filter.ts'
import type { Catalog } from './catalog.ts'
import type { CatalogMend, CatalogStats, Change, Intent, LostBlock } from './catalog-contents.ts'
import { fitsCatalog, MAX_KEY } from './catalog-entries.ts'
import {
  type CatalogRecord,
  segmentCount,
  segmentHash,
  segmentPlace,
  segmentRange,
} from './record.ts'
import { TreeSync } from './sync.ts'
import { isShard } from './tree.ts'
import {
  applyPlan,
  type BlockChange,
  type BlockPlan,
  planBlock,
  prepareRewrite,
  removeLeftovers,
} from './tree-update.ts'

/** Files between two looks at the event loop: a few milliseconds. */
const FILES_PER_TURN = 128
/** Kept free: a full disk would stop everything else on it too. */
const SPARE_BYTES = 16 * 1024 * 1024
const SPARE_INODES = 256
/** What a small file takes on common file systems. */
const FILE_BYTES = 4096
/** Hashes of a new tree that are known to be new: 8 MiB. Further ones are looked for more and more often. */
const FILTERED = 4 * 2 ** 20

/** One writer; calls must not overlap. */
export class Recorder {
  readonly #mappings: string
  readonly #catalog: Catalog
  readonly #lockId: string
  readonly #sync: TreeSync
  /** All hashes that this writer has planned files for, where the tree had none before. */
  readonly #planned: HashFilter | undefined

  constructor(mappings: string, catalog: Catalog, lockId: string) {
    this.#mappings = mappings
    this.#catalog = catalog
    this.#lockId = lockId
    this.#sync = new TreeSync(mappings)
    if (!hasShards(mappings)) this.#planned = new HashFilter(FILTERED)
  }

  /** Resolves once nothing of it is left running. */
  async close(): Promise<void> {
    await this.#sync.close()
  }

  /**
   * Finishes the batch that a crashed run had begun. Returns how many objects it was about. Throws as
   * record() does.
   */
  async recover(): Promise<number> {
    const intent = this.#catalog.intent()
    if (intent === undefined) return 0
    const changes = changesByHash(intent.changes)
    await this.#writing(async () => {
      removeLeftovers(this.#mappings, changes.keys())
      // Lines that are there already may be so in the page cache only: all files are synced.
      await this.#write(intent, await this.#plan(changes), { syncAll: true })
    })
    return intent.changes.length
  }

  /**
   * Records the changes: all of them, or (after a crash) none until recover() is called. Of several
   * changes to one object the last counts. Throws KeepgwError for a full or unwritable disk.
   */
  async record(requested: Change[]): Promise<void> {
    if (requested.length === 0) return
    // What failed before must not be forgotten for what comes now.
    await this.recover()
    await this.#writing(async () => {
      const changes = this.#settled(requested)
      const byHash = changesByHash(changes)
      const plans = await this.#plan(byHash, { mayBeNew: true })
      await this.#checkSpace(plans.values())
      const intent = this.#intent(changes, byHash, plans)
      await this.#catalog.begin(intent, this.#lockId)
      await this.#write(intent, plans)
    })
  }

  /**
   * Changes files of the tree alone: what is added is what the catalog says, what is removed it knows
   * nothing of. A crash leaves each file as it was or as it should be; to do it again changes nothing. Throws
   * as record() does.
   */
  async mend(changes: Map<string, BlockChange>): Promise<void> {
    await this.#writing(async () => {
      removeLeftovers(this.#mappings, changes.keys())
      const plans = await this.#plan(changes)
      await this.#checkSpace(plans.values())
      await this.#apply([...plans.values()].filter(({ action }) => action !== 'none'))
    })
  }

  /** Mends the catalog alone, all or nothing. Throws KeepgwError where the lock is another's. */
  mendCatalog(work: CatalogMend): void {
    this.#catalog.mend(work, this.#lockId)
  }

  /**
   * A listing may show an object twice, so that it is read twice at once: what an object was before
   * is therefore what the catalog says now, whatever it said when the reading began.
   */
  #settled(changes: Change[]): Change[] {
    const last = new Map<string, CatalogRecord | null>()
    for (const { key, after } of changes) last.set(key, after)
    const settled: Change[] = []
    for (const [key, after] of last) {
      if (!fitsCatalog(key)) throw new KeepgwError(`a key is longer than ${MAX_KEY} bytes: ${key}`)
      settled.push({ key, before: this.#catalog.get(key) ?? null, after })
    }
    return settled
  }

  /** `mayBeNew`: nothing but this writer has written to files of these hashes, if it was first in the tree. */
  async #plan(
    changes: Map<string, BlockChange>,
    { mayBeNew = false } = {},
  ): Promise<Map<string, BlockPlan>> {
    const plans = new Map<string, BlockPlan>()
    for (const [hash, change] of changes) {
      const isNew = this.#planned?.add(hash) === false && mayBeNew
      plans.set(hash, planBlock(this.#mappings, hash, change, { isNew }))
      if (plans.size % FILES_PER_TURN === 0) await setImmediate()
    }
    return plans
  }

  async #write(
    intent: Intent,
    plans: Map<string, BlockPlan>,
    { syncAll = false } = {},
  ): Promise<void> {
    const all = [...plans.values()]
    await this.#apply(syncAll ? all : all.filter(({ action }) => action !== 'none'))
    await this.#catalog.finish(intent, this.#lockId)
  }

  /** Resolves once the plans are carried out, and their files on disk. */
  async #apply(plans: BlockPlan[]): Promise<void> {
    const rewrites = plans.filter(({ action }) => action === 'rewrite')
    await this.#synced(rewrites, prepareRewrite)
    await this.#synced(plans, applyPlan)
  }

  /** Does the work for each plan, and resolves once the files that it has written are on disk. */
  async #synced(plans: BlockPlan[], work: (plan: BlockPlan) => string): Promise<void> {
    const written: string[] = []
    for (const plan of plans) {
      written.push(work(plan))
      if (written.length % FILES_PER_TURN === 0) await setImmediate()
    }
    if (written.length > 0) await this.#sync.sync(written)
  }

  #intent(
    changes: Change[],
    byHash: Map<string, BlockChange>,
    plans: Map<string, BlockPlan>,
  ): Intent {
    const delta = { ...objectDelta(changes), blocks: 0, blockBytes: 0 }
    const lost: [string, LostBlock][] = []
    const found: string[] = []
    const since = new Date().toISOString()
    const lengths = blockLengths(changes)
    for (const [hash, { placesBefore, placesAfter }] of plans) {
      const length = lengths.get(hash) ?? 0
      const sign = Number(placesAfter) - Number(placesBefore)
      delta.blocks += sign
      delta.blockBytes += sign * length
      if (sign < 0) {
        const keys = new Set(byHash.get(hash)!.remove.map(({ key }) => key))
        lost.push([hash, { length, keys: [...keys], since }])
      } else if (sign > 0 && this.#catalog.isLost(hash)) found.push(hash)
    }
    return { changes, delta, lost, found }
  }

  async #checkSpace(plans: Iterable<BlockPlan>): Promise<void> {
    let files = 0
    let bytes = 0
    for (const { action, content } of plans) {
      if (action === 'none' || action === 'unlink') continue
      if (action !== 'append') files += 1
      bytes += Math.max(content.length, action === 'append' ? 0 : FILE_BYTES)
    }
    const disk = await statfs(this.#mappings)
    const hint = 'Free some space there, then run again: what was recorded so far is kept'
    const freeBytes = disk.bavail * disk.bsize
    if (freeBytes < bytes + SPARE_BYTES) {
      throw new KeepgwError(`the disk of ${this.#mappings} is full: ${freeBytes} bytes left`, {
        hint,
      })
    }
    // Some file systems have no fixed number of inodes, and say 0.
    if (disk.files > 0 && disk.ffree < files + SPARE_INODES) {
      throw new KeepgwError(`the disk of ${this.#mappings} has ${disk.ffree} inodes left`, { hint })
    }
  }

  async #writing(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (error instanceof KeepgwError) throw error
      throw new KeepgwError(`cannot write to the mapping ${this.#mappings}: ${messageOf(error)}`, {
        cause: error,
        hint: 'Check its disk and its permissions, then run again: what was recorded so far is kept',
      })
    }
  }
}

function hasShards(mappings: string): boolean {
  return readdirSync(mappings).some(isShard)
}

/** Returns what the changes mean for each hash; segments that stay as they are left out. */
function changesByHash(changes: Change[]): Map<string, BlockChange> {
  const byHash = new Map<string, BlockChange>()
  const of = (hash: string): BlockChange => {
    let change = byHash.get(hash)
    if (change === undefined) {
      change = { add: [], remove: [] }
      byHash.set(hash, change)
    }
    return change
  }
  for (const { key, before, after } of changes) {
    const sameLine = before?.etag === after?.etag && before?.trusted === after?.trusted
    const segments = Math.max(count(before), count(after))
    for (let segment = 0; segment < segments; segment++) {
      const was = hashAt(before, segment)
      const is = hashAt(after, segment)
      if (was === is && sameLine) continue
      if (was !== undefined) of(was).remove.push(segmentPlace(key, before!, segment))
      if (is !== undefined) of(is).add.push(segmentPlace(key, after!, segment))
    }
  }
  return byHash
}

function count(record: CatalogRecord | null): number {
  return record === null ? 0 : segmentCount(record.size)
}

function hashAt(record: CatalogRecord | null, segment: number): string | undefined {
  return record === null ? undefined : segmentHash(record, segment)
}

function objectDelta(changes: Change[]): Omit<CatalogStats, 'blocks' | 'blockBytes'> {
  const delta = { objects: 0, segments: 0, bytes: 0, trusted: 0 }
  const add = (record: CatalogRecord | null, sign: number): void => {
    if (record === null) return
    delta.objects += sign
    for (let segment = 0; segment < count(record); segment++) {
      if (segmentHash(record, segment) === undefined) continue
      delta.segments += sign
      if (record.trusted) delta.trusted += sign
      delta.bytes += sign * segmentRange(record.size, segment).length
    }
  }
  for (const { before, after } of changes) {
    add(before, -1)
    add(after, 1)
  }
  return delta
}

function blockLengths(changes: Change[]): Map<string, number> {
  const lengths = new Map<string, number>()
  for (const { before, after } of changes) {
    for (const record of [before, after]) {
      for (let segment = 0; segment < count(record); segment++) {
        const hash = hashAt(record, segment)
        if (hash !== undefined) lengths.set(hash, segmentRange(record!.size, segment).length)
      }
    }
  }
  return lengths
}
