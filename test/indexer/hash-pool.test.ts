import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it, type TestContext } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { shareBandwidth } from '../../src/indexer/bandwidth.ts'
import { HashPool } from '../../src/indexer/hash-pool.ts'
import { HashThread } from '../../src/indexer/hash-thread.ts'
import { indexRemote } from '../../src/indexer/index-run.ts'
import { makeScope } from '../../src/indexer/scope.ts'
import { SegmentHasher } from '../../src/indexer/segment-hasher.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import type { DirectorySpec } from '../../src/remote/remote.ts'
import { s3Error } from '../faults/fault.ts'
import { openBucket, partOf, startStub } from '../remote/s3/stub.ts'

/** Workers that were started since the test began. */
let threads = 0
function countThread(): void {
  threads += 1
}

let dir: string
let spec: DirectorySpec

before(async () => {
  process.on('worker', countThread)
  dir = await mkdtemp(join(tmpdir(), 'keepgw-test-'))
  spec = { kind: 'directory', root: join(dir, 'remote') }
  await mkdir(spec.root)
  await writeFile(join(spec.root, 'foo'), 'xfoox')
  await writeFile(join(spec.root, 'patterned'), patterned)
  await writeFile(join(spec.root, 'sparse'), '')
  await truncate(join(spec.root, 'sparse'), 40 * MAX_BLOCK)
})

after(async () => {
  process.off('worker', countThread)
  await rm(dir, { recursive: true })
})

beforeEach(() => {
  threads = 0
})

