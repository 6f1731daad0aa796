/** How one run reaches its remote: the store itself, and the threads that read from it. */

import { writeDescription } from '../mapping/description.ts'
import { reach, type WritableMapping } from '../mapping/open-mapping.ts'
import { openRemote } from '../remote/open.ts'
import { addRequests, type RemoteStore, type RequestCounts } from '../remote/remote.ts'
import { shareBandwidth } from './bandwidth.ts'
import { HashPool, type HashPoolOptions } from './hash-pool.ts'
import type { IndexOptions } from './index-options.ts'
import type { IndexObserver } from './run-tally.ts'

/** A run of hours is not to end, nor to leave objects out, because a store is started anew. */
const PATIENCE = { attempts: 5, outage: 60_000 }

/** One run's. Opens connections and threads only for what is asked of it. */
export class RunRemote {
  readonly store: RemoteStore
  readonly #mapping: WritableMapping
  readonly #observer: IndexObserver
  readonly #poolOptions: Omit<HashPoolOptions, 'ifMatch'>
  /** The last one is in use; it may have replaced others while they were still reading. */
  readonly #pools: HashPool[] = []

  constructor(options: IndexOptions, mapping: WritableMapping) {
    this.#mapping = mapping
    this.#observer = options.observer
    const { remote, ifMatch } = mapping.description
    this.store = openRemote(reach(remote, options.remote), { ifMatch, ...PATIENCE })
    const { concurrency, workers, bandwidthLimit } = options
    this.#poolOptions = {
      connections: concurrency,
      threads: workers,
      ...PATIENCE,
      // It has listed what is read.
      hasAnswered: true,
      access: (query) => this.store.access(query),
      // All pools share it.
      ...(bandwidthLimit === undefined ? {} : { bandwidth: shareBandwidth(bandwidthLimit) }),
    }
  }

  /** Returns a pool that reads with If-Match, as far as the store is known to be right about it. */
  openPool(): HashPool {
    const { ifMatch } = this.#mapping.description
    const pool = new HashPool(this.store.spec, { ...this.#poolOptions, ifMatch })
    this.#pools.push(pool)
    return pool
  }

  /**
   * Writes down that the store answers 412 to its own ETags, and returns a pool that does without
   * If-Match. Throws KeepgwError where it cannot be written down.
   */
  async distrustIfMatch(): Promise<HashPool> {
    const { dir, description } = this.#mapping
    description.ifMatch = false
    await writeDescription(dir, description)
    this.#observer.notice(
      'this store answers 412 to its own ETags: from now on answers are compared instead',
    )
    return this.openPool()
  }

  /** Ends all reading; segments under way fail. May be called more than once. */
  async closePools(): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.close()))
  }

  /** Frees the store's connections. Returns all requests that were made. */
  async close(): Promise<RequestCounts> {
    await this.store.close()
    return this.#pools.map((pool) => pool.requests()).reduce(addRequests, this.store.requests())
  }
}
