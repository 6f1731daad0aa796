/**
 * MD5's compression (RFC 1321, section 3.4) of four streams at once, on one group of lanes: where there
 * are not more, it takes less time than eight lanes of which half are idle.
 */
import { LANES } from './md5x8'
import { ff, gg, hh, ii, transpose } from './steps'

/** The blocks under way, transposed: one word of four streams in each vector. */
const WORDS = memory.data(256, 16)

/** The states under way, transposed. */
const STATES = memory.data(64, 16)

/** Takes `blocks` times 64 bytes of each of the first four streams of LANES into their states. */
export function md5x4(blocks: u32): void {
  loadStates()
  let a = state(0)
  let b = state(1)
  let c = state(2)
  let d = state(3)
  for (let offset: usize = 0; offset < (blocks as usize) << 6; offset += 64) {
    loadWords(offset)

    a = ff(a, b, c, d, word(0), 0, 7)
    d = ff(d, a, b, c, word(1), 1, 12)
    c = ff(c, d, a, b, word(2), 2, 17)
    b = ff(b, c, d, a, word(3), 3, 22)
    a = ff(a, b, c, d, word(4), 4, 7)
    d = ff(d, a, b, c, word(5), 5, 12)
    c = ff(c, d, a, b, word(6), 6, 17)
    b = ff(b, c, d, a, word(7), 7, 22)
    a = ff(a, b, c, d, word(8), 8, 7)
    d = ff(d, a, b, c, word(9), 9, 12)
    c = ff(c, d, a, b, word(10), 10, 17)
    b = ff(b, c, d, a, word(11), 11, 22)
    a = ff(a, b, c, d, word(12), 12, 7)
    d = ff(d, a, b, c, word(13), 13, 12)
    c = ff(c, d, a, b, word(14), 14, 17)
    b = ff(b, c, d, a, word(15), 15, 22)

    a = gg(a, b, c, d, word(1), 16, 5)
    d = gg(d, a, b, c, word(6), 17, 9)
    c = gg(c, d, a, b, word(11), 18, 14)
    b = gg(b, c, d, a, word(0), 19, 20)
    a = gg(a, b, c, d, word(5), 20, 5)
    d = gg(d, a, b, c, word(10), 21, 9)
    c = gg(c, d, a, b, word(15), 22, 14)
    b = gg(b, c, d, a, word(4), 23, 20)
    a = gg(a, b, c, d, word(9), 24, 5)
    d = gg(d, a, b, c, word(14), 25, 9)
    c = gg(c, d, a, b, word(3), 26, 14)
    b = gg(b, c, d, a, word(8), 27, 20)
    a = gg(a, b, c, d, word(13), 28, 5)
    d = gg(d, a, b, c, word(2), 29, 9)
    c = gg(c, d, a, b, word(7), 30, 14)
    b = gg(b, c, d, a, word(12), 31, 20)

    a = hh(a, b, c, d, word(5), 32, 4)
    d = hh(d, a, b, c, word(8), 33, 11)
    c = hh(c, d, a, b, word(11), 34, 16)
    b = hh(b, c, d, a, word(14), 35, 23)
    a = hh(a, b, c, d, word(1), 36, 4)
    d = hh(d, a, b, c, word(4), 37, 11)
    c = hh(c, d, a, b, word(7), 38, 16)
    b = hh(b, c, d, a, word(10), 39, 23)
    a = hh(a, b, c, d, word(13), 40, 4)
    d = hh(d, a, b, c, word(0), 41, 11)
    c = hh(c, d, a, b, word(3), 42, 16)
    b = hh(b, c, d, a, word(6), 43, 23)
    a = hh(a, b, c, d, word(9), 44, 4)
    d = hh(d, a, b, c, word(12), 45, 11)
    c = hh(c, d, a, b, word(15), 46, 16)
    b = hh(b, c, d, a, word(2), 47, 23)

    a = ii(a, b, c, d, word(0), 48, 6)
    d = ii(d, a, b, c, word(7), 49, 10)
    c = ii(c, d, a, b, word(14), 50, 15)
    b = ii(b, c, d, a, word(5), 51, 21)
    a = ii(a, b, c, d, word(12), 52, 6)
    d = ii(d, a, b, c, word(3), 53, 10)
    c = ii(c, d, a, b, word(10), 54, 15)
    b = ii(b, c, d, a, word(1), 55, 21)
    a = ii(a, b, c, d, word(8), 56, 6)
    d = ii(d, a, b, c, word(15), 57, 10)
    c = ii(c, d, a, b, word(6), 58, 15)
    b = ii(b, c, d, a, word(13), 59, 21)
    a = ii(a, b, c, d, word(4), 60, 6)
    d = ii(d, a, b, c, word(11), 61, 10)
    c = ii(c, d, a, b, word(2), 62, 15)
    b = ii(b, c, d, a, word(9), 63, 21)

    a = keepSum(0, a)
    b = keepSum(1, b)
    c = keepSum(2, c)
    d = keepSum(3, d)
  }
  storeStates()
}

function word(index: i32): v128 {
  return v128.load(WORDS + (index << 4))
}

function state(index: i32): v128 {
  return v128.load(STATES + (index << 4))
}

function keepSum(index: i32, made: v128): v128 {
  const sum = i32x4.add(state(index), made)
  v128.store(STATES + (index << 4), sum)
  return sum
}

function stateOf(lane: i32): usize {
  return load<usize>(LANES + (lane << 3))
}

function dataOf(lane: i32): usize {
  return load<usize>(LANES + (lane << 3), 4)
}

function loadStates(): void {
  transpose(STATES, stateOf(0), stateOf(1), stateOf(2), stateOf(3))
}

function storeStates(): void {
  transpose(STATES, STATES, STATES + 16, STATES + 32, STATES + 48)
  for (let i = 0; i < 4; i++) v128.store(stateOf(i), v128.load(STATES + (i << 4)))
}

function loadWords(offset: usize): void {
  const data0 = dataOf(0) + offset
  const data1 = dataOf(1) + offset
  const data2 = dataOf(2) + offset
  const data3 = dataOf(3) + offset
  transpose(WORDS, data0, data1, data2, data3)
  transpose(WORDS + 64, data0 + 16, data1 + 16, data2 + 16, data3 + 16)
  transpose(WORDS + 128, data0 + 32, data1 + 32, data2 + 32, data3 + 32)
  transpose(WORDS + 192, data0 + 48, data1 + 48, data2 + 48, data3 + 48)
}
