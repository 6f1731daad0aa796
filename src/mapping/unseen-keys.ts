/** What a listing has not shown of the catalog: on disk, as that may be all its keys. */
import { setImmediate } from 'node:timers/promises'
import { keyFromBytes, keyToBytes } from '../remote/key.ts'
import { type Bytes, paged } from './catalog-entries.ts'

/** Notes that are written together. */
const NOTES_AT_ONCE = 4096

/** For one listing at a time, by the holder of the mapping's lock. What writes throws KeepgwError. */
export class UnseenKeys {
  readonly #table: Bytes
  readonly #transact: (work: () => void) => void
  /** Notes that are not in the table yet: true for an unseen key, false for one seen after all. */
  readonly #notes = new Map<string, boolean>()

  /** Of a table of the catalog; `transact` does in one transaction what it is given. */
  constructor(table: Bytes, transact: (work: () => void) => void) {
    this.#table = table
    this.#transact = transact
  }

  /** Forgets which keys the last listing did not show. */
  clear(): void {
    this.#notes.clear()
    this.#transact(() => this.#table.clearSync())
  }

  /** Notes that the listing has passed a key of the catalog by. */
  async add(key: string): Promise<void> {
    await this.#note(key, true)
  }

  /** Takes that back: the listing showed it out of order. */
  async delete(key: string): Promise<void> {
    await this.#note(key, false)
  }

  /** Yields the keys in order. Holds no snapshot: what is noted meanwhile may or may not be seen. */
  *keys(): Iterable<string> {
    this.#write()
    for (const { key } of paged(this.#table, Buffer.alloc(0), undefined)) yield keyFromBytes(key)
  }

  async #note(key: string, unseen: boolean): Promise<void> {
    this.#notes.set(key, unseen)
    if (this.#notes.size < NOTES_AT_ONCE) return
    this.#write()
    // A bucket's worth of notes must not keep signals and timers waiting.
    await setImmediate()
  }

  #write(): void {
    if (this.#notes.size === 0) return
    this.#transact(() => {
      for (const [key, unseen] of this.#notes) {
        if (unseen) this.#table.put(keyToBytes(key), Buffer.alloc(0))
        else this.#table.remove(keyToBytes(key))
      }
    })
    this.#notes.clear()
  }
}
