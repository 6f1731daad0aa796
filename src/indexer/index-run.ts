/** One run of `keepgw index`: walk the remote, read what is new or changed, record it. */
import { HeapBound } from '../heap.ts'
import { openForWriting, settleDescription, type WritableMapping } from '../mapping/open-mapping.ts'
import { takeProofs } from '../mapping/proofs.ts'
import type { RunReport } from '../mapping/run-report.ts'
import { BatchWriter } from './batch-writer.ts'
import { LimitReached, RunBudget } from './budget.ts'
import { dropVanished } from './drop.ts'
import { dryRun } from './dry-run.ts'
import { EtagPolicy } from './etag-policy.ts'
import { checkOptions, type IndexOptions } from './index-options.ts'
import { ObjectIndexer } from './object-indexer.ts'
import { RunRemote } from './run-remote.ts'
import { type IndexResult, RunTally } from './run-tally.ts'
import { makeScope } from './scope.ts'
import { trustedObjects } from './trusted-objects.ts'
import { walk } from './walk.ts'

/** Opens what a run reads from. */
export type Connect = (options: IndexOptions, mapping: WritableMapping) => RunRemote

const connectAsAsked: Connect = (options, mapping) => new RunRemote(options, mapping)

/**
 * Returns the run's counts. Throws KeepgwError; whatever was read until then is recorded. `connect`
 * may open another remote than that of the options.
 */
export async function indexRemote(
  options: IndexOptions,
  connect = connectAsAsked,
): Promise<IndexResult> {
  checkOptions(options)
  if (options.dryRun) return await dryRun(options)
  const { mappings, remote, breakLock } = options
  const description = await settleDescription(mappings, remote)
  const mapping = await openForWriting(mappings, description, { command: 'index', breakLock })
  try {
    return await new IndexRun(options, mapping, connect(options, mapping)).run()
  } finally {
    await mapping.close()
  }
}

/**
 * Of V8's young generation (HeapBound). A batch lives until it is written: with half of this, a first run
 * with --etag=trust takes 3 to 10 % more CPU, with twice as much it takes no less.
 */
const YOUNG_BYTES = 32 * 2 ** 20

class IndexRun {
  readonly #options: IndexOptions
  readonly #mapping: WritableMapping
  readonly #remote: RunRemote
  readonly #writer: BatchWriter
  readonly #tally: RunTally
  readonly #budget: RunBudget
  readonly #etags: EtagPolicy
  readonly #heap = new HeapBound(YOUNG_BYTES)
  /** Aborted by the caller, by a limit, or by a failure that ends the run: what comes first counts. */
  readonly #stop = new AbortController()

