import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ExitCode, KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { Intent } from '../../src/mapping/catalog-contents.ts'
import { MAX_KEY } from '../../src/mapping/catalog-entries.ts'
import { compareKeys, keyToBytes } from '../../src/remote/key.ts'
import { runs } from '../fuzz.ts'
import { anyKey, makeMapping, makeTree, smallRecord, type TestMapping } from './fixture.ts'

const NO_DELTA = { objects: 0, segments: 0, bytes: 0, blocks: 0, blockBytes: 0, trusted: 0 }

/** Puts records into the catalog, or removes them, without touching the tree. */
async function store(
  { catalog, lock }: TestMapping,
  keys: Iterable<string>,
  after: Intent['changes'][number]['after'] = smallRecord(1),
): Promise<void> {
  const changes = Array.from(keys, (key) => ({ key, before: null, after }))
  await catalog.finish({ changes, delta: NO_DELTA, lost: [], found: [] }, lock.id)
}

function keysOf(entries: Iterable<{ key: string }>): string[] {
  return Array.from(entries, ({ key }) => key)
}

describe('the entries of a catalog', () => {
  const special = [
    'a',
    'a/',
    'a/b',
    'ab',
    'a\udcff',
    'a\udcff\udcff',
    'b\udcff',
    '\udcff',
    '\udcff\udcff',
    '\udcc3',
    'é',
    '\uffff',
    '\ue000',
    '𐀀',
    '🙂',
    '🙂z',
    '\u{10ffff}',
    '\u{10ffff}\udcff',
    '\0',
    '\0\0',
    '\x7f',
    'z'.repeat(MAX_KEY),
  ]

  it('come in the order of their bytes, for any prefix', async () => {
    await using mapping = await makeMapping()
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyKey, { maxLength: 30 }),
        fc.array(anyKey),
        async (more, prefixes) => {
          await store(mapping, keysOf(mapping.catalog.entries()), null)
          const keys = [...new Set([...special, ...more])].sort(compareKeys)
          await store(mapping, keys)
          assert.deepEqual(keysOf(mapping.catalog.entries()), keys)
          for (const prefix of [
            '',
            ...special,
            ...prefixes,
            ...more.map((key) => key.slice(0, 1)),
          ]) {
            const bytes = keyToBytes(prefix)
            const expected = keys.filter((key) =>
              keyToBytes(key).subarray(0, bytes.length).equals(bytes),
            )
            assert.deepEqual(
              keysOf(mapping.catalog.entries(prefix)),
              expected,
              JSON.stringify(prefix),
            )
          }
          for (const step of [1, 2, 7]) {
            assert.deepEqual(
              [...mapping.catalog.keysAtSteps('k', step)],
              keysOf(mapping.catalog.entries('k')).filter((_, i) => i % step === step - 1),
            )
          }
          const from = keys[Math.floor(keys.length / 2)]!
          assert.deepEqual(
            keysOf(mapping.catalog.entries('', from)),
            keys.filter((key) => compareKeys(key, from) >= 0),
          )
        },
      ),
      runs(30),
    )
  })

  it('hold records that stay as they were, whatever is written and read later', async () => {
    await using mapping = await makeMapping()
    const keys = Array.from({ length: 250 }, (_, i) => `k${String(i).padStart(3, '0')}`)
    for (const [i, key] of keys.entries()) await store(mapping, [key], smallRecord(i + 1))
    const entries = [...mapping.catalog.entries()]
    const got = keys.map((key) => mapping.catalog.get(key))
    await store(mapping, keys, smallRecord(255, 'other'))
    for (const [i, { record }] of entries.entries()) assert.deepEqual(record, smallRecord(i + 1))
    for (const [i, record] of got.entries()) assert.deepEqual(record, smallRecord(i + 1))
  })

  it('are walked over pages, none twice and none left out, while others come and go', async () => {
    await using mapping = await makeMapping()
    const keys = Array.from({ length: 3500 }, (_, i) => `k${String(i).padStart(4, '0')}`)
    await store(mapping, keys)
    const seen: string[] = []
    for (const { key } of mapping.catalog.entries('k')) {
      seen.push(key)
      if (seen.length % 500 !== 0) continue
      // Behind and before the walk, around the borders of its pages.
      const at = seen.length
      await store(mapping, [
        `k${String(at - 2).padStart(4, '0')}+`,
        `k${String(at + 1500).padStart(4, '0')}+`,
      ])
      await store(mapping, [key, keys[at - 400]!], null)
    }
    const stable = seen.filter((key) => !key.endsWith('+'))
    assert.deepEqual(stable, keys)
    assert.deepEqual(seen, seen.toSorted(compareKeys))
    assert.equal(new Set(seen).size, seen.length)
  })

  for (const count of [999, 1000, 1001, 2000]) {
    it(`end after ${count}`, async () => {
      await using mapping = await makeMapping()
      const keys = Array.from({ length: count }, (_, i) => `k${String(i).padStart(4, '0')}`)
      await store(mapping, keys)
      assert.deepEqual(keysOf(mapping.catalog.entries()), keys)
    })
  }

  it('have keys up to a limit; longer ones are simply not there', async () => {
    await using mapping = await makeMapping()
    const longest = 'é'.repeat(MAX_KEY / 2)
    await store(mapping, [longest])
    assert.deepEqual(mapping.catalog.get(longest), smallRecord(1))
    for (const long of [`${longest}x`, 'x'.repeat(5000)]) {
      assert.equal(mapping.catalog.get(long), undefined)
      assert.deepEqual([...mapping.catalog.entries(long)], [])
    }
  })
})

