/** One run of `keepgw index`: walk the remote, read what is new or changed, record it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type BandwidthShare, shareBandwidth } from '../bandwidth.ts'
import { messageOf, UsageError } from '../errors.ts'
import type { Catalog, Change, RunLimit, RunReport } from '../mapping/catalog.ts'
import {
  findDescription,
  type MappingDescription,
  writeDescription,
} from '../mapping/description.ts'
import {
  assertSame,
  openForWriting,
  reach,
  settleDescription,
  type WritableMapping,
} from '../mapping/open-mapping.ts'
import { takeProofs } from '../mapping/proofs.ts'
import type { CatalogRecord } from '../mapping/record.ts'
import { showKey } from '../remote/key.ts'
import { openRemote } from '../remote/open.ts'
import {
  addRequests,
  RemoteError,
  type RemoteSpec,
  type RemoteStore,
  type RequestCounts,
} from '../remote/remote.ts'
import { Slots } from '../slots.ts'
import { BatchWriter } from './batch-writer.ts'
import { dropKeys, guardShrinking, vanishedKeys } from './drop.ts'
import { EtagPolicy } from './etag-policy.ts'
import { covers, makeScope, type Scope } from './filter.ts'
import { HashPool } from './hash-pool.ts'
import { LimitReached, RunBudget, type RunLimits } from './limits.ts'
import { ObjectReader, type ReadObject } from './object-reader.ts'
import { trustedObjects } from './trusted-objects.ts'
import { type Task, walk } from './walk.ts'

export interface IndexOptions {
  /** Directory of the mapping tree. */
  mappings: string
  remote: RemoteSpec
  scope: Scope
  /** Segments read at once. */
  concurrency: number
  /** Ranges of keys that are listed at once; by default what is safe with the store. */
  listConcurrency?: number | undefined
  /** Threads that read and hash. */
  workers: number
  /**
   * Takes hashes from ETags where they are MD5s, all but those of a sample (a share, 0 to 1).
   * Otherwise, what earlier runs took so is read.
   */
  trustEtags?: { sample: number } | undefined
  /** Percent of the objects in question that may be dropped. */
  allowDrop: number
  /** Where the run ends early; a limited run drops nothing, and a dry one takes no notice. */
  limits: RunLimits
  /** Bytes of objects that are read in a second, by all threads. */
  bandwidthLimit?: number | undefined
  breakLock: boolean
  /** Only say what would be done: nothing is read or written. */
  dryRun: boolean
  /** Aborting ends the run early; what was read is recorded. */
  signal: AbortSignal
  observer: IndexObserver
}

/** Counts of a run, up to now. */
export interface IndexCounts {
  /** Objects in the listing that the run is about. */
  listed: number
  unchanged: number
  added: number
  changed: number
  dropped: number
  /** Objects, of those added and changed, whose hash was taken from the ETag. */
  trusted: number
  /** Objects whose hash had been taken from the ETag, and that were read since, by whomever. */
  proven: number
  /** Objects whose ETag looked like an MD5, and was not that of their bytes. */
  falseEtags: number
  archived: number
  unreadable: number
  /** Objects that are to be read, and are not yet. */
  waiting: number
  /** Bytes read. */
  bytes: number
  /** Known at the end only. */
  requests: RequestCounts
}

/** What a run came to. */
export interface IndexResult extends IndexCounts {
  /** The limit that ended it early. */
  incomplete?: RunLimit
}

/** What the one who started a run hears of it. */
export interface IndexObserver {
  /** Called often, with the same object each time. */
  progress(counts: Readonly<IndexCounts>): void
  unreadable(key: string, reason: string): void
  /** Something that the user should know, and that is no failure. */
  notice(message: string): void
}

const ATTEMPTS = 5
/** Objects that are being read, or wait for a second look; the pool bounds their segments. */
const OPEN_OBJECTS = 2048

/** Returns the run's counts. Throws KeepgwError; whatever was read until then is recorded. */
export async function indexRemote(options: IndexOptions): Promise<IndexResult> {
  refuseOwnDirectory(options)
  refuseTrust(options)
  if (options.dryRun) return await dryRun(options)
  const description = await settleDescription(options.mappings, options.remote)
  const { breakLock } = options
  const mapping = await openForWriting(options.mappings, description, {
    command: 'index',
    breakLock,
  })
  try {
    return await new IndexRun(options, mapping).run()
  } finally {
    await mapping.close()
  }
}

/** A mapping among the files that it is of would index itself, and grow with each run. */
function refuseOwnDirectory({ remote, mappings }: IndexOptions): void {
  if (remote.kind !== 'directory') return
  const way = relative(remote.root, mappings)
  if (way === '..' || way.startsWith('../')) return
  throw new UsageError(`the mapping ${mappings} lies in the directory that is indexed`, {
    hint: 'Name another one with --mappings DIR',
  })
}

