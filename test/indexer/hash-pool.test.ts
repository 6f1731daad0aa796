import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { makeScope } from '../../src/indexer/filter.ts'
import { HashPool } from '../../src/indexer/hash-pool.ts'
import { indexRemote } from '../../src/indexer/index-run.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import type { DirectorySpec } from '../../src/remote/remote.ts'

let dir: string
let spec: DirectorySpec

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'keepgw-test-'))
  spec = { kind: 'directory', root: join(dir, 'remote') }
  await mkdir(spec.root)
  await writeFile(join(spec.root, 'foo'), 'xfoox')
  await writeFile(join(spec.root, 'patterned'), patterned)
  await writeFile(join(spec.root, 'sparse'), '')
  await truncate(join(spec.root, 'sparse'), 40 * MAX_BLOCK)
})

after(() => rm(dir, { recursive: true }))

/** Any two ranges of it differ. */
const patterned = Buffer.from(
  Array.from({ length: 80_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255),
)

const options = {
  ifMatch: true,
  attempts: 1,
  connections: 2,
  threads: 2,
  access: async () => undefined,
}

describe('a hash pool', () => {
  it('hashes a range of an object, and says why it cannot', async () => {
    const pool = new HashPool(spec, options)
    const hash = await pool.hash({ key: 'foo', offset: 1, length: 3 })
    assert.equal(hash.toString('hex'), createHash('md5').update('foo').digest('hex'))
    await assert.rejects(pool.hash({ key: 'bar', offset: 0, length: 1 }), { failure: 'gone' })
    const changed = { key: 'foo', offset: 0, length: 1, etag: 'other' }
    await assert.rejects(pool.hash(changed), { failure: 'changed' })
    await pool.close()
  })

  it('gives each of many segments its own hash, whenever it ends', async () => {
    const pool = new HashPool(spec, { ...options, connections: 7 })
    const range = (i: number) => ({
      key: 'patterned',
      offset: i * 37,
      length: 1 + ((i * 7919) % 5000),
    })
    const all = Array.from({ length: 2000 }, (_, i) => i)
    const read = async (i: number): Promise<string> => {
      await pool.room(range(i).length)
      return (await pool.hash(range(i))).toString('hex')
    }
    const hashes = await Promise.all(all.map(read))
    for (const i of all) {
      const { offset, length } = range(i)
      const expected = createHash('md5').update(patterned.subarray(offset, offset + length))
      assert.equal(hashes[i], expected.digest('hex'))
    }
    await pool.close()
  })

  it('fails what is under way, and all that comes later, when it is closed', async () => {
    const pool = new HashPool(spec, options)
    const underWay = assert.rejects(pool.hash({ key: 'sparse', offset: 0, length: MAX_BLOCK }))
    await pool.close()
    await underWay
    await assert.rejects(pool.hash({ key: 'foo', offset: 0, length: 1 }))
  })
})

it('a run that is interrupted in the middle of a large object ends with the reason', async () => {
  const stop = new AbortController()
  const reason = new Error('interrupted')
  const run = indexRemote({
    mappings: join(dir, 'mapping'),
    remote: spec,
    scope: makeScope({ include: ['sparse'] }),
    concurrency: 3,
    workers: 2,
    allowDrop: 0,
    limits: {},
    breakLock: false,
    dryRun: false,
    signal: stop.signal,
    observer: {
      progress: ({ bytes }) => {
        if (bytes > 0) stop.abort(reason)
      },
      unreadable: (key, why) => assert.fail(`${key}: ${why}`),
      notice: () => {},
    },
  })
  await assert.rejects(run, reason)
})
