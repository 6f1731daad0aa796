/**
 * Places that the catalog does not know, in the order of their keys, on disk: the tree is in the order
 * of hashes, and has them all where the catalog was lost. A table of lmdb's that goes when it is closed.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, open, type RootDatabase } from 'lmdb'
import { refuseFullDisk } from '../mapping/catalog-disk.ts'
import { MAX_KEY } from '../mapping/catalog-entries.ts'
import { stateDir } from '../mapping/description.ts'
import type { Place } from '../mapping/mapping.ts'
import { formatPlace, parsePlace } from '../mapping/place-line.ts'
import { keyToBytes } from '../remote/key.ts'

/** Offset and hash, behind the key. */
const TAIL = 24
const AT_ONCE = 4096
const PAGE = 1000

/** A place, and the hash whose file names it. */
export interface StrayPlace {
  hash: string
  place: Place
}

/**
 * For the holder of the mapping's lock; it must be closed. What is added or removed is written many at a
 * time, by whichever call comes next, which throws KeepgwError for a full disk, and lmdb's own errors.
 */
export class StrayTable {
  readonly #dir: string
  readonly #root: RootDatabase
  readonly #places: Database<string, Buffer>
  readonly #toAdd: StrayPlace[] = []
  readonly #toRemove: StrayPlace[] = []
  #size = 0

  /** Opens an empty one in the mapping. */
  constructor(mappings: string) {
    this.#dir = strayTableDir(mappings)
    rmSync(this.#dir, { recursive: true, force: true })
    this.#root = open({ path: this.#dir, noSync: true, overlappingSync: false })
    this.#places = this.#root.openDB({ name: 'places', encoding: 'string', keyEncoding: 'binary' })
  }

  /** How many places were added. */
  get size(): number {
    return this.#size
  }

  /** A key that is too long for the table is left out: its line stays. */
  add(stray: StrayPlace): void {
    if (keyToBytes(stray.place.key).length + TAIL > MAX_KEY) return
    this.#size += 1
    this.#toAdd.push(stray)
    if (this.#toAdd.length >= AT_ONCE) this.#write()
  }

  /** Takes a place out, if it is there. `size` stays as it is. */
  remove(stray: StrayPlace): void {
    this.#toRemove.push(stray)
    if (this.#toRemove.length >= AT_ONCE) this.#write()
  }

  /** Returns the places of an object. */
  of(key: string): StrayPlace[] {
    this.#write()
    const bytes = keyToBytes(key)
    if (bytes.length + TAIL > MAX_KEY) return []
    const start = Buffer.concat([bytes, Buffer.alloc(TAIL)])
    const end = Buffer.concat([bytes, Buffer.alloc(TAIL, 0xff)])
    const strays: StrayPlace[] = []
    for (const entry of this.#places.getRange({ start, end })) {
      // Longer keys may lie in between.
      const stray = entry.key.length === start.length ? strayOf(entry) : undefined
      if (stray?.place.key === key) strays.push(stray)
    }
    return strays
  }

  /** Yields what is left, by their keys. Some may be removed meanwhile. */
  *left(): Iterable<StrayPlace> {
    this.#write()
    let start = Buffer.alloc(0)
    for (let isFirst = true; ; isFirst = false) {
      const page = [...this.#places.getRange({ start, exclusiveStart: !isFirst, limit: PAGE })]
      for (const entry of page) yield strayOf(entry)
      if (page.length < PAGE) return
      start = page.at(-1)!.key as Buffer<ArrayBuffer>
    }
  }

  /** Closes the table, and deletes it. */
  async close(): Promise<void> {
    await this.#root.close()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  #write(): void {
    if (this.#toAdd.length + this.#toRemove.length === 0) return
    refuseFullDisk(this.#dir)
    this.#root.transactionSync(() => {
      for (const stray of this.#toAdd) this.#places.put(entryKey(stray), formatPlace(stray.place))
      for (const stray of this.#toRemove) this.#places.remove(entryKey(stray))
    })
    this.#toAdd.length = 0
    this.#toRemove.length = 0
  }
}

/** Returns where the table lies while there is one. */
function strayTableDir(mappings: string): string {
  return join(stateDir(mappings), 'strays')
}

function entryKey({ hash, place }: StrayPlace): Buffer {
  const offset = Buffer.alloc(8)
  offset.writeBigUInt64BE(BigInt(place.offset))
  return Buffer.concat([keyToBytes(place.key), offset, Buffer.from(hash, 'hex')])
}

function strayOf({ key, value }: { key: Buffer; value: string }): StrayPlace {
  return { hash: key.toString('hex', key.length - 16), place: parsePlace(value)! }
}