function refuseTrust({ remote, trustEtags }: IndexOptions): void {
  if (trustEtags === undefined || remote.kind !== 'directory') return
  throw new UsageError('files have no ETag to trust', { hint: 'Leave --etag=trust out' })
}

/** As a run, with a catalog that is only looked at. */
async function dryRun(options: IndexOptions): Promise<IndexCounts> {
  const found = await findDescription(options.mappings)
  if (found !== undefined) assertSame(options.mappings, found.remote, options.remote)
  // Where there is no mapping yet, the walk needs an empty catalog all the same.
  const empty = found === undefined ? await mkdtemp(join(tmpdir(), 'keepgw-')) : undefined
  if (empty !== undefined)
    await writeDescription(empty, { version: 1, remote: options.remote, ifMatch: true })
  const description: MappingDescription = found ?? {
    version: 1,
    remote: options.remote,
    ifMatch: true,
  }
  const mapping = await openForWriting(empty ?? options.mappings, description, {
    command: 'index --dry-run',
    breakLock: options.breakLock,
  })
  try {
    return await new IndexRun(options, mapping).rehearse()
  } finally {
    await mapping.close()
    if (empty !== undefined) await rm(empty, { recursive: true, force: true })
  }
}

class IndexRun {
  readonly #options: IndexOptions
  readonly #mapping: WritableMapping
  readonly #remote: RemoteStore
  readonly #unlisted = new Set<string>()
  readonly #counts: IndexCounts = {
    listed: 0,
    unchanged: 0,
    added: 0,
    changed: 0,
    dropped: 0,
    trusted: 0,
    proven: 0,
    falseEtags: 0,
    archived: 0,
    unreadable: 0,
    waiting: 0,
    bytes: 0,
    requests: { list: 0, get: 0, head: 0 },
  }
  readonly #budget: RunBudget
  /** Of all pools of the run. */
  readonly #bandwidth: BandwidthShare | undefined
  readonly #etags: EtagPolicy
  /** Aborted by the caller, or by a failure that ends the run. */
  readonly #stop = new AbortController()
  #failure: unknown

  constructor(options: IndexOptions, mapping: WritableMapping) {
    this.#options = options
    this.#mapping = mapping
    this.#budget = new RunBudget(options.limits)
    const { trustEtags, observer } = options
    const notice = (message: string): void => observer.notice(message)
    this.#etags = new EtagPolicy({ mapping, wanted: trustEtags, notice })
    const { bandwidthLimit } = options
    this.#bandwidth = bandwidthLimit === undefined ? undefined : shareBandwidth(bandwidthLimit)
    this.#remote = openRemote(this.#spec, {
      ifMatch: mapping.description.ifMatch,
      attempts: ATTEMPTS,
    })
    options.signal.addEventListener('abort', () => this.#stop.abort(options.signal.reason))
    if (options.signal.aborted) this.#stop.abort(options.signal.reason)
  }

  async run(): Promise<IndexResult> {
    const { catalog, recorder, recovered } = this.#mapping
    if (recovered > 0) {
      this.#options.observer.notice(`finished a batch of ${recovered} objects that was cut short`)
    }
    const started = new Date().toISOString()
    const writer = new BatchWriter(recorder)
    let outcome: RunReport['outcome'] = 'failed'
    let limit: { incomplete?: RunLimit } = {}
    this.#budget.start((reached) => this.#fail(reached))
    try {
      const flush = (): Promise<void> => writer.flush()
      const record = (change: Change): Promise<void> => writer.add(change)
      const { dir } = this.#mapping
      this.#counts.proven += await takeProofs(dir, catalog, { record, flush })
      await this.#indexAll(writer)
      await this.#dropVanished(writer)
      outcome = this.#counts.unreadable > 0 ? 'incomplete' : 'complete'
    } catch (error) {
      if (this.#options.signal.aborted) outcome = 'interrupted'
      if (!(error instanceof LimitReached)) throw error
      outcome = 'incomplete'
      limit = { incomplete: error.limit }
    } finally {
      this.#budget.stop()
      await this.#closeRemote()
      const ended = new Date().toISOString()
      const { unreadable } = this.#counts
      await catalog.reportRun({ started, ended, outcome, unreadable, ...limit }).catch(() => {})
    }
    return { ...this.#counts, ...limit }
  }

  async rehearse(): Promise<IndexCounts> {
    const { catalog } = this.#mapping
    try {
      for await (const { tasks } of this.#walk()) {
        for (const { before } of tasks)
          this.#counts[before === undefined ? 'added' : 'changed'] += 1
      }
      for (const _key of vanishedKeys(catalog, this.#unlisted)) this.#counts.dropped += 1
      if (!this.#etags.mayTrust) {
        const { scope } = this.#options
        for await (const _task of trustedObjects(catalog, scope)) this.#counts.proven += 1
      }
    } finally {
      await this.#closeRemote()
    }
    return this.#counts
  }

  async #closeRemote(): Promise<void> {
    await this.#remote.close()
    this.#counts.requests = addRequests(this.#counts.requests, this.#remote.requests())
  }

  /** What was read is recorded however this ends. */
  async #indexAll(writer: BatchWriter): Promise<void> {
    const pool = new PoolHolder(this.#openPool(this.#mapping.description.ifMatch))
    const stopped = (): void => void pool.close()
    this.#stop.signal.addEventListener('abort', stopped)
    try {
      await this.#readAll(writer, pool)
    } finally {
      this.#stop.signal.removeEventListener('abort', stopped)
      await pool.close()
      this.#counts.requests = addRequests(this.#counts.requests, pool.requests())
      await writer.flush()
    }
  }

  async #readAll(writer: BatchWriter, pool: PoolHolder): Promise<void> {
    const reader = new ObjectReader({
      remote: this.#remote,
      pool: pool.current,
      distrustIfMatch: () => this.#distrustIfMatch(pool),
      onBytes: (bytes) => {
        this.#counts.bytes += bytes
        this.#report()
      },
    })
    const open = new Slots(OPEN_OBJECTS)
    const read = async (task: Task) => {
      this.#stop.signal.throwIfAborted()
      await open.take()
      const { result } = await reader.start(task.object)
      return { settled: this.#settle(task, result, writer).finally(() => open.free()) }
    }
    const allSettled = async (): Promise<void> => {
      for (let i = 0; i < OPEN_OBJECTS; i++) await open.take()
      for (let i = 0; i < OPEN_OBJECTS; i++) open.free()
    }
    try {
      await this.#indexListed(read, writer, allSettled)
      await allSettled()
      await this.#proveTrusted(read, writer, allSettled)
    } catch (error) {
      this.#fail(error)
    }
    await allSettled()
    if (this.#failure !== undefined) throw this.#failure
  }

  async #indexListed(
    read: StartReading,
    writer: BatchWriter,
    allSettled: () => Promise<void>,
  ): Promise<void> {
    const trust = this.#etags.begin({ read, trust: (task) => this.#takeEtag(task, writer) })
    const allDecided = async (): Promise<void> => {
      await trust?.finish()
      await allSettled()
    }
    for await (const page of this.#walk()) {
      for (const task of page.tasks) {
        this.#stop.signal.throwIfAborted()
        await this.#admit(allDecided)
        await (trust === undefined ? read(task) : trust.add(task))
      }
    }
    await trust?.finish()
  }

  /** Counts an object that is about to be begun. Throws LimitReached where that may not be. */
  async #admit(allDecided: () => Promise<void>): Promise<void> {
    if (this.#budget.takeObject()) return
    // Those under way may prove unreadable, and make room for others.
    await allDecided()
    if (!this.#budget.takeObject()) throw new LimitReached('max-objects')
  }

  async #takeEtag({ object, before }: Task, writer: BatchWriter): Promise<void> {
    const { key, etag, size, lastModified } = object
    const hashes = Buffer.from(etag, 'hex')
    const after: CatalogRecord = { etag, size, lastModified, hashes, trusted: true }
    await writer.add({ key, before: before ?? null, after })
    this.#counts.trusted += 1
    this.#counts[before === undefined ? 'added' : 'changed'] += 1
    this.#counts.waiting -= 1
    this.#report()
  }

  /** Reads what was trusted: all of it where an ETag has proved false, else what the run is about. */
  async #proveTrusted(
    read: StartReading,
    writer: BatchWriter,
    allSettled: () => Promise<void>,
  ): Promise<void> {
    if (this.#etags.mayTrust) return
    await writer.flush()
    const scope = this.#etags.isDisproved ? makeScope({}) : this.#options.scope
    for await (const task of trustedObjects(this.#mapping.catalog, scope)) {
      this.#counts.waiting += 1
      await this.#admit(allSettled)
      await read(task)
    }
  }

  async *#walk(): AsyncIterable<{ tasks: Task[] }> {
    const { observer, scope, listConcurrency } = this.#options
    const counts = this.#counts
    const { signal } = this.#stop
    const pages = walk(this.#remote, this.#mapping.catalog, scope, { signal, listConcurrency })
    for await (const { tasks, unchanged, archived, unlisted } of pages) {
      counts.listed += tasks.length + unchanged + archived
      counts.unchanged += unchanged
      counts.archived += archived
      counts.waiting += tasks.length
      for (const { key, reason } of unlisted) {
        this.#unlisted.add(key)
        counts.unreadable += 1
        observer.unreadable(key, `${showKey(key)}: ${reason}`)
      }
      this.#report()
      yield { tasks }
    }
  }

  /** Never throws: what ends the run is kept for later. */
  async #settle(
    task: Task,
    result: Promise<ReadObject | undefined>,
    writer: BatchWriter,
  ): Promise<ReadObject | undefined> {
    let read: ReadObject | undefined
    try {
      read = await result
      if (read === undefined) await this.#noteGone(task)
      else await this.#recordRead(task, read, writer)
    } catch (error) {
      if (error instanceof RemoteError) await this.#unreadable(task, error)
      else this.#fail(error)
    }
    if (read === undefined) this.#budget.returnObject()
    this.#counts.waiting -= 1
    this.#report()
    return read
  }

  async #noteGone({ object: { key }, before }: Task): Promise<void> {
    // What was trusted is read whole, and a run drops only what it is about.
    if (before === undefined || !covers(this.#options.scope, key)) return
    await this.#mapping.catalog.noteUnseen(key)
  }

  async #recordRead({ before }: Task, read: ReadObject, writer: BatchWriter): Promise<void> {
    const { key, etag, size, lastModified } = read.object
    const wasTrusted = before?.trusted === true && before.etag === etag
    if (await this.#etags.judge(read, wasTrusted)) this.#counts.falseEtags += 1
    const after = { etag, size, lastModified, hashes: read.hashes }
    await writer.add({ key, before: before ?? null, after })
    if (wasTrusted) this.#counts.proven += 1
    else this.#counts[before === undefined ? 'added' : 'changed'] += 1
  }

  async #unreadable({ object: { key }, before }: Task, error: RemoteError): Promise<void> {
    // The listing passes by what was archived before it was read; what was trusted may be since.
    if (before?.trusted && (await this.#isArchived(key))) {
      this.#counts.archived += 1
      return
    }
    this.#counts.unreadable += 1
    this.#options.observer.unreadable(key, messageOf(error))
  }

  async #isArchived(key: string): Promise<boolean> {
    try {
      return (await this.#remote.stat(key)).archived
    } catch {
      return false
    }
  }

  #fail(error: unknown): void {
    // What stopped the run comes first: the errors of what was then cut off are not its cause.
    const { aborted, reason } = this.#stop.signal
    this.#failure ??= aborted ? reason : error
    this.#stop.abort(error)
  }

  async #dropVanished(writer: BatchWriter): Promise<void> {
    const { catalog } = this.#mapping
    let count = 0
    for (const _key of vanishedKeys(catalog, this.#unlisted)) count += 1
    const { allowDrop, scope } = this.#options
    // Of those indexed before: what this run has added must not make a loss look small.
    const total = count === 0 ? 0 : countInScope(catalog, scope) - this.#counts.added
    guardShrinking(count, 'indexed objects are not in the listing', { allowDrop, total })
    await dropKeys(vanishedKeys(catalog, this.#unlisted), catalog, writer)
    await writer.flush()
    this.#counts.dropped = count
  }

  async #distrustIfMatch(pool: PoolHolder): Promise<HashPool> {
    const { dir, description } = this.#mapping
    description.ifMatch = false
    await writeDescription(dir, description)
    this.#options.observer.notice(
      'this store answers 412 to its own ETags: from now on answers are compared instead',
    )
    return await pool.replace(this.#openPool(false))
  }

  #openPool(ifMatch: boolean): HashPool {
    const { concurrency: connections, workers: threads } = this.#options
    return new HashPool(this.#spec, {
      ifMatch,
      connections,
      threads,
      attempts: ATTEMPTS,
      access: (query) => this.#remote.access(query),
      ...(this.#bandwidth === undefined ? {} : { bandwidth: this.#bandwidth }),
    })
  }

  get #spec(): RemoteSpec {
    return reach(this.#mapping.description.remote, this.#options.remote)
  }

  #report(): void {
    this.#options.observer.progress(this.#counts)
  }
}

/** Resolves once the reading is under way, with what comes of it. */
type StartReading = (task: Task) => Promise<{ settled: Promise<ReadObject | undefined> }>

/** The pool in use, and those that it has replaced while they were still reading. */
class PoolHolder {
  current: HashPool
  readonly #all: HashPool[]

  constructor(pool: HashPool) {
    this.current = pool
    this.#all = [pool]
  }

  async replace(pool: HashPool): Promise<HashPool> {
    this.current = pool
    this.#all.push(pool)
    return pool
  }

  requests(): RequestCounts {
    return this.#all.map((pool) => pool.requests()).reduce(addRequests)
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((pool) => pool.close()))
  }
}

function countInScope(catalog: Catalog, scope: Scope): number {
  let count = 0
  for (const prefix of scope.prefixes) {
    for (const { key } of catalog.entries(prefix)) if (scope.matches(key)) count += 1
  }
  return count
}
