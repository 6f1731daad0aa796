/** Work that a list asks for, done in the background: the next list takes the place of this one. */

/** Does the items of the latest list, a few at a time. */
export class WorkList<T> {
  readonly #work: (item: T, signal: AbortSignal) => Promise<void>
  readonly #concurrency: number
  readonly #stop = new AbortController()
  readonly #running = new Set<Promise<void>>()
  /** Workers that will look at the list again; some of those running may have seen its end. */
  #active = 0
  #items: readonly T[] = []
  #next = 0

  /** The work must not throw: it logs what went wrong. */
  constructor(concurrency: number, work: (item: T, signal: AbortSignal) => Promise<void>) {
    this.#concurrency = concurrency
    this.#work = work
  }

  /** Items that are not begun yet. */
  get pending(): number {
    return this.#items.length - this.#next
  }

  /** Forgets what is left of the old list, and begins with the new one. */
  replace(items: readonly T[]): void {
    this.#items = items
    this.#next = 0
    while (this.#active < this.#concurrency && this.pending > 0) this.#start()
  }

  /** Forgets the list, aborts what is under way, and returns when that has ended. */
  async close(): Promise<void> {
    this.replace([])
    this.#stop.abort(new Error('the service ends'))
    await Promise.all(this.#running)
  }

  #start(): void {
    this.#active += 1
    const worker = this.#workOn().finally(() => this.#running.delete(worker))
    this.#running.add(worker)
  }

  async #workOn(): Promise<void> {
    while (this.pending > 0) {
      const item = this.#items[this.#next++]!
      await this.#work(item, this.#stop.signal)
    }
    this.#active -= 1
    // A finished list is not kept.
    if (this.pending === 0) this.#items = []
    this.#next = Math.min(this.#next, this.#items.length)
  }
}
