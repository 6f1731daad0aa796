import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { BatchWriter } from '../../src/indexer/batch-writer.ts'
import { RunBudget } from '../../src/indexer/budget.ts'
import type { EtagPolicy } from '../../src/indexer/etag-policy.ts'
import type { HashPool } from '../../src/indexer/hash-pool.ts'
import { ObjectIndexer } from '../../src/indexer/object-indexer.ts'
import type { RunRemote } from '../../src/indexer/run-remote.ts'
import { RunTally } from '../../src/indexer/run-tally.ts'
import { makeScope } from '../../src/indexer/scope.ts'
import type { Task } from '../../src/indexer/walk.ts'
import type { Catalog } from '../../src/mapping/catalog.ts'
import type { Change } from '../../src/mapping/catalog-contents.ts'
import type { Recorder } from '../../src/mapping/recorder.ts'
import {
  type ListOptions,
  type RangeSupport,
  RemoteError,
  type RemoteObject,
} from '../../src/remote/remote.ts'

const EMPTY_MD5 = 'd41d8cd98f00b204e9800998ecf8427e'

function task(key: string): Task {
  const object = { key, size: 5, etag: EMPTY_MD5, lastModified: 1, archived: false }
  return { object, before: undefined }
}

/** A run over a store that answers as told; its objects look unchanged to a HEAD. */
function setUp(options: {
  hash(key: string): Promise<Buffer>
  stat?: (key: string) => Promise<RemoteObject>
  /** Keys that a listing shows by now. */
  listed?: string[]
  ranges?: RangeSupport
  distrustIfMatch?: () => Promise<HashPool>
}) {
  const recorded: Change[] = []
  const unreadable: string[] = []
  const recorder: Pick<Recorder, 'record'> = {
    record: async (batch) => void recorded.push(...batch),
  }
  const pool = { room: () => undefined, hash: ({ key }: { key: string }) => options.hash(key) }
  const remote = {
    store: {
      stat: options.stat ?? (async (key: string) => task(key).object),
      ranges: async () => options.ranges ?? 'likely',
      async *list({ prefix = '' }: ListOptions) {
        const keys = (options.listed ?? []).filter((key) => key.startsWith(prefix))
        yield { objects: [], unlisted: [] }
        yield { objects: keys.map((key) => task(key).object), unlisted: [] }
      },
    },
    openPool: () => pool as unknown as HashPool,
    distrustIfMatch: options.distrustIfMatch,
  }
  const stop = new AbortController()
  const budget = new RunBudget({ maxObjects: 1 })
  const writer = new BatchWriter(recorder as Recorder)
  const tally = new RunTally({
    progress: () => {},
    unreadable: (key) => void unreadable.push(key),
    notice: () => {},
  })
  const objects = new ObjectIndexer({
    scope: makeScope({}),
    remote: remote as unknown as RunRemote,
    catalog: {} as Catalog,
    writer,
    etags: { isFalse: () => false } as unknown as EtagPolicy,
    budget,
    tally,
    stop,
  })
  return { objects, writer, tally, stop, budget, recorded, unreadable }
}

describe('the objects of a run', () => {
  it('are recorded as they were read, or trusted', async () => {
    const { objects, writer, tally, recorded } = setUp({ hash: async () => Buffer.alloc(16, 7) })
    await objects.read(task('read'))
    await objects.trust(task('trusted'))
    await objects.allSettled()
    await writer.flush()
    const hashes = recorded.map(({ key, after }) => [key, after?.trusted, after?.hashes])
    assert.deepEqual(
      new Set(hashes),
      new Set([
        ['trusted', true, Buffer.from(EMPTY_MD5, 'hex')],
        ['read', undefined, Buffer.alloc(16, 7)],
      ]),
    )
    assert.deepEqual([tally.counts.added, tally.counts.trusted], [2, 1])
  })

  it('that cannot be read are reported, and make room for others', async () => {
    const { objects, budget, stop, recorded, unreadable } = setUp({
      hash: () => Promise.reject(new RemoteError('unreachable', 'injected')),
    })
    assert.ok(budget.takeObject())
    const { settled } = await objects.read(task('k'))
    assert.equal(await settled, undefined)
    assert.deepEqual([recorded, unreadable], [[], ['k']])
    assert.ok(budget.takeObject())
    assert.ok(!stop.signal.aborted)
  })

  it('that the store says are gone are so unless it still lists them', async () => {
    const gone = () => Promise.reject(new RemoteError('gone', 'injected'))
    const listed = ['longer', 'there', 'there/below']
    for (const ranges of ['likely', 'none'] as const) {
      const { objects, unreadable } = setUp({ hash: gone, stat: gone, listed, ranges })
      for (const key of ['there', 'long', 'away']) await objects.read(task(key))
      await objects.allSettled()
      assert.deepEqual(unreadable, ranges === 'none' ? [] : ['there'])
    }
  })

  it('are not begun once the run is stopped', async () => {
    const { objects, stop, tally } = setUp({ hash: () => assert.fail('was read') })
    const reason = new Error('interrupted')
    stop.abort(reason)
    await assert.rejects(objects.read(task('k')), reason)
    assert.throws(() => objects.trust(task('k')), reason)
    await objects.allSettled()
    assert.equal(tally.counts.added, 0)
  })

  it('come to an end where what was learnt of the store cannot be written down', async () => {
    const written = Promise.withResolvers<HashPool>()
    let isAsked = false
    const { objects, stop } = setUp({
      hash: () => Promise.reject(new RemoteError('changed', 'injected: 412')),
      distrustIfMatch: () => {
        isAsked = true
        return written.promise
      },
    })
    await objects.read(task('first'))
    while (!isAsked) await setImmediate()
    const next = objects.read(task('next'))
    const full = new Error('disk full')
    written.reject(full)
    await assert.rejects(next, full)
    await objects.allSettled()
    assert.equal(stop.signal.reason, full)
  })
})
