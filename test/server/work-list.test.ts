import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorkList } from '../../src/server/work-list.ts'

test('a new list takes the place of the old one, a few items at a time', async () => {
  const done: number[] = []
  const waiting: (() => void)[] = []
  const list = new WorkList<number>(2, async (item) => {
    await new Promise<void>((resolve) => waiting.push(resolve))
    done.push(item)
  })
  const turn = async () => {
    for (const resume of waiting.splice(0)) resume()
    await new Promise((resolve) => setImmediate(resolve))
  }
  list.replace([1, 2, 3, 4, 5])
  assert.deepEqual([waiting.length, list.pending], [2, 3])
  await turn()
  assert.deepEqual([done, list.pending], [[1, 2], 1])
  list.replace([10])
  await turn()
  await turn()
  assert.deepEqual(done, [1, 2, 3, 4, 10])
  list.replace([20, 21])
  assert.equal(waiting.length, 2)
  await turn()
  assert.deepEqual(done.slice(-2), [20, 21])
})

test('the end waits for what is under way, and forgets the rest', async () => {
  const seen: number[] = []
  const list = new WorkList<number>(1, async (item, signal) => {
    seen.push(item)
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
  })
  list.replace([1, 2, 3])
  await list.close()
  assert.deepEqual(seen, [1])
})
