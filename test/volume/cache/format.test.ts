import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { MAX_BLOCK } from '../../../src/keep/locator.ts'
import {
  fileLength,
  formatTail,
  MAX_TAIL,
  PIECE,
  parseTail,
} from '../../../src/volume/cache/format.ts'

const HASH = 'acbd18db4cc2f85cedef654fccc4a4d8'

/** A tail as it is written, for a block of a length. */
const tails = fc.integer({ min: 1, max: MAX_BLOCK }).chain((length) => {
  const count = Math.ceil(length / PIECE)
  return fc
    .uint32Array({ minLength: count, maxLength: count })
    .map((checksums) => ({ length, checksums: Uint32Array.from(checksums) }))
})

describe('the tail of a cached file', () => {
  it('says what was written, also behind the end of the data', () => {
    fc.assert(
      fc.property(tails, (tail) => {
        const text = formatTail(HASH, tail)
        assert.equal(tail.length + text.length, fileLength(tail.length))
        const data = Buffer.alloc(Math.min(tail.length, MAX_TAIL - text.length), 0xee)
        const end = Buffer.concat([data, text])
        assert.deepEqual(parseTail(HASH, end, fileLength(tail.length)), tail)
      }),
    )
  })

  it('is none where one bit is another, where the file is torn, or of another block', () => {
    fc.assert(
      fc.property(tails, fc.nat(), fc.nat({ max: 7 }), (tail, place, bit) => {
        const size = fileLength(tail.length)
        const text = formatTail(HASH, tail)
        assert.equal(parseTail(HASH.replace('a', 'b'), text, size), undefined)
        assert.equal(parseTail(HASH, text, size - 1), undefined)
        const short = text.subarray(0, place % text.length)
        assert.equal(parseTail(HASH, short, tail.length + short.length), undefined)
        text[place % text.length]! ^= 1 << bit
        assert.equal(parseTail(HASH, text, size), undefined)
      }),
    )
  })

  it('is none where there is no file', () => {
    assert.equal(parseTail(HASH, Buffer.alloc(0), 0), undefined)
  })
})
