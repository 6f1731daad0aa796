/**
 * A set of places, each known by 8 bytes of the MD5 of its text: small enough to hold what the catalog
 * says while the tree is read. That two of ten million places are taken for one has a chance of 1 in
 * 300,000, and would only hide a line that is missing. Open addressing, at most half full: the number of
 * slots, of 9 bytes each, is a power of two.
 */
import { hash } from 'node:crypto'

/** What take() says of a place: its first time, once more, or not in the set. */
export type Taken = 'first' | 'again' | undefined

/** A part of the tree may have so many times its share: hashes are not spread quite evenly. */
const MARGIN = 1.05

/** Places that fit, with the margin, into a set of 2 ** 23 slots (76 MB). */
export const PLACES_AT_ONCE = Math.floor(2 ** 22 / MARGIN)

/**
 * What it knows of a place is a part of its text's MD5: no place can be read back from it, or taken out.
 */
export class PlaceSet {
  #slots: Uint32Array
  #taken: Uint8Array
  #size = 0
  #left = 0

  /** For about so many places: 19 to 38 bytes each. It grows where there are more. */
  constructor(expected: number) {
    const capacity = 2 ** Math.ceil(Math.log2(Math.max(16, 2 * MARGIN * expected)))
    this.#slots = new Uint32Array(2 * capacity)
    this.#taken = new Uint8Array(capacity)
  }

  /** How many places nobody has taken. */
  get left(): number {
    return this.#left
  }

  /** Adds a place; one that is there already stays as it is, taken or not. */
  add(text: string): void {
    if (2 * (this.#size + 1) > this.#taken.length) this.#grow()
    const [high, low] = fingerprint(text)
    if (this.#put(high, low, 0)) this.#left += 1
  }

  /** Notes that the place was met. */
  take(text: string): Taken {
    const slot = this.#find(...fingerprint(text))
    if (slot === undefined) return undefined
    if (this.#taken[slot]) return 'again'
    this.#taken[slot] = 1
    this.#left -= 1
    return 'first'
  }

  /** True for a place of the set that nobody has taken. */
  isLeft(text: string): boolean {
    const slot = this.#find(...fingerprint(text))
    return slot !== undefined && !this.#taken[slot]
  }

  #find(high: number, low: number): number | undefined {
    const mask = this.#taken.length - 1
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const found = this.#slots[2 * slot]!
      if (found === 0) return undefined
      if (found === high && this.#slots[2 * slot + 1] === low) return slot
    }
  }

  /** False where it was there already. */
  #put(high: number, low: number, taken: number): boolean {
    const mask = this.#taken.length - 1
    let slot = low & mask
    for (; this.#slots[2 * slot] !== 0; slot = (slot + 1) & mask) {
      if (this.#slots[2 * slot] === high && this.#slots[2 * slot + 1] === low) return false
    }
    this.#slots[2 * slot] = high
    this.#slots[2 * slot + 1] = low
    this.#taken[slot] = taken
    this.#size += 1
    return true
  }

  #grow(): void {
    const [slots, taken] = [this.#slots, this.#taken]
    this.#slots = new Uint32Array(2 * slots.length)
    this.#taken = new Uint8Array(2 * taken.length)
    this.#size = 0
    for (const [slot, was] of taken.entries()) {
      if (slots[2 * slot] !== 0) this.#put(slots[2 * slot]!, slots[2 * slot + 1]!, was)
    }
  }
}

/** The first number is never 0, which stands for an empty slot. */
function fingerprint(text: string): [high: number, low: number] {
  const digest = hash('md5', text, 'buffer')
  return [digest.readUInt32LE(0) || 1, digest.readUInt32LE(4)]
}
