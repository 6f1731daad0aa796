/**
 * MD5's compression (RFC 1321, section 3.4) of eight streams at once, on two groups of four lanes.
 * One stream is a chain of dependent steps that leaves most of a core idle; the groups' chains are
 * independent of each other, so their steps, taken in turns, fill it.
 */
import { ff, gg, hh, ii, transpose } from './steps'

/** What md5x8 works on: eight pairs of addresses, of a stream's state and of its data. */
export const LANES = memory.data(64, 16)

/** The blocks under way, transposed: sixteen vectors a group, one word of four streams in each. */
const WORDS = memory.data(512, 16)

/** The states under way, transposed: four vectors a group. */
const STATES = memory.data(128, 16)

/** Takes `blocks` times 64 bytes of each of the eight streams of LANES into their states. */
export function md5x8(blocks: u32): void {
  loadStates(0)
  loadStates(1)
  let a0 = state(0, 0)
  let b0 = state(0, 1)
  let c0 = state(0, 2)
  let d0 = state(0, 3)
  let a1 = state(1, 0)
  let b1 = state(1, 1)
  let c1 = state(1, 2)
  let d1 = state(1, 3)
  for (let offset: usize = 0; offset < (blocks as usize) << 6; offset += 64) {
    loadWords(0, offset)
    loadWords(1, offset)

    a0 = ff(a0, b0, c0, d0, word(0, 0), 0, 7)
    a1 = ff(a1, b1, c1, d1, word(1, 0), 0, 7)
    d0 = ff(d0, a0, b0, c0, word(0, 1), 1, 12)
    d1 = ff(d1, a1, b1, c1, word(1, 1), 1, 12)
    c0 = ff(c0, d0, a0, b0, word(0, 2), 2, 17)
    c1 = ff(c1, d1, a1, b1, word(1, 2), 2, 17)
    b0 = ff(b0, c0, d0, a0, word(0, 3), 3, 22)
    b1 = ff(b1, c1, d1, a1, word(1, 3), 3, 22)
    a0 = ff(a0, b0, c0, d0, word(0, 4), 4, 7)
    a1 = ff(a1, b1, c1, d1, word(1, 4), 4, 7)
    d0 = ff(d0, a0, b0, c0, word(0, 5), 5, 12)
    d1 = ff(d1, a1, b1, c1, word(1, 5), 5, 12)
    c0 = ff(c0, d0, a0, b0, word(0, 6), 6, 17)
    c1 = ff(c1, d1, a1, b1, word(1, 6), 6, 17)
    b0 = ff(b0, c0, d0, a0, word(0, 7), 7, 22)
    b1 = ff(b1, c1, d1, a1, word(1, 7), 7, 22)
    a0 = ff(a0, b0, c0, d0, word(0, 8), 8, 7)
    a1 = ff(a1, b1, c1, d1, word(1, 8), 8, 7)
    d0 = ff(d0, a0, b0, c0, word(0, 9), 9, 12)
    d1 = ff(d1, a1, b1, c1, word(1, 9), 9, 12)
    c0 = ff(c0, d0, a0, b0, word(0, 10), 10, 17)
    c1 = ff(c1, d1, a1, b1, word(1, 10), 10, 17)
    b0 = ff(b0, c0, d0, a0, word(0, 11), 11, 22)
    b1 = ff(b1, c1, d1, a1, word(1, 11), 11, 22)
    a0 = ff(a0, b0, c0, d0, word(0, 12), 12, 7)
    a1 = ff(a1, b1, c1, d1, word(1, 12), 12, 7)
    d0 = ff(d0, a0, b0, c0, word(0, 13), 13, 12)
    d1 = ff(d1, a1, b1, c1, word(1, 13), 13, 12)
    c0 = ff(c0, d0, a0, b0, word(0, 14), 14, 17)
    c1 = ff(c1, d1, a1, b1, word(1, 14), 14, 17)
    b0 = ff(b0, c0, d0, a0, word(0, 15), 15, 22)
    b1 = ff(b1, c1, d1, a1, word(1, 15), 15, 22)

    a0 = gg(a0, b0, c0, d0, word(0, 1), 16, 5)
    a1 = gg(a1, b1, c1, d1, word(1, 1), 16, 5)
    d0 = gg(d0, a0, b0, c0, word(0, 6), 17, 9)
    d1 = gg(d1, a1, b1, c1, word(1, 6), 17, 9)
    c0 = gg(c0, d0, a0, b0, word(0, 11), 18, 14)
    c1 = gg(c1, d1, a1, b1, word(1, 11), 18, 14)
    b0 = gg(b0, c0, d0, a0, word(0, 0), 19, 20)
    b1 = gg(b1, c1, d1, a1, word(1, 0), 19, 20)
    a0 = gg(a0, b0, c0, d0, word(0, 5), 20, 5)
    a1 = gg(a1, b1, c1, d1, word(1, 5), 20, 5)
    d0 = gg(d0, a0, b0, c0, word(0, 10), 21, 9)
    d1 = gg(d1, a1, b1, c1, word(1, 10), 21, 9)
    c0 = gg(c0, d0, a0, b0, word(0, 15), 22, 14)
    c1 = gg(c1, d1, a1, b1, word(1, 15), 22, 14)
    b0 = gg(b0, c0, d0, a0, word(0, 4), 23, 20)
    b1 = gg(b1, c1, d1, a1, word(1, 4), 23, 20)
    a0 = gg(a0, b0, c0, d0, word(0, 9), 24, 5)
    a1 = gg(a1, b1, c1, d1, word(1, 9), 24, 5)
    d0 = gg(d0, a0, b0, c0, word(0, 14), 25, 9)
    d1 = gg(d1, a1, b1, c1, word(1, 14), 25, 9)
    c0 = gg(c0, d0, a0, b0, word(0, 3), 26, 14)
    c1 = gg(c1, d1, a1, b1, word(1, 3), 26, 14)
    b0 = gg(b0, c0, d0, a0, word(0, 8), 27, 20)
    b1 = gg(b1, c1, d1, a1, word(1, 8), 27, 20)
    a0 = gg(a0, b0, c0, d0, word(0, 13), 28, 5)
    a1 = gg(a1, b1, c1, d1, word(1, 13), 28, 5)
    d0 = gg(d0, a0, b0, c0, word(0, 2), 29, 9)
    d1 = gg(d1, a1, b1, c1, word(1, 2), 29, 9)
    c0 = gg(c0, d0, a0, b0, word(0, 7), 30, 14)
    c1 = gg(c1, d1, a1, b1, word(1, 7), 30, 14)
    b0 = gg(b0, c0, d0, a0, word(0, 12), 31, 20)
    b1 = gg(b1, c1, d1, a1, word(1, 12), 31, 20)

    a0 = hh(a0, b0, c0, d0, word(0, 5), 32, 4)
    a1 = hh(a1, b1, c1, d1, word(1, 5), 32, 4)
    d0 = hh(d0, a0, b0, c0, word(0, 8), 33, 11)
    d1 = hh(d1, a1, b1, c1, word(1, 8), 33, 11)
    c0 = hh(c0, d0, a0, b0, word(0, 11), 34, 16)
    c1 = hh(c1, d1, a1, b1, word(1, 11), 34, 16)
    b0 = hh(b0, c0, d0, a0, word(0, 14), 35, 23)
    b1 = hh(b1, c1, d1, a1, word(1, 14), 35, 23)
    a0 = hh(a0, b0, c0, d0, word(0, 1), 36, 4)
    a1 = hh(a1, b1, c1, d1, word(1, 1), 36, 4)
    d0 = hh(d0, a0, b0, c0, word(0, 4), 37, 11)
    d1 = hh(d1, a1, b1, c1, word(1, 4), 37, 11)
    c0 = hh(c0, d0, a0, b0, word(0, 7), 38, 16)
    c1 = hh(c1, d1, a1, b1, word(1, 7), 38, 16)
    b0 = hh(b0, c0, d0, a0, word(0, 10), 39, 23)
    b1 = hh(b1, c1, d1, a1, word(1, 10), 39, 23)
    a0 = hh(a0, b0, c0, d0, word(0, 13), 40, 4)
    a1 = hh(a1, b1, c1, d1, word(1, 13), 40, 4)
    d0 = hh(d0, a0, b0, c0, word(0, 0), 41, 11)
    d1 = hh(d1, a1, b1, c1, word(1, 0), 41, 11)
    c0 = hh(c0, d0, a0, b0, word(0, 3), 42, 16)
    c1 = hh(c1, d1, a1, b1, word(1, 3), 42, 16)
    b0 = hh(b0, c0, d0, a0, word(0, 6), 43, 23)
    b1 = hh(b1, c1, d1, a1, word(1, 6), 43, 23)
    a0 = hh(a0, b0, c0, d0, word(0, 9), 44, 4)
    a1 = hh(a1, b1, c1, d1, word(1, 9), 44, 4)
    d0 = hh(d0, a0, b0, c0, word(0, 12), 45, 11)
    d1 = hh(d1, a1, b1, c1, word(1, 12), 45, 11)
    c0 = hh(c0, d0, a0, b0, word(0, 15), 46, 16)
    c1 = hh(c1, d1, a1, b1, word(1, 15), 46, 16)
    b0 = hh(b0, c0, d0, a0, word(0, 2), 47, 23)
    b1 = hh(b1, c1, d1, a1, word(1, 2), 47, 23)

    a0 = ii(a0, b0, c0, d0, word(0, 0), 48, 6)
    a1 = ii(a1, b1, c1, d1, word(1, 0), 48, 6)
    d0 = ii(d0, a0, b0, c0, word(0, 7), 49, 10)
    d1 = ii(d1, a1, b1, c1, word(1, 7), 49, 10)
    c0 = ii(c0, d0, a0, b0, word(0, 14), 50, 15)
    c1 = ii(c1, d1, a1, b1, word(1, 14), 50, 15)
    b0 = ii(b0, c0, d0, a0, word(0, 5), 51, 21)
    b1 = ii(b1, c1, d1, a1, word(1, 5), 51, 21)
    a0 = ii(a0, b0, c0, d0, word(0, 12), 52, 6)
    a1 = ii(a1, b1, c1, d1, word(1, 12), 52, 6)
    d0 = ii(d0, a0, b0, c0, word(0, 3), 53, 10)
    d1 = ii(d1, a1, b1, c1, word(1, 3), 53, 10)
    c0 = ii(c0, d0, a0, b0, word(0, 10), 54, 15)
    c1 = ii(c1, d1, a1, b1, word(1, 10), 54, 15)
    b0 = ii(b0, c0, d0, a0, word(0, 1), 55, 21)
    b1 = ii(b1, c1, d1, a1, word(1, 1), 55, 21)
    a0 = ii(a0, b0, c0, d0, word(0, 8), 56, 6)
    a1 = ii(a1, b1, c1, d1, word(1, 8), 56, 6)
    d0 = ii(d0, a0, b0, c0, word(0, 15), 57, 10)
    d1 = ii(d1, a1, b1, c1, word(1, 15), 57, 10)
    c0 = ii(c0, d0, a0, b0, word(0, 6), 58, 15)
    c1 = ii(c1, d1, a1, b1, word(1, 6), 58, 15)
    b0 = ii(b0, c0, d0, a0, word(0, 13), 59, 21)
    b1 = ii(b1, c1, d1, a1, word(1, 13), 59, 21)
    a0 = ii(a0, b0, c0, d0, word(0, 4), 60, 6)
    a1 = ii(a1, b1, c1, d1, word(1, 4), 60, 6)
    d0 = ii(d0, a0, b0, c0, word(0, 11), 61, 10)
    d1 = ii(d1, a1, b1, c1, word(1, 11), 61, 10)
    c0 = ii(c0, d0, a0, b0, word(0, 2), 62, 15)
    c1 = ii(c1, d1, a1, b1, word(1, 2), 62, 15)
    b0 = ii(b0, c0, d0, a0, word(0, 9), 63, 21)
    b1 = ii(b1, c1, d1, a1, word(1, 9), 63, 21)

    a0 = keepSum(0, 0, a0)
    b0 = keepSum(0, 1, b0)
    c0 = keepSum(0, 2, c0)
    d0 = keepSum(0, 3, d0)
    a1 = keepSum(1, 0, a1)
    b1 = keepSum(1, 1, b1)
    c1 = keepSum(1, 2, c1)
    d1 = keepSum(1, 3, d1)
  }
  storeStates(0)
  storeStates(1)
}

