import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { EtagTrust, hasFalseEtag, hasMd5Etag } from '../../src/indexer/etag-trust.ts'
import type { ReadObject } from '../../src/indexer/object-reader.ts'
import type { Task } from '../../src/indexer/walk.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import { segmentCount } from '../../src/mapping/record.ts'
import { runs } from '../fuzz.ts'

/** What an object of a test's bucket is like. */
interface Thing {
  size: number
  /** Whether its ETag is the MD5 of its bytes. */
  etag: 'true' | 'false' | 'multipart'
  readable: boolean
}

const GOOD: Thing = { size: 9, etag: 'true', readable: true }

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}

/** A bucket whose objects are told apart by their numbers, and what is done to each. */
class Bucket {
  readonly read: number[] = []
  readonly trusted: number[] = []
  readonly #things: Thing[]
  readonly trust: EtagTrust

  constructor(things: Thing[], sample: number, random: () => number) {
    this.#things = things
    this.trust = new EtagTrust({
      sample,
      random,
      read: async ({ object }) => {
        const i = Number(object.key)
        this.read.push(i)
        return { settled: this.#settle(i) }
      },
      trust: async ({ object }) => void this.trusted.push(Number(object.key)),
    })
  }

  /** Adds all objects, in order. */
  async run(before?: Task['before']): Promise<this> {
    for (const i of this.#things.keys()) await this.trust.add({ object: this.#object(i), before })
    await this.trust.finish()
    return this
  }

  #object(i: number): Task['object'] {
    const { size, etag } = this.#things[i]!
    const md5s = { true: md5(`${i}`), false: md5(`not ${i}`), multipart: `${md5('parts')}-2` }
    return { key: `${i}`, size, etag: md5s[etag], lastModified: 1, archived: false }
  }

  /** As a run does: whatever is read tells on a false ETag, some time later. */
  async #settle(i: number): Promise<ReadObject | undefined> {
    await null
    const { size, readable } = this.#things[i]!
    if (!readable) return undefined
    const hash = Buffer.from(md5(`${i}`), 'hex')
    const hashes = Buffer.concat(Array(segmentCount(size)).fill(hash))
    const read = { object: this.#object(i), hashes }
    if (hasFalseEtag(read)) this.trust.stop()
    return read
  }
}

function manyGood(count: number): Thing[] {
  return Array(count).fill(GOOD)
}

/** Math.random() with a seed, so that a test says the same each time. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const byNumber = (a: number, b: number): number => a - b

describe('an ETag', () => {
  const cases: [string, number, string, boolean][] = [
    ['an object put in one part', 1, md5(''), true],
    ['a block’s worth', MAX_BLOCK, md5(''), true],
    ['more than a block', MAX_BLOCK + 1, md5(''), false],
    ['an empty object', 0, md5(''), false],
    ['an object put in parts', 1, `${md5('')}-1`, false],
    ['capital digits', 1, md5('').toUpperCase(), true],
    ['a digit too many', 1, `${md5('')}0`, false],
    ['something else', 1, 'x'.repeat(32), false],
  ]
  for (const [what, size, etag, expected] of cases) {
    it(`${expected ? 'may be' : 'is not'} the MD5 of ${what}`, () => {
      assert.equal(hasMd5Etag({ key: 'k', size, etag, lastModified: 1, archived: false }), expected)
    })
  }
})

describe('trust in ETags', () => {
  it('reads or trusts every object once, and trusts none without proofs', async () => {
    const things = fc.record<Thing>({
      size: fc.constantFrom(0, 1, MAX_BLOCK, MAX_BLOCK + 1),
      etag: fc.constantFrom('true', 'true', 'true', 'multipart'),
      readable: fc.boolean(),
    })
    const many = fc.array(things, { maxLength: 5000, size: 'max' })
    await fc.assert(
      fc.asyncProperty(many, fc.integer(), fc.constantFrom(0, 0.1, 1), async (all, seed, share) => {
        const { read, trusted } = await new Bucket(all, share, seeded(seed)).run()
        assert.deepEqual([...read, ...trusted].sort(byNumber), [...all.keys()])
        const isProof = (i: number): boolean => {
          const { size, etag, readable } = all[i]!
          return readable && etag === 'true' && size > 0 && size <= MAX_BLOCK
        }
        const proofs = read.filter(isProof).length
        if (trusted.length > 0) assert.ok(proofs >= 16, `${proofs} proofs`)
        for (const i of trusted) assert.equal(all[i]!.etag, 'true')
      }),
      runs(50),
    )
  })

  it('reads all objects of a small bucket', async () => {
    const { read } = await new Bucket(manyGood(16), 0, seeded(1)).run()
    assert.equal(read.length, 16)
    const { trusted } = await new Bucket(manyGood(17), 0, seeded(1)).run()
    assert.equal(trusted.length, 1)
  })

  it('reads a sample that grows with the logarithm of the bucket, and the share asked for', async () => {
    const { read } = await new Bucket(manyGood(100_000), 0, seeded(2)).run()
    // 16 of the first 2,000, and then 16 × ln(100,000 / 2,000) = 63 are expected.
    assert.ok(read.length > 16 + 30 && read.length < 16 + 120, `${read.length} were read`)
    const late = read.filter((i) => i >= 50_000).length
    assert.ok(late > 0, 'the second half was not looked at')
    const more = await new Bucket(manyGood(100_000), 0.05, seeded(3)).run()
    assert.ok(more.read.length > 4500 && more.read.length < 5500, `${more.read.length} were read`)
    const all = await new Bucket(manyGood(5000), 1, seeded(4)).run()
    assert.deepEqual(all.trusted, [])
  })

  it('does not begin with the first objects only', async () => {
    const { read } = await new Bucket(manyGood(2000), 0, seeded(5)).run()
    assert.equal(read.length, 16)
    assert.ok(read.some((i) => i >= 1000))
  })

  it('trusts nothing where the first sample shows a false ETag', async () => {
    const things = manyGood(3000).map((thing): Thing => ({ ...thing, etag: 'false' }))
    const { trusted } = await new Bucket(things, 0, seeded(6)).run()
    assert.deepEqual(trusted, [])
  })

  it('ends for good with the first false ETag that is read', async () => {
    const things: Thing[] = [
      ...manyGood(3000),
      ...manyGood(1000).map((thing): Thing => ({ ...thing, etag: 'false' })),
      ...manyGood(1000),
    ]
    const { read, trusted } = await new Bucket(things, 0.05, seeded(7)).run()
    const first = Math.min(...read.filter((i) => things[i]!.etag === 'false'))
    assert.ok(first < 4000)
    assert.ok(Math.max(...trusted) <= first, 'trusted more after that')
  })

  it('lets another object take the place of one that cannot be read', async () => {
    const things = manyGood(2000).map((thing, i): Thing => ({ ...thing, readable: i % 2 === 0 }))
    const { read, trusted } = await new Bucket(things, 0, seeded(8)).run()
    assert.equal(read.filter((i) => things[i]!.readable).length, 16)
    assert.equal(trusted.length, 2000 - read.length)
  })

  it('reads an object whose bytes were found wrong under the same ETag', async () => {
    const holed = { etag: md5('0'), size: 9, lastModified: 1, hashes: Buffer.alloc(16) }
    const bucket = new Bucket(manyGood(100), 0, seeded(9))
    await bucket.run(holed)
    assert.ok(bucket.read.includes(0))
    const others = { ...holed, etag: 'other' }
    assert.ok((await new Bucket(manyGood(100), 0, seeded(9)).run(others)).trusted.length > 50)
  })
})
