import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KeepgwError } from '../../src/errors.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import {
  type CatalogRecord,
  decodeRecord,
  encodeRecord,
  isDamaged,
  isRecordOf,
  isSealed,
  segmentCount,
  segmentHash,
  segmentPlace,
  segmentRange,
  withoutSegments,
} from '../../src/mapping/record.ts'
import { runs } from '../fuzz.ts'

const TIB = 2 ** 40
const records = fc
  .record({
    etag: fc.string({ unit: 'binary', maxLength: 40 }),
    size: fc.oneof(fc.nat({ max: 10 }), fc.nat({ max: 5 * MAX_BLOCK }), fc.constant(MAX_BLOCK)),
    lastModified: fc.integer({ min: -1, max: 2 ** 43 }),
    seed: fc.integer({ min: 1, max: 255 }),
    trusted: fc.boolean(),
  })
  .map(({ seed, trusted, ...rest }): CatalogRecord => {
    const hashes = Buffer.alloc(16 * segmentCount(rest.size), seed)
    return trusted ? { ...rest, hashes, trusted } : { ...rest, hashes }
  })

describe('a catalog record', () => {
  it('comes back as it was', () => {
    fc.assert(
      fc.property(records, (record) => {
        assert.deepEqual(decodeRecord(encodeRecord(record)), record)
      }),
    )
  })

  it('of a keepgw that knew no checksums is read, and is known to have none', () => {
    fc.assert(
      fc.property(records, (record) => {
        const bytes = encodeRecord(record)
        const old = Buffer.from(bytes.subarray(0, -4))
        old[0]! = record.trusted ? 0x81 : 1
        assert.deepEqual(decodeRecord(old), record)
        assert.equal(isRecordOf(old, record.etag, record.size), true)
        assert.equal(isSealed(old), false)
        assert.equal(isSealed(bytes), true)
      }),
    )
  })

  it('is refused where any bit of it is another', () => {
    fc.assert(
      fc.property(records, fc.nat(), fc.nat({ max: 7 }), (record, at, bit) => {
        const bytes = encodeRecord(record)
        bytes[at % bytes.length]! ^= 1 << bit
        assert.throws(() => decodeRecord(bytes), KeepgwError)
        assert.equal(isRecordOf(bytes, record.etag, record.size), false)
      }),
    )
  })

  it('is compared without being decoded, to the same end', () => {
    const same = fc.record({ etag: fc.boolean(), size: fc.boolean(), damaged: fc.boolean() })
    fc.assert(
      fc.property(records, same, (record, same) => {
        const stored = same.damaged && record.size > 0 ? withoutSegments(record, [0]) : record
        const etag = same.etag ? record.etag : `${record.etag}x`
        const size = same.size ? record.size : record.size + 1
        const expected = same.etag && same.size && !isDamaged(stored)
        assert.equal(isRecordOf(encodeRecord(stored), etag, size), expected)
      }),
    )
  })

  it('is not taken for any object where it cannot be decoded', () => {
    fc.assert(
      fc.property(
        records,
        fc.nat({ max: 60 }),
        fc.integer({ min: 3, max: 127 }),
        (record, cut, format) => {
          fc.pre(record.size > 0)
          const bytes = encodeRecord(record)
          const short = bytes.subarray(0, Math.max(0, bytes.length - 1 - cut))
          const unknown = Buffer.concat([Buffer.from([format]), bytes.subarray(1)])
          for (const bad of [short, unknown]) {
            assert.throws(() => decodeRecord(bad))
            assert.equal(isRecordOf(bad, record.etag, record.size), false)
          }
        },
      ),
    )
  })

  it('is one that could be written, or refused, whatever the bytes are', () => {
    const spoilt = fc
      .tuple(records, fc.nat(), fc.uint8Array({ maxLength: 9 }), fc.nat({ max: 9 }))
      .map(([record, at, more, cut]) => {
        const bytes = encodeRecord(record)
        const [from, to] = [at % bytes.length, (at % bytes.length) + cut]
        return Buffer.concat([bytes.subarray(0, from), more, bytes.subarray(to)])
      })
    const garbage = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from([1, ...bytes]))
    fc.assert(
      fc.property(fc.oneof(spoilt, garbage), (bytes) => {
        let record: CatalogRecord
        try {
          record = decodeRecord(bytes)
        } catch (error) {
          assert.ok(error instanceof KeepgwError)
          return
        }
        assert.ok(Number.isSafeInteger(record.size) && record.size >= 0, `size ${record.size}`)
        assert.ok(Number.isFinite(record.lastModified), `time ${record.lastModified}`)
        assert.equal(record.hashes.length, 16 * segmentCount(record.size))
        assert.deepEqual(decodeRecord(encodeRecord(record)), record)
      }),
      runs(1000),
    )
  })

  it('knows the segments of the largest object of S3', () => {
    const size = 5 * TIB
    const count = segmentCount(size)
    assert.equal(count, 81_920)
    const hashes = Buffer.alloc(16 * count)
    for (let i = 0; i < count; i++) hashes.writeUInt32BE(i + 1, 16 * i)
    const record = decodeRecord(encodeRecord({ etag: 'e', size, lastModified: 1, hashes }))
    assert.equal(segmentHash(record, count - 1), `00014000${'0'.repeat(24)}`)
    assert.equal(segmentHash(record, count), undefined)
    assert.equal(isDamaged(record), false)
    assert.deepEqual(segmentPlace('k', record, count - 1), {
      key: 'k',
      etag: 'e',
      offset: size - MAX_BLOCK,
      length: MAX_BLOCK,
    })
  })

  it('divides an object into segments that follow each other to its end', () => {
    fc.assert(
      fc.property(records, ({ size }) => {
        let end = 0
        for (let segment = 0; segment < segmentCount(size); segment++) {
          const { offset, length } = segmentRange(size, segment)
          assert.equal(offset, end)
          assert.ok(length > 0 && length <= MAX_BLOCK)
          end += length
        }
        assert.equal(end, size)
      }),
    )
  })

  it('can have holes, which make it damaged', () => {
    fc.assert(
      fc.property(records, fc.uniqueArray(fc.nat({ max: 4 })), (record, picks) => {
        const holes = picks.filter((segment) => segment < segmentCount(record.size))
        const holed = decodeRecord(encodeRecord(withoutSegments(record, holes)))
        for (let segment = 0; segment < segmentCount(record.size); segment++) {
          const expected = holes.includes(segment) ? undefined : segmentHash(record, segment)
          assert.equal(segmentHash(holed, segment), expected)
        }
        assert.equal(isDamaged(holed), holes.length > 0)
        assert.equal(isDamaged(record), false)
      }),
    )
  })

  it('is not damaged where half of a hash is zero', () => {
    const hashes = Buffer.concat([Buffer.alloc(8), Buffer.alloc(16, 1), Buffer.alloc(8)])
    assert.equal(isDamaged({ etag: '', size: MAX_BLOCK + 1, lastModified: 0, hashes }), false)
  })

  const whole = encodeRecord({ etag: 'e', size: 1, lastModified: 1, hashes: Buffer.alloc(16, 1) })
  const empty: CatalogRecord = { etag: 'e', size: 0, lastModified: 1, hashes: Buffer.alloc(0) }
  const sized = (size: number): Buffer => {
    const bytes = encodeRecord(empty)
    bytes.writeDoubleLE(size, 1)
    return bytes
  }
  const bad: [string, Buffer][] = [
    ['no bytes', Buffer.alloc(0)],
    ['another format', Buffer.concat([Buffer.from([3]), whole.subarray(1)])],
    ['another mark', Buffer.concat([Buffer.from([0x41]), whole.subarray(1)])],
    ['a part of one', whole.subarray(0, -1)],
    ['more than one', Buffer.concat([whole, whole])],
    ['a size below 0', sized(-5)],
    ['a size that is no number', sized(Number.NaN)],
    ['an ETag that is cut short', encodeRecord(empty).subarray(0, -1)],
  ]
  for (const [what, bytes] of bad) {
    it(`is refused as damaged: ${what}`, () => {
      assert.throws(
        () => decodeRecord(bytes),
        (error) => {
          assert.ok(error instanceof KeepgwError)
          assert.match(error.message, /catalog is damaged/)
          assert.ok(error.hint)
          return true
        },
      )
    })
  }
})
