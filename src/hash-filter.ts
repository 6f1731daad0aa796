/** A Bloom filter of MD5s: tells which hashes have come before, in a fraction of the memory. Pure. */

const BYTES_A_HASH = 2
/** A bit's number has 32 bits. */
const MAX_BYTES = 2 ** 29
const DIGITS = 8

/** All hashes that it was given, in two bytes each: none of them can be read back, or taken out again. */
export class HashFilter {
  readonly #bits: Uint8Array

  /** `count`: hashes that are to come. Where more come, it takes more of them for repeated. */
  constructor(count: number) {
    this.#bits = new Uint8Array(Math.min(MAX_BYTES, Math.max(8, BYTES_A_HASH * count)))
  }

  /**
   * Takes a hash in, 32 hex digits. Returns true where it was there before; true also for about one
   * in 400 that were not.
   */
  add(hash: string): boolean {
    const bits = this.#bits
    let isThere = true
    for (let at = 0; at < hash.length; at += DIGITS) {
      // A hash's digits are random enough to be taken as they are.
      const bit = numberAt(hash, at) % (bits.length * 8)
      const byte = bit >>> 3
      const mask = 1 << (bit & 7)
      if ((bits[byte]! & mask) !== 0) continue
      isThere = false
      bits[byte]! |= mask
    }
    return isThere
  }
}

/** Returns what eight hex digits stand for. To parse a slice of the text takes longer, and leaves rubbish. */
function numberAt(hash: string, start: number): number {
  let number = 0
  for (let at = start; at < start + DIGITS; at++) {
    const code = hash.charCodeAt(at)
    // Letters have bit 6 set, and begin at 1 in their low bits.
    number = (number << 4) | ((code & 0xf) + (code >> 6) * 9)
  }
  return number >>> 0
}
