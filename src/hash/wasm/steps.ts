/** The steps of MD5 (RFC 1321, section 3.4) on vectors: each word of one is another stream's. */
import { SINES } from './sines'

/** Where each step leaves its result: see turn. */
const FRESH = memory.data(16, 16)

/**
 * Round 1: F(b, c, d) = (b & c) | (~b & d), as d ^ (b & (c ^ d)). Returns the word that takes the place of
 * `a`; `shift` is in bits.
 */
export function ff(a: v128, b: v128, c: v128, d: v128, word: v128, step: i32, shift: i32): v128 {
  return turn(b, i32x4.add(addend(a, word, step), v128.xor(d, v128.and(b, v128.xor(c, d)))), shift)
}

/**
 * Round 2: G(b, c, d) = (b & d) | (c & ~d). The two halves have no bit in common: as a sum, only one of
 * them waits for b.
 */
export function gg(a: v128, b: v128, c: v128, d: v128, word: v128, step: i32, shift: i32): v128 {
  const early = i32x4.add(addend(a, word, step), v128.andnot(c, d))
  return turn(b, i32x4.add(early, v128.and(b, d)), shift)
}

/** Round 3: H(b, c, d) = b ^ c ^ d, of which c ^ d need not wait for b. */
export function hh(a: v128, b: v128, c: v128, d: v128, word: v128, step: i32, shift: i32): v128 {
  return turn(b, i32x4.add(addend(a, word, step), v128.xor(b, v128.xor(c, d))), shift)
}

/** Round 4: I(b, c, d) = c ^ (b | ~d). */
export function ii(a: v128, b: v128, c: v128, d: v128, word: v128, step: i32, shift: i32): v128 {
  return turn(b, i32x4.add(addend(a, word, step), v128.xor(c, v128.or(b, v128.not(d)))), shift)
}

function addend(a: v128, word: v128, step: i32): v128 {
  return i32x4.add(a, i32x4.add(word, v128.load32_splat(SINES + (step << 2))))
}

/**
 * The end of a step. Nobody reads what it stores: a store cannot be moved across another one, and
 * so keeps compilers from running the steps of one group after those of the other.
 */
function turn(b: v128, sum: v128, shift: i32): v128 {
  const rotated = v128.or(i32x4.shl(sum, shift), i32x4.shr_u(sum, 32 - shift))
  const fresh = i32x4.add(b, rotated)
  v128.store(FRESH, fresh)
  return fresh
}

/** Writes the columns of four rows of four words, one after the other. */
export function transpose(to: usize, row0: usize, row1: usize, row2: usize, row3: usize): void {
  const r0 = v128.load(row0)
  const r1 = v128.load(row1)
  const r2 = v128.load(row2)
  const r3 = v128.load(row3)
  const low01 = v128.shuffle<u32>(r0, r1, 0, 4, 1, 5)
  const low23 = v128.shuffle<u32>(r2, r3, 0, 4, 1, 5)
  const high01 = v128.shuffle<u32>(r0, r1, 2, 6, 3, 7)
  const high23 = v128.shuffle<u32>(r2, r3, 2, 6, 3, 7)
  v128.store(to, v128.shuffle<u64>(low01, low23, 0, 2))
  v128.store(to, v128.shuffle<u64>(low01, low23, 1, 3), 16)
  v128.store(to, v128.shuffle<u64>(high01, high23, 0, 2), 32)
  v128.store(to, v128.shuffle<u64>(high01, high23, 1, 3), 48)
}
