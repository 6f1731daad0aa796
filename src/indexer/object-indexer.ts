/** Indexes the objects of one run, many at once: reads or trusts each, and records what it is. */
import { messageOf } from '../errors.ts'
import type { Catalog } from '../mapping/catalog.ts'
import type { CatalogRecord } from '../mapping/record.ts'
import { showKey } from '../remote/key.ts'
import { RemoteError } from '../remote/remote.ts'
import { Slots } from '../slots.ts'
import type { BatchWriter } from './batch-writer.ts'
import type { RunBudget } from './budget.ts'
import type { EtagPolicy } from './etag-policy.ts'
import { ObjectReader, type ReadObject } from './object-reader.ts'
import type { RunRemote } from './run-remote.ts'
import type { RunTally } from './run-tally.ts'
import { covers, type Scope } from './scope.ts'
import type { Task } from './walk.ts'

/** Objects that are being read, or wait for a second look; the pool bounds their segments. */
const OPEN_OBJECTS = 2048

/** The parts of the run that deal with its objects. */
export interface ObjectIndexerOptions {
  scope: Scope
  remote: RunRemote
  catalog: Catalog
  writer: BatchWriter
  etags: EtagPolicy
  budget: RunBudget
  tally: RunTally
  /** Once aborted, nothing more is begun; what ends the run while an object is read aborts it. */
  stop: AbortController
}

/** Begins one object at a time; any number are then under way. */
export class ObjectIndexer {
  readonly #options: ObjectIndexerOptions
  readonly #reader: ObjectReader
  readonly #open = new Slots(OPEN_OBJECTS)

  constructor(options: ObjectIndexerOptions) {
    const { etags, remote, stop, tally } = options
    this.#options = options
    this.#reader = new ObjectReader({
      remote: remote.store,
      pool: remote.openPool(),
      distrustIfMatch: () => remote.distrustIfMatch(),
      etagsAreMd5: etags.areMd5s,
      signal: stop.signal,
      onBytes: (bytes) => tally.read(bytes),
    })
  }

  /**
   * Resolves once the reading of an object is under way. `settled` then never throws: it is
   * undefined where the object could not be read, which was reported then. Throws what the run was
   * stopped with.
   */
  async read(task: Task): Promise<{ settled: Promise<ReadObject | undefined> }> {
    this.#options.stop.signal.throwIfAborted()
    await this.#open.take()
    try {
      const { result } = await this.#reader.start(task.object)
      return { settled: this.#settle(task, result) }
    } catch (error) {
      this.#open.free()
      throw error
    }
  }

  /**
   * Records an object with its ETag for a hash. Returns what is to be waited for before the next one, if
   * anything. Throws what the run was stopped with.
   */
  trust(task: Task): Promise<void> | undefined {
    const { stop, tally } = this.#options
    stop.signal.throwIfAborted()
    const { etag, size, lastModified } = task.object
    const hashes = Buffer.from(etag, 'hex')
    const room = this.#record(task, { etag, size, lastModified, hashes, trusted: true })
    tally.counts.trusted += 1
    tally.indexed(task)
    tally.done()
    return room
  }

  /** Resolves once nothing is under way. */
  async allSettled(): Promise<void> {
    for (let i = 0; i < OPEN_OBJECTS; i++) await this.#open.take()
    for (let i = 0; i < OPEN_OBJECTS; i++) this.#open.free()
  }

  /** Never throws: what ends the run stops it. Gives the slot back. */
  async #settle(
    task: Task,
    result: Promise<ReadObject | undefined>,
  ): Promise<ReadObject | undefined> {
    const { budget, stop, tally } = this.#options
    let read: ReadObject | undefined
    try {
      read = await result
      if (read === undefined) await this.#noteGone(task)
      else await this.#recordRead(task, read)
    } catch (error) {
      // The run may be ended by an error of the listing, which is none of this object's.
      const isItsOwn = error instanceof RemoteError && error !== stop.signal.reason
      if (isItsOwn) this.#reportUnreadable(task, error)
      else stop.abort(error)
    }
    if (read === undefined) budget.returnObject()
    tally.done()
    this.#open.free()
    return read
  }

  async #recordRead(task: Task, read: ReadObject): Promise<void> {
    const { etags, tally } = this.#options
    const { etag, size, lastModified } = read.object
    const wasTrusted = task.before?.trusted === true && task.before.etag === etag
    if (etags.isFalse(read, wasTrusted)) {
      await etags.disprove(read)
      tally.counts.falseEtags += 1
    }
    await this.#record(task, { etag, size, lastModified, hashes: read.hashes })
    if (wasTrusted) tally.counts.proven += 1
    else tally.indexed(task)
  }

  #record({ object: { key }, before }: Task, after: CatalogRecord): Promise<void> | undefined {
    return this.#options.writer.add({ key, before: before ?? null, after })
  }

  /** Throws RemoteError where the store still lists what it says is gone: nobody knows then what is true. */
  async #noteGone({ object: { key }, before }: Task): Promise<void> {
    const { scope, catalog } = this.#options
    if (await this.#isListed(key)) {
      const message = `${showKey(key)}: the store lists it, and says that there is no such object`
      throw new RemoteError('unreachable', message)
    }
    // What was trusted is read whole, and a run drops only what it is about.
    if (before === undefined || !covers(scope, key)) return
    await catalog.unseen.add(key)
  }

  async #isListed(key: string): Promise<boolean> {
    const { remote, stop } = this.#options
    // A directory has no list of its own that could be wrong; one of S3 Express takes no key for a prefix.
    if ((await remote.store.ranges()) === 'none') return false
    for await (const { objects } of remote.store.list({ prefix: key, signal: stop.signal })) {
      // Not just the first of them: the store may have another order.
      if (objects.length > 0) return objects.some((object) => object.key === key)
    }
    return false
  }

  #reportUnreadable({ object: { key } }: Task, error: RemoteError): void {
    const { tally } = this.#options
    // The listing does not tell of Intelligent-Tiering, nor is it asked of what was trusted.
    if (error.archived) tally.counts.archived += 1
    else tally.unreadable(key, messageOf(error))
  }
}