/** Any two ranges of it differ. */
const patterned = Buffer.from(
  Array.from({ length: 80_000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255),
)

interface Range {
  key: string
  offset: number
  length: number
}

/** Returns one of 2000 ranges, again and again. */
function range(i: number): Range {
  return { key: 'patterned', offset: (i % 2000) * 37, length: 1 + ((i * 7919) % 5000) }
}

function md5Of({ offset, length }: Range): string {
  return createHash('md5')
    .update(patterned.subarray(offset, offset + length))
    .digest('hex')
}

const options = {
  ifMatch: true,
  attempts: 1,
  connections: 2,
  threads: 2,
  access: async () => undefined,
}

/** Has this thread seem busy all the time, however much of a full machine it is given. */
function seemBusy(t: TestContext): void {
  const busy = () => ({ user: performance.now() * 1000, system: 0 })
  t.mock.method(process, 'threadCpuUsage', busy)
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
    const all = Array.from({ length: 2000 }, (_, i) => i)
    const read = async (i: number): Promise<string> => {
      await pool.room(range(i).length)
      return (await pool.hash(range(i))).toString('hex')
    }
    const hashes = await Promise.all(all.map(read))
    for (const i of all) assert.equal(hashes[i], md5Of(range(i)))
    await pool.close()
  })

  it('hashes what is little on the main thread', async () => {
    const pool = new HashPool(spec, options)
    await Promise.all(Array.from({ length: 20 }, (_, i) => pool.hash(range(i))))
    assert.equal(threads, 0)
    await pool.close()
  })

  for (const connections of [1, 7]) {
    it(`leaves the segments to threads once the main one is busy, ${connections} at once`, {
      timeout: 60_000,
    }, async (t) => {
      seemBusy(t)
      const pool = new HashPool(spec, { ...options, connections })
      const hashes: Promise<Buffer>[] = []
      const handOver = (): void => {
        for (let i = 0; i < 10; i++) hashes.push(pool.hash(range(hashes.length)))
      }
      while (threads === 0) {
        handOver()
        await setTimeout(5, undefined, { signal: t.signal })
      }
      handOver()
      for (const [i, hash] of (await Promise.all(hashes)).entries()) {
        assert.equal(hash.toString('hex'), md5Of(range(i)))
      }
      const underWay = assert.rejects(pool.hash({ key: 'sparse', offset: 0, length: MAX_BLOCK }))
      await pool.close()
      await underWay
    })
  }

  it('reads no more at once than it may while threads take over', {
    timeout: 60_000,
  }, async (t) => {
    seemBusy(t)
    const held: (() => void)[] = []
    let most = 0
    const stub = await startStub(t, (asked, res) => {
      const { status, headers } = partOf(patterned, asked)
      held.push(() => res.writeHead(status, headers).end(patterned.subarray(0, 5)))
      most = Math.max(most, held.length)
      return undefined
    })
    const store = openBucket(t, stub)
    const access = (query: unknown) => store.access(query)
    const pool = new HashPool(store.spec, { ...options, access })
    const started = new Promise<Worker>((resolve) => process.once('worker', resolve))
    const hashes: Promise<Buffer>[] = []
    while (threads === 0) {
      hashes.push(pool.hash({ key: 'key', offset: 0, length: 5 }))
      await setTimeout(5, undefined, { signal: t.signal })
    }
    // The thread has got its segments and waits for its turn; if it did not, its request would come now.
    const { performance: thread } = await started
    while (thread.eventLoopUtilization().idle === 0) await setImmediate()
    for (let i = 0; i < 300; i++) await setImmediate()
    assert.equal(held.length, options.connections)
    let isDone = false
    const done = Promise.all(hashes).then(() => {
      isDone = true
    })
    while (!isDone) {
      held.shift()?.()
      await setImmediate()
    }
    await done
    assert.equal(most, options.connections)
    await pool.close()
  })

  it('leaves no timer behind when it is closed in the middle of a body', async (t) => {
    const begun = Promise.withResolvers<void>()
    const stub = await startStub(t, (asked, res) => {
      const { status, headers } = partOf(patterned, asked)
      res.writeHead(status, { ...headers, 'Content-Length': 1000 })
      res.write(patterned.subarray(0, 500), () => begun.resolve())
      return undefined
    })
    const store = openBucket(t, stub)
    const access = (query: unknown) => store.access(query)
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout')
    const before = timers().length
    const bandwidth = shareBandwidth(1)
    const pool = new HashPool(store.spec, { ...options, access, bandwidth })
    const reading = assert.rejects(pool.hash({ key: 'key', offset: 0, length: 1000 }), /ended/)
    await begun.promise
    while (timers().length === before) await setImmediate()
    await pool.close()
    await reading
    for (let i = 0; i < 10; i++) await setImmediate()
    assert.equal(timers().length, before)
  })

  it('says the same of a failure on the main thread and in another one', async (t) => {
    const withoutCredentials = async () => {
      throw Object.assign(new Error('they have ended'), { name: 'CredentialsProviderError' })
    }
    const stub = await startStub(t, () => s3Error(403, 'InvalidObjectState', 'It is archived'))
    const store = openBucket(t, stub)
    const options = { attempts: 1, connections: 2 }
    const setup = { spec: store.spec, options, bandwidth: undefined }
    const failuresWith = async (access: (query: unknown) => Promise<unknown>) => {
      const context = { access, onSaturated: () => {} }
      const failures: object[] = []
      for (const hasher of [new SegmentHasher(setup, context), new HashThread(setup, context)]) {
        const request = { key: 'key', offset: 0, length: 1 }
        const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
        hasher.take({ request, resolve, reject })
        const { failure, message, hint, archived } = await promise.then(
          () => assert.fail('it was read'),
          (error) => error,
        )
        failures.push({ failure, message, hint, archived })
        await hasher.close()
      }
      assert.deepEqual(failures[1], failures[0])
      return inspect(failures[0])
    }
    assert.match(
      await failuresWith(withoutCredentials),
      /unreachable.*CredentialsProviderError: they have ended.*archived: false/s,
    )
    const archived = await failuresWith((query) => store.access(query))
    assert.match(archived, /unreachable.*InvalidObjectState.*archived: true/s)
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
