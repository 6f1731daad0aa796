import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KeepgwError } from '../../src/errors.ts'
import { BatchWriter } from '../../src/indexer/batch-writer.ts'
import { dropKeys, guardShrinking } from '../../src/indexer/drop.ts'
import { makeMapping, readTree, smallRecord } from '../mapping/fixture.ts'

const refuses = (count: number, total: number, allowDrop: number): boolean => {
  try {
    guardShrinking(count, 'objects are not listed', { allowDrop, total })
    return false
  } catch (error) {
    assert.ok(error instanceof KeepgwError)
    return true
  }
}

describe('the guard against dropping a bucket by mistake', () => {
  const table: [count: number, total: number, allowDrop: number, refused: boolean][] = [
    [0, 0, 0, false],
    [0, 100, 0, false],
    [1, 1, 20, true],
    [1, 2, 0, false],
    [10, 10, 20, true],
    [10, 11, 20, false],
    [10, 11, 0, false],
    [11, 20, 20, true],
    [20, 100, 20, false],
    [21, 100, 20, true],
    [100, 100, 99, true],
    [100, 100, 100, false],
    [1_000_000, 10_000_000, 10, false],
    [1_000_001, 10_000_000, 10, true],
  ]
  for (const [count, total, allowDrop, refused] of table) {
    it(`${refused ? 'refuses' : 'allows'} ${count} of ${total} with ${allowDrop} %`, () => {
      assert.equal(refuses(count, total, allowDrop), refused)
    })
  }

  it('names a percentage that is enough', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.nat(1_000_000), fc.nat(100), (a, b, allowDrop) => {
        const [count, total] = [Math.min(a, b), Math.max(a, b)]
        try {
          guardShrinking(count, 'objects', { allowDrop, total })
        } catch (error) {
          const [, percent] = /--allow-drop (\d+)$/.exec((error as KeepgwError).hint!)!
          assert.ok(Number(percent) <= 100)
          assert.equal(refuses(count, total, Number(percent)), false)
        }
      }),
    )
  })
})

it('dropped keys lose their records and their places; others keep theirs', async () => {
  await using mapping = await makeMapping()
  const { dir, catalog, recorder } = mapping
  const keys = ['a', 'b', '\udcff']
  await recorder.record(keys.map((key, i) => ({ key, before: null, after: smallRecord(i + 1) })))
  const writer = new BatchWriter(recorder)
  await dropKeys(['a', 'unknown', '\udcff'], catalog, writer)
  await writer.flush()
  assert.deepEqual(
    Array.from(catalog.entries(), ({ key }) => key),
    ['b'],
  )
  assert.equal((await readTree(dir)).size, 1)
  assert.equal([...catalog.lostBlocks()].length, 2)
})
