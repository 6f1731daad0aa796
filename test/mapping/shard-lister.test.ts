import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Worker } from 'node:worker_threads'
import { listShards } from '../../src/mapping/shard-lister.ts'
import { makeTree } from './fixture.ts'

const SHARDS = Array.from({ length: 40 }, (_, i) => i.toString(16).padStart(3, '0'))

/** Makes a tree with a block in each shard, and lists it as far as its first one. */
async function begin(dir: string) {
  for (const shard of SHARDS) {
    await mkdir(join(dir, shard))
    await writeFile(join(dir, shard, shard + 'c'.repeat(29)), '0:1:k\n')
  }
  const threads: Worker[] = []
  const answered: Promise<unknown>[] = []
  const note = (thread: Worker) => {
    threads.push(thread)
    // Each has two directories ahead of it.
    answered.push(once(thread, 'message').then(() => once(thread, 'message')))
  }
  process.on('worker', note)
  const blocks = listShards(dir, SHARDS, '')[Symbol.asyncIterator]()
  const { value } = await blocks.next()
  process.off('worker', note)
  assert.equal(value.hash.slice(0, 3), SHARDS[0])
  await Promise.all(answered)
  return { blocks, threads }
}

test('a listing fails where one of its threads has ended between two questions', async () => {
  await using made = await makeTree()
  const { blocks, threads } = await begin(made.dir)
  await threads[0]!.terminate()
  await assert.rejects(async () => {
    while (!(await blocks.next()).done);
  }, /the thread has ended/)
})

test('a listing that is left ends its threads', async () => {
  await using made = await makeTree()
  const { blocks, threads } = await begin(made.dir)
  const ended = threads.map((thread) => once(thread, 'exit'))
  await blocks.return!()
  await Promise.all(ended)
})
