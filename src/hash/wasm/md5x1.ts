/** MD5's compression (RFC 1321, section 3.4) of one stream, for those without company. */
import { SINES } from './sines'

/** Takes `blocks` times 64 bytes at `data` into the four words of the state at `state`. */
export function md5x1(state: usize, data: usize, blocks: u32): void {
  let a = load<u32>(state, 0)
  let b = load<u32>(state, 4)
  let c = load<u32>(state, 8)
  let d = load<u32>(state, 12)
  for (const end = data + ((blocks as usize) << 6); data < end; data += 64) {
    a = ff(a, b, c, d, load<u32>(data, 0), 0, 7)
    d = ff(d, a, b, c, load<u32>(data, 4), 1, 12)
    c = ff(c, d, a, b, load<u32>(data, 8), 2, 17)
    b = ff(b, c, d, a, load<u32>(data, 12), 3, 22)
    a = ff(a, b, c, d, load<u32>(data, 16), 4, 7)
    d = ff(d, a, b, c, load<u32>(data, 20), 5, 12)
    c = ff(c, d, a, b, load<u32>(data, 24), 6, 17)
    b = ff(b, c, d, a, load<u32>(data, 28), 7, 22)
    a = ff(a, b, c, d, load<u32>(data, 32), 8, 7)
    d = ff(d, a, b, c, load<u32>(data, 36), 9, 12)
    c = ff(c, d, a, b, load<u32>(data, 40), 10, 17)
    b = ff(b, c, d, a, load<u32>(data, 44), 11, 22)
    a = ff(a, b, c, d, load<u32>(data, 48), 12, 7)
    d = ff(d, a, b, c, load<u32>(data, 52), 13, 12)
    c = ff(c, d, a, b, load<u32>(data, 56), 14, 17)
    b = ff(b, c, d, a, load<u32>(data, 60), 15, 22)

    a = gg(a, b, c, d, load<u32>(data, 4), 16, 5)
    d = gg(d, a, b, c, load<u32>(data, 24), 17, 9)
    c = gg(c, d, a, b, load<u32>(data, 44), 18, 14)
    b = gg(b, c, d, a, load<u32>(data, 0), 19, 20)
    a = gg(a, b, c, d, load<u32>(data, 20), 20, 5)
    d = gg(d, a, b, c, load<u32>(data, 40), 21, 9)
    c = gg(c, d, a, b, load<u32>(data, 60), 22, 14)
    b = gg(b, c, d, a, load<u32>(data, 16), 23, 20)
    a = gg(a, b, c, d, load<u32>(data, 36), 24, 5)
    d = gg(d, a, b, c, load<u32>(data, 56), 25, 9)
    c = gg(c, d, a, b, load<u32>(data, 12), 26, 14)
    b = gg(b, c, d, a, load<u32>(data, 32), 27, 20)
    a = gg(a, b, c, d, load<u32>(data, 52), 28, 5)
    d = gg(d, a, b, c, load<u32>(data, 8), 29, 9)
    c = gg(c, d, a, b, load<u32>(data, 28), 30, 14)
    b = gg(b, c, d, a, load<u32>(data, 48), 31, 20)

    a = hh(a, b, c, d, load<u32>(data, 20), 32, 4)
    d = hh(d, a, b, c, load<u32>(data, 32), 33, 11)
    c = hh(c, d, a, b, load<u32>(data, 44), 34, 16)
    b = hh(b, c, d, a, load<u32>(data, 56), 35, 23)
    a = hh(a, b, c, d, load<u32>(data, 4), 36, 4)
    d = hh(d, a, b, c, load<u32>(data, 16), 37, 11)
    c = hh(c, d, a, b, load<u32>(data, 28), 38, 16)
    b = hh(b, c, d, a, load<u32>(data, 40), 39, 23)
    a = hh(a, b, c, d, load<u32>(data, 52), 40, 4)
    d = hh(d, a, b, c, load<u32>(data, 0), 41, 11)
    c = hh(c, d, a, b, load<u32>(data, 12), 42, 16)
    b = hh(b, c, d, a, load<u32>(data, 24), 43, 23)
    a = hh(a, b, c, d, load<u32>(data, 36), 44, 4)
    d = hh(d, a, b, c, load<u32>(data, 48), 45, 11)
    c = hh(c, d, a, b, load<u32>(data, 60), 46, 16)
    b = hh(b, c, d, a, load<u32>(data, 8), 47, 23)

    a = ii(a, b, c, d, load<u32>(data, 0), 48, 6)
    d = ii(d, a, b, c, load<u32>(data, 28), 49, 10)
    c = ii(c, d, a, b, load<u32>(data, 56), 50, 15)
    b = ii(b, c, d, a, load<u32>(data, 20), 51, 21)
    a = ii(a, b, c, d, load<u32>(data, 48), 52, 6)
    d = ii(d, a, b, c, load<u32>(data, 12), 53, 10)
    c = ii(c, d, a, b, load<u32>(data, 40), 54, 15)
    b = ii(b, c, d, a, load<u32>(data, 4), 55, 21)
    a = ii(a, b, c, d, load<u32>(data, 32), 56, 6)
    d = ii(d, a, b, c, load<u32>(data, 60), 57, 10)
    c = ii(c, d, a, b, load<u32>(data, 24), 58, 15)
    b = ii(b, c, d, a, load<u32>(data, 52), 59, 21)
    a = ii(a, b, c, d, load<u32>(data, 16), 60, 6)
    d = ii(d, a, b, c, load<u32>(data, 44), 61, 10)
    c = ii(c, d, a, b, load<u32>(data, 8), 62, 15)
    b = ii(b, c, d, a, load<u32>(data, 36), 63, 21)

    a += load<u32>(state, 0)
    b += load<u32>(state, 4)
    c += load<u32>(state, 8)
    d += load<u32>(state, 12)
    store<u32>(state, a, 0)
    store<u32>(state, b, 4)
    store<u32>(state, c, 8)
    store<u32>(state, d, 12)
  }
}

function ff(a: u32, b: u32, c: u32, d: u32, word: u32, step: i32, shift: i32): u32 {
  return b + rotl<u32>(a + word + sine(step) + (d ^ (b & (c ^ d))), shift)
}

/** The two halves have no bit in common: as a sum, only one of them waits for b. */
function gg(a: u32, b: u32, c: u32, d: u32, word: u32, step: i32, shift: i32): u32 {
  return b + rotl<u32>(a + word + sine(step) + (c & ~d) + (b & d), shift)
}

function hh(a: u32, b: u32, c: u32, d: u32, word: u32, step: i32, shift: i32): u32 {
  return b + rotl<u32>(a + word + sine(step) + (b ^ (c ^ d)), shift)
}

function ii(a: u32, b: u32, c: u32, d: u32, word: u32, step: i32, shift: i32): u32 {
  return b + rotl<u32>(a + word + sine(step) + (c ^ (b | ~d)), shift)
}

function sine(step: i32): u32 {
  return load<u32>(SINES + (step << 2))
}
