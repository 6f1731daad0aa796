/** Remembers which places failed lately, so that the next request tries them last. */

/** How much is remembered, and for how long. */
export interface FailureMemoryOptions {
  /** Names kept at most: the oldest are forgotten first. */
  capacity?: number
  /** Milliseconds after which a failure is forgotten. */
  expiry?: number
  /** Milliseconds, for tests. */
  now?: () => number
}

/** A bounded set of names that forgets. One is shared by all requests of a server. */
export class FailureMemory {
  readonly #capacity: number
  readonly #expiry: number
  readonly #now: () => number
  /** Name to the time of its last failure, the oldest first: Map keeps the order of insertion. */
  readonly #failed = new Map<string, number>()

  constructor({ capacity = 10_000, expiry = 300_000, now = Date.now }: FailureMemoryOptions = {}) {
    this.#capacity = capacity
    this.#expiry = expiry
    this.#now = now
  }

  /** Names remembered, at most the capacity. */
  get size(): number {
    return this.#failed.size
  }

  /** Notes that `name` failed just now. */
  add(name: string): void {
    this.#failed.delete(name)
    this.#failed.set(name, this.#now())
    for (const [oldest, time] of this.#failed) {
      if (this.#failed.size <= this.#capacity && !this.#isOver(time)) break
      this.#failed.delete(oldest)
    }
  }

  /** True if `name` failed lately. */
  has(name: string): boolean {
    const time = this.#failed.get(name)
    return time !== undefined && !this.#isOver(time)
  }

  /** Forgets the failures of `name`: it has proven good. */
  delete(name: string): void {
    this.#failed.delete(name)
  }

  #isOver(time: number): boolean {
    return this.#now() - time >= this.#expiry
  }
}
