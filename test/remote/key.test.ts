import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { compareKeys, keyFromBytes, keyToBytes } from '../../src/remote/key.ts'
import { runs } from '../fuzz.ts'

/** Bytes with many whole, torn and overlong UTF-8 sequences among them. */
const names = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text, 'utf8')),
      fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
      fc
        .constantFrom(
          'c0',
          'c3',
          'e282',
          'eda0bd',
          'edb280',
          'efbfbd',
          'efbbbf',
          'f09f98',
          'f48fbfbf',
        )
        .map((hex) => Buffer.from(hex, 'hex')),
      // Astral characters whose low surrogates look like an escaped byte.
      fc
        .integer({ min: 0x10080, max: 0x100ff })
        .map((point) => Buffer.from(String.fromCodePoint(point))),
    ),
    { maxLength: 6 },
  )
  .map((parts) => Buffer.concat(parts))

const RUNS = runs(2000)

describe('keys', () => {
  it('give back the very bytes they were made of', () => {
    fc.assert(
      fc.property(names, (bytes) => {
        assert.deepEqual(keyToBytes(keyFromBytes(bytes)), bytes)
      }),
      RUNS,
    )
  })

  it('are the text itself where the bytes are UTF-8', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.equal(keyFromBytes(Buffer.from(text, 'utf8')), text)
        assert.equal(keyToBytes(text).toString('utf8'), text)
      }),
      RUNS,
    )
  })

  it('hold a byte that is not UTF-8 as a lone surrogate', () => {
    assert.equal(keyFromBytes(Buffer.from('a\xffb', 'latin1')), 'a\udcffb')
    assert.equal(keyFromBytes(Buffer.from('\xc3\xa9\xc3', 'latin1')), 'é\udcc3')
    assert.deepEqual(keyToBytes('\u{1f600}\udc80'), Buffer.from('f09f988080', 'hex'))
  })

  it('are different for different bytes', () => {
    fc.assert(
      fc.property(names, names, (a, b) => {
        assert.equal(keyFromBytes(a) === keyFromBytes(b), a.equals(b))
      }),
      RUNS,
    )
  })

  it('are ordered as their bytes are', () => {
    const nearby = fc.oneof(
      fc.tuple(names, names),
      fc.tuple(names, names, names).map(([start, a, b]) => {
        return [Buffer.concat([start, a]), Buffer.concat([start, b])] as const
      }),
    )
    fc.assert(
      fc.property(nearby, ([a, b]) => {
        const order = Math.sign(compareKeys(keyFromBytes(a), keyFromBytes(b)))
        assert.equal(order, Buffer.compare(a, b))
      }),
      RUNS,
    )
  })

  it('sort astral characters after those of the basic plane', () => {
    const sorted = ['\u{1f600}', '\uff61', 'z', '\udcff', 'a/1', 'a-b', 'a0'].sort(compareKeys)
    assert.deepEqual(sorted, ['a-b', 'a/1', 'a0', 'z', '\uff61', '\u{1f600}', '\udcff'])
  })
})