describe('the notes of unseen keys', () => {
  it('are what was noted last of each key, in order, however many', async () => {
    await using mapping = await makeMapping()
    const { catalog } = mapping
    const keys = Array.from({ length: 10_000 }, (_, i) => `${(i * 7919) % 10_000}`)
    for (const key of keys) await catalog.unseen.add(key)
    for (const key of keys) if (Number(key) % 3 === 0) await catalog.unseen.delete(key)
    for (const key of keys) if (Number(key) % 6 === 0) await catalog.unseen.add(key)
    const expected = keys.filter((key) => Number(key) % 3 !== 0 || Number(key) % 6 === 0)
    assert.deepEqual([...catalog.unseen.keys()], expected.sort(compareKeys))
    await catalog.unseen.add('z')
    catalog.unseen.clear()
    assert.deepEqual([...catalog.unseen.keys()], [])
  })
})

describe('a transaction of a catalog', () => {
  it('is undone as a whole where a part of it fails', async () => {
    await using mapping = await makeMapping()
    const { catalog, lock } = mapping
    await store(mapping, ['there'])
    const change = (key: string) => ({ key, before: null, after: smallRecord(2) })
    const intent: Intent = {
      changes: [change('there'), change('new'), change('x'.repeat(MAX_KEY + 1))],
      delta: { ...NO_DELTA, objects: 3 },
      lost: [],
      found: [],
    }
    await assert.rejects(catalog.finish(intent, lock.id), KeepgwError)
    assert.deepEqual(keysOf(catalog.entries()), ['there'])
    assert.deepEqual(catalog.get('there'), smallRecord(1))
    assert.deepEqual(catalog.stats(), NO_DELTA)
  })

  it('writes nothing where another holds the lock', async () => {
    await using mapping = await makeMapping()
    const { catalog } = mapping
    const intent: Intent = {
      changes: [{ key: 'k', before: null, after: smallRecord(1) }],
      delta: { ...NO_DELTA, objects: 1 },
      lost: [[`${'0'.repeat(31)}1`, { length: 1, keys: [], since: '' }]],
      found: [],
    }
    for (const write of [catalog.begin(intent, 'other'), catalog.finish(intent, 'other')]) {
      await assert.rejects(write, { exitCode: ExitCode.locked })
    }
    assert.equal(catalog.intent(), undefined)
    assert.equal(catalog.get('k'), undefined)
    assert.deepEqual([...catalog.lostBlocks()], [])
    assert.deepEqual(catalog.stats(), NO_DELTA)
  })

  it('keeps an intent as it was begun', async () => {
    await using mapping = await makeMapping()
    const intent: Intent = {
      changes: [{ key: 'a\udcff\n', before: smallRecord(1), after: null }],
      delta: NO_DELTA,
      lost: [['00', { length: 5, keys: ['\udcff', '\0'], since: 's' }]],
      found: ['01'],
    }
    await mapping.catalog.begin(intent, mapping.lock.id)
    const reader = Catalog.open(mapping.dir, { readOnly: true })
    assert.deepEqual(reader.intent(), intent)
    await reader.close()
  })
})

it('a catalog that is not there is an error with a hint, for a reader', async () => {
  await using tree = await makeTree()
  assert.throws(
    () => Catalog.open(tree.dir, { readOnly: true }),
    (error) => error instanceof KeepgwError && error.hint !== undefined,
  )
})
