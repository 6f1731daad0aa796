import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Change } from '../../src/mapping/catalog-contents.ts'
import type { Place } from '../../src/mapping/mapping.ts'
import { ProofJournal, takeProofs } from '../../src/mapping/proofs.ts'
import { type CatalogRecord, segmentPlace, withoutTrust } from '../../src/mapping/record.ts'
import { MappingTree } from '../../src/mapping/tree.ts'
import { runs } from '../fuzz.ts'
import { anyKey, collect, hashOf, makeMapping, makeTree, type TestMapping } from './fixture.ts'

function trusted(byte: number): CatalogRecord {
  const hashes = Buffer.alloc(16, byte)
  return { etag: hashOf(byte), size: byte, lastModified: 1, hashes, trusted: true }
}

async function record({ recorder }: TestMapping, objects: Map<string, CatalogRecord>) {
  await recorder.record(Array.from(objects, ([key, after]) => ({ key, before: null, after })))
}

/** Takes the proofs in as an index run does. */
async function take({ dir, catalog, recorder }: TestMapping): Promise<number> {
  let batch: Change[] = []
  return await takeProofs(dir, catalog, {
    record: async (change) => void batch.push(change),
    flush: async () => {
      await recorder.record(batch)
      batch = []
    },
  })
}

async function note(dir: string, proofs: [hash: string, place: Place][]): Promise<void> {
  const journal = new ProofJournal(dir)
  for (const [hash, place] of proofs) journal.note(hash, place)
  await journal.close()
}

const journalOf = (dir: string): string => join(dir, '.keepgw/proofs')

describe('the journal of proofs', () => {
  it('takes the marks of what was proven away, whatever bytes the keys have', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyKey, { minLength: 1, maxLength: 8 }),
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        async (keys, picks) => {
          await using mapping = await makeMapping()
          const objects = new Map(keys.map((key, i) => [key, trusted(1 + (i % 3))]))
          await record(mapping, objects)
          assert.equal(mapping.catalog.stats().trusted, keys.length)
          const proven = keys.filter((_, i) => picks[i])
          const noted = proven.map((key): [string, Place] => {
            const one = objects.get(key)!
            return [one.hashes.toString('hex'), segmentPlace(key, one, 0)]
          })
          // Two servers of one mapping, one of which reads everything twice.
          await note(mapping.dir, noted)
          await note(mapping.dir, [...noted, ...noted])
          assert.equal(await take(mapping), proven.length)
          for (const [key, one] of objects) {
            const expected = proven.includes(key) ? withoutTrust(one) : one
            assert.deepEqual(mapping.catalog.get(key), expected)
          }
          const places = await collect(new MappingTree(mapping.dir).places(hashOf(1)))
          const marked = places.filter(({ trusted }) => trusted).map(({ key }) => key)
          const expected = keys.filter((key, i) => i % 3 === 0 && !proven.includes(key))
          assert.deepEqual(marked.sort(), expected.sort())
          assert.equal(mapping.catalog.stats().trusted, keys.length - proven.length)
          assert.equal(existsSync(journalOf(mapping.dir)), false)
          assert.equal(await take(mapping), 0)
        },
      ),
      runs(30),
    )
  })

  it('counts for nothing where the object is another one by now', async () => {
    await using mapping = await makeMapping()
    const old = trusted(1)
    const changed = trusted(2)
    const read = withoutTrust(trusted(1))
    await record(
      mapping,
      new Map([
        ['changed', changed],
        ['read', read],
      ]),
    )
    await note(
      mapping.dir,
      ['changed', 'read', 'gone'].map((key) => [hashOf(1), segmentPlace(key, old, 0)]),
    )
    assert.equal(await take(mapping), 0)
    assert.deepEqual(mapping.catalog.get('changed'), changed)
    assert.deepEqual(mapping.catalog.get('read'), read)
  })

  it('is not written for what was never trusted', async () => {
    await using tree = await makeTree()
    await note(tree.dir, [[hashOf(1), segmentPlace('k', withoutTrust(trusted(1)), 0)]])
    assert.equal(existsSync(journalOf(tree.dir)), false)
  })

  it('holds a block that is read again and again once', async () => {
    await using tree = await makeTree()
    const place = segmentPlace('k', trusted(1), 0)
    await note(tree.dir, Array(1000).fill([hashOf(1), place]))
    const expected = `${hashOf(1)} 0:1:k\tetag=${hashOf(1)}\tproof=etag\n`
    assert.equal(readFileSync(journalOf(tree.dir), 'utf8'), expected)
  })

  it('does not grow without end where no index run comes', async () => {
    await using tree = await makeTree()
    for (let i = 0; i < 20; i++) {
      const journal = new ProofJournal(tree.dir, { maxBytes: 500 })
      journal.note(hashOf(1), segmentPlace(`k${i}`, trusted(1), 0))
      await journal.close()
    }
    const { length } = readFileSync(journalOf(tree.dir))
    assert.ok(length >= 500 && length < 700, `${length} bytes`)
  })

  it('is taken in again where a run was killed in the middle of that', async () => {
    await using mapping = await makeMapping()
    const objects = new Map([
      ['a', trusted(1)],
      ['b', trusted(2)],
    ])
    await record(mapping, objects)
    await note(mapping.dir, [[hashOf(1), segmentPlace('a', trusted(1), 0)]])
    const dies = takeProofs(mapping.dir, mapping.catalog, {
      record: async () => {},
      flush: async () => {
        throw new Error('killed')
      },
    })
    await assert.rejects(dies, /killed/)
    await note(mapping.dir, [[hashOf(2), segmentPlace('b', trusted(2), 0)]])
    assert.equal(await take(mapping), 2)
    assert.equal(mapping.catalog.stats().trusted, 0)
  })

  it('bears torn and foreign lines', async () => {
    await using mapping = await makeMapping()
    await record(mapping, new Map([['a', trusted(1)]]))
    await writeFile(journalOf(mapping.dir), `${hashOf(1)} 0:1\n\nwhat\n${hashOf(2).slice(0, 9)}`)
    await note(mapping.dir, [[hashOf(1), segmentPlace('a', trusted(1), 0)]])
    await writeFile(journalOf(mapping.dir), `${hashOf(1)} 0:1:a\n`, { flag: 'a' })
    assert.equal(await take(mapping), 0)
    assert.equal(mapping.catalog.stats().trusted, 1)
  })

  it('is left out without a word where the mapping cannot be written to', async () => {
    await using tree = await makeTree()
    const proof: [string, Place] = [hashOf(1), segmentPlace('k', trusted(1), 0)]
    await note(join(tree.dir, 'no/such/place'), [proof])
    // Not even root can write to a directory.
    await mkdir(journalOf(tree.dir))
    await note(tree.dir, [proof])
  })
})