  constructor(options: IndexOptions, mapping: WritableMapping, remote: RunRemote) {
    const { limits, trustEtags: wanted, observer, signal } = options
    this.#options = options
    this.#mapping = mapping
    this.#remote = remote
    this.#writer = new BatchWriter(mapping.recorder)
    this.#tally = new RunTally(observer)
    this.#budget = new RunBudget(limits)
    this.#etags = new EtagPolicy({ mapping, wanted, observer })
    signal.addEventListener('abort', () => this.#stop.abort(signal.reason))
    if (signal.aborted) this.#stop.abort(signal.reason)
  }

  async run(): Promise<IndexResult> {
    const { catalog, recovered } = this.#mapping
    const { counts } = this.#tally
    if (recovered > 0) {
      this.#options.observer.notice(`finished a batch of ${recovered} objects that was cut short`)
    }
    const started = new Date().toISOString()
    let outcome: RunReport['outcome'] = 'failed'
    let limit: Pick<IndexResult, 'incomplete'> = {}
    this.#budget.start((reached) => this.#stop.abort(reached))
    try {
      await this.#takeProofs()
      await this.#indexAll()
      await this.#dropVanished()
      outcome = counts.unreadable > 0 ? 'incomplete' : 'complete'
    } catch (error) {
      if (this.#options.signal.aborted) outcome = 'interrupted'
      if (!(error instanceof LimitReached)) throw error
      outcome = 'incomplete'
      limit = { incomplete: error.limit }
    } finally {
      this.#budget.stop()
      this.#heap.end()
      counts.requests = await this.#remote.close()
      const ended = new Date().toISOString()
      const { unreadable, archived } = counts
      const { part } = this.#options.scope
      const about = part === undefined ? {} : { part }
      const report = { started, ended, outcome, unreadable, archived, ...limit, ...about }
      await catalog.reportRun(report).catch(() => {})
    }
    return { ...counts, ...limit }
  }

  async #takeProofs(): Promise<void> {
    const { dir, catalog } = this.#mapping
    this.#tally.counts.proven += await takeProofs(dir, catalog, {
      record: async (change) => await this.#writer.add(change),
      flush: () => this.#writer.flush(),
    })
  }

  /** What was read is recorded however this ends. */
  async #indexAll(): Promise<void> {
    const { signal } = this.#stop
    const stopReading = (): void => void this.#remote.closePools()
    signal.addEventListener('abort', stopReading)
    try {
      await this.#indexObjects()
    } finally {
      signal.removeEventListener('abort', stopReading)
      await this.#remote.closePools()
      await this.#writer.flush()
    }
  }

  async #indexObjects(): Promise<void> {
    const objects = new ObjectIndexer({
      scope: this.#options.scope,
      remote: this.#remote,
      catalog: this.#mapping.catalog,
      writer: this.#writer,
      etags: this.#etags,
      budget: this.#budget,
      tally: this.#tally,
      stop: this.#stop,
    })
    try {
      await this.#indexListed(objects)
      await objects.allSettled()
      await this.#proveTrusted(objects)
    } catch (error) {
      this.#stop.abort(error)
    }
    await objects.allSettled()
    this.#stop.signal.throwIfAborted()
  }

  async #indexListed(objects: ObjectIndexer): Promise<void> {
    const { scope, allowDrop, listConcurrency } = this.#options
    const { signal } = this.#stop
    const trust = this.#etags.begin({
      read: (task) => objects.read(task),
      trust: (task) => objects.trust(task),
    })
    const allDecided = async (): Promise<void> => {
      await trust?.finish()
      await objects.allSettled()
    }
    const pages = walk(this.#remote.store, this.#mapping.catalog, scope, {
      signal,
      allowDrop,
      listConcurrency,
    })
    for await (const page of pages) {
      this.#tally.listed(page)
      this.#heap.look()
      for (const task of page.tasks) {
        if (!this.#budget.takeObject()) await this.#takeReturned(allDecided)
        const begun = trust === undefined ? objects.read(task) : trust.add(task)
        if (begun !== undefined) await begun
      }
    }
    await trust?.finish()
  }

  /** Reads what was trusted: all of it where an ETag has proved false, else what the run is about. */
  async #proveTrusted(objects: ObjectIndexer): Promise<void> {
    if (this.#etags.mayTrust) return
    await this.#writer.flush()
    const scope = this.#etags.isDisproved ? makeScope({}) : this.#options.scope
    for await (const task of trustedObjects(this.#mapping.catalog, scope)) {
      this.#tally.counts.waiting += 1
      if (!this.#budget.takeObject()) await this.#takeReturned(() => objects.allSettled())
      await objects.read(task)
    }
  }

  /** Throws LimitReached unless what was begun gives objects back by proving unreadable. */
  async #takeReturned(allDecided: () => Promise<void>): Promise<void> {
    await allDecided()
    if (!this.#budget.takeObject()) throw new LimitReached('max-objects')
  }

  async #dropVanished(): Promise<void> {
    const { counts, unlisted } = this.#tally
    const { allowDrop, scope } = this.#options
    const options = { allowDrop, scope, unlisted, added: counts.added }
    counts.dropped = await dropVanished(this.#mapping.catalog, this.#writer, options)
  }
}