function word(group: i32, index: i32): v128 {
  return v128.load(WORDS + (group << 8) + (index << 4))
}

function state(group: i32, index: i32): v128 {
  return v128.load(STATES + (group << 6) + (index << 4))
}

/** Adds what a block made of a state's word to what it was before; returns and keeps the sum. */
function keepSum(group: i32, index: i32, made: v128): v128 {
  const sum = i32x4.add(state(group, index), made)
  v128.store(STATES + (group << 6) + (index << 4), sum)
  return sum
}

function stateOf(lane: i32): usize {
  return load<usize>(LANES + (lane << 3))
}

function dataOf(lane: i32): usize {
  return load<usize>(LANES + (lane << 3), 4)
}

function loadStates(group: i32): void {
  const lane = group << 2
  const to = STATES + (group << 6)
  transpose(to, stateOf(lane), stateOf(lane + 1), stateOf(lane + 2), stateOf(lane + 3))
}

function storeStates(group: i32): void {
  const lane = group << 2
  const from = STATES + (group << 6)
  transpose(from, from, from + 16, from + 32, from + 48)
  for (let i = 0; i < 4; i++) v128.store(stateOf(lane + i), v128.load(from + (i << 4)))
}

function loadWords(group: i32, offset: usize): void {
  const lane = group << 2
  const to = WORDS + (group << 8)
  const data0 = dataOf(lane) + offset
  const data1 = dataOf(lane + 1) + offset
  const data2 = dataOf(lane + 2) + offset
  const data3 = dataOf(lane + 3) + offset
  transpose(to, data0, data1, data2, data3)
  transpose(to + 64, data0 + 16, data1 + 16, data2 + 16, data3 + 16)
  transpose(to + 128, data0 + 32, data1 + 32, data2 + 32, data3 + 32)
  transpose(to + 192, data0 + 48, data1 + 48, data2 + 48, data3 + 48)
}
