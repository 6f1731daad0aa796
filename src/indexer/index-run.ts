/** One run of `keepgw index`: walk the remote, read what is new or changed, record it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { messageOf, UsageError } from '../errors.ts'
import type { Catalog, RunReport } from '../mapping/catalog.ts'
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
import { showKey } from '../remote/key.ts'
import { openRemote } from '../remote/open.ts'
import { RemoteError, type RemoteSpec, type RemoteStore } from '../remote/remote.ts'
import { Slots } from '../slots.ts'
import { BatchWriter } from './batch-writer.ts'
import { dropKeys, guardShrinking, vanishedKeys } from './drop.ts'
import type { Scope } from './filter.ts'
import { HashPool } from './hash-pool.ts'
import { ObjectReader, type ReadObject } from './object-reader.ts'
import { type Task, walk } from './walk.ts'

export interface IndexOptions {
  /** Directory of the mapping tree. */
  mappings: string
  remote: RemoteSpec
  scope: Scope
  /** Segments read at once. */
  concurrency: number
  /** Percent of the objects in question that may be dropped. */
  allowDrop: number
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
  archived: number
  unreadable: number
  /** Objects that are to be read, and are not yet. */
  waiting: number
  /** Bytes read. */
  bytes: number
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

/** Returns the run's counts. Throws KeepgwError; whatever was read until then is recorded. */
export async function indexRemote(options: IndexOptions): Promise<IndexCounts> {
  refuseOwnDirectory(options)
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
    archived: 0,
    unreadable: 0,
    waiting: 0,
    bytes: 0,
  }
  /** Aborted by the caller, or by a failure that ends the run. */
  readonly #stop = new AbortController()
  #failure: unknown

  constructor(options: IndexOptions, mapping: WritableMapping) {
    this.#options = options
    this.#mapping = mapping
    this.#remote = openRemote(this.#spec, {
      ifMatch: mapping.description.ifMatch,
      attempts: ATTEMPTS,
    })
    options.signal.addEventListener('abort', () => this.#stop.abort(options.signal.reason))
    if (options.signal.aborted) this.#stop.abort(options.signal.reason)
  }

  async run(): Promise<IndexCounts> {
    const { catalog, recorder, recovered } = this.#mapping
    if (recovered > 0) {
      this.#options.observer.notice(`finished a batch of ${recovered} objects that was cut short`)
    }
    const started = new Date().toISOString()
    const writer = new BatchWriter(recorder)
    let outcome: RunReport['outcome'] = 'failed'
    try {
      await this.#indexAll(writer)
      await this.#dropVanished(writer)
      outcome = this.#counts.unreadable > 0 ? 'incomplete' : 'complete'
    } catch (error) {
      if (this.#options.signal.aborted) outcome = 'interrupted'
      throw error
    } finally {
      await this.#remote.close()
      const ended = new Date().toISOString()
      const { unreadable } = this.#counts
      await catalog.reportRun({ started, ended, outcome, unreadable }).catch(() => {})
    }
    return this.#counts
  }

  async rehearse(): Promise<IndexCounts> {
    const { catalog } = this.#mapping
    try {
      for await (const { tasks } of this.#walk()) {
        for (const { before } of tasks)
          this.#counts[before === undefined ? 'added' : 'changed'] += 1
      }
      for (const _key of vanishedKeys(catalog, this.#unlisted)) this.#counts.dropped += 1
    } finally {
      await this.#remote.close()
    }
    return this.#counts
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
      await writer.flush()
    }
  }

  async #readAll(writer: BatchWriter, pool: PoolHolder): Promise<void> {
    const { concurrency } = this.#options
    const reader = new ObjectReader({
      remote: this.#remote,
      pool: pool.current,
      slots: new Slots(concurrency),
      distrustIfMatch: () => this.#distrustIfMatch(pool),
      onBytes: (bytes) => {
        this.#counts.bytes += bytes
        this.#report()
      },
    })
    // Objects that wait for a second look hold no segment's slot.
    const open = new Slots(2 * concurrency)
    try {
      for await (const page of this.#walk()) {
        for (const task of page.tasks) {
          this.#stop.signal.throwIfAborted()
          await open.take()
          const { result } = await reader.start(task.object)
          void this.#settle(task, result, writer).finally(() => open.free())
        }
      }
    } catch (error) {
      this.#fail(error)
    }
    for (let i = 0; i < 2 * concurrency; i++) await open.take()
    if (this.#failure !== undefined) throw this.#failure
  }

  async *#walk(): AsyncIterable<{ tasks: Task[] }> {
    const { observer, scope } = this.#options
    const counts = this.#counts
    const pages = walk(this.#remote, this.#mapping.catalog, scope, this.#stop.signal)
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
    { object, before }: Task,
    result: Promise<ReadObject | undefined>,
    writer: BatchWriter,
  ): Promise<void> {
    const { catalog } = this.#mapping
    try {
      const read = await result
      if (read === undefined) {
        if (before !== undefined) await catalog.noteUnseen(object.key)
      } else {
        const { etag, size, lastModified } = read.object
        const after = { etag, size, lastModified, hashes: read.hashes }
        await writer.add({ key: object.key, before: before ?? null, after })
        this.#counts[before === undefined ? 'added' : 'changed'] += 1
      }
    } catch (error) {
      if (error instanceof RemoteError) this.#unreadable(object.key, error)
      else this.#fail(error)
    }
    this.#counts.waiting -= 1
    this.#report()
  }

  #unreadable(key: string, error: RemoteError): void {
    this.#counts.unreadable += 1
    this.#options.observer.unreadable(key, messageOf(error))
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
    const { concurrency: connections } = this.#options
    return new HashPool(this.#spec, { ifMatch, connections, attempts: ATTEMPTS })
  }

  get #spec(): RemoteSpec {
    return reach(this.#mapping.description.remote, this.#options.remote)
  }

  #report(): void {
    this.#options.observer.progress(this.#counts)
  }
}

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
