import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EMPTY_HASH } from '../../src/keep/locator.ts'
import { checkBlock } from '../../src/volume/check-block.ts'
import { FailureMemory } from '../../src/volume/failure-memory.ts'
import { BlockError, type BlockFailure } from '../../src/volume/source-walk.ts'
import type { BlockSource } from '../../src/volume/volume.ts'
import { corrupted, failing, makeBlock, makeSource, makeVolume } from './fakes.ts'

const { data, hash } = makeBlock(100_000)
const unsure = { unchanged: async () => false }

function check(sources: BlockSource[], size?: number): Promise<number> {
  return checkBlock({
    volumes: [makeVolume({ blocks: { [hash]: sources } })],
    hash,
    size,
    signal: new AbortController().signal,
    failures: new FailureMemory(),
    idleLimit: 60_000,
  })
}

function isFailure(failure: BlockFailure) {
  return (error: unknown) => error instanceof BlockError && error.failure === failure
}

test('a place that is unchanged is enough, and nothing is read', async () => {
  const places = [
    failing('gone', data, 'gone'),
    makeSource('unsure', data, unsure),
    makeSource('sure', data),
  ]
  assert.equal(await check(places), data.length)
  assert.deepEqual(
    places.map((place) => place.reads),
    [[], [], []],
  )
})

test('where no place can say so, the data is read and proven', async () => {
  const good = makeSource('good', data, unsure)
  assert.equal(await check([good]), data.length)
  assert.deepEqual(good.reads, [0])
  const bad = makeSource('bad', corrupted(data, 50), unsure)
  await assert.rejects(check([bad]), isFailure('corrupt'))
})

test('the reasons are those of a read', async () => {
  const gone = failing('gone', data, 'gone')
  const out = failing('out', data, 'unreachable')
  await assert.rejects(check([]), isFailure('not-found'))
  await assert.rejects(check([gone]), isFailure('not-found'))
  await assert.rejects(check([gone, out]), isFailure('unreachable'))
  await assert.rejects(check([makeSource('good', data)], 99), isFailure('not-found'))
})

test('the empty block is there', async () => {
  const query = {
    volumes: [],
    signal: new AbortController().signal,
    failures: new FailureMemory(),
    idleLimit: 60_000,
  }
  assert.equal(await checkBlock({ ...query, hash: EMPTY_HASH }), 0)
})
