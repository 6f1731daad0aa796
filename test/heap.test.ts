import assert from 'node:assert/strict'
import { test } from 'node:test'
import { getHeapSpaceStatistics } from 'node:v8'
import { HeapBound } from '../src/heap.ts'

const MB = 2 ** 20

/** Makes objects that live as long as a batch does, page by page; returns what the young ones took. */
function longRun(pages: number, afterPage: () => void): number {
  const alive: object[][] = []
  let peak = 0
  for (let page = 0; page < pages; page++) {
    alive.push(Array.from({ length: 20_000 }, (_, i) => ({ key: `key-${page}-${i}`, size: i })))
    if (alive.length > 8) alive.shift()
    afterPage()
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')
    peak = Math.max(peak, young!.space_size)
  }
  return peak
}

test('the young generation stops growing in a long run, and may grow after it', () => {
  const bound = new HeapBound(16 * MB)
  const bounded = longRun(200, () => bound.look())
  bound.end()
  const free = longRun(400, () => {})
  assert.ok(bounded <= 32 * MB, `${bounded / MB} MiB while it was bound`)
  assert.ok(
    free > bounded,
    `${free / MB} MiB where nothing bounds it, ${bounded / MB} where it does`,
  )
})
