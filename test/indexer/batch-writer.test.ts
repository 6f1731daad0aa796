import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { BatchWriter } from '../../src/indexer/batch-writer.ts'
import type { Change } from '../../src/mapping/catalog-contents.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import type { Recorder } from '../../src/mapping/recorder.ts'

/** A recorder whose batches end when they are told to. */
class HeldRecorder {
  readonly batches: string[][] = []
  readonly #ends: PromiseWithResolvers<void>[] = []

  record(changes: Change[]): Promise<void> {
    if (changes.length === 0) return Promise.resolve()
    this.batches.push(changes.map(({ key }) => key))
    this.#ends.push(Promise.withResolvers())
    return this.#ends.at(-1)!.promise
  }

  async end(batch: number, error?: Error): Promise<void> {
    if (error === undefined) this.#ends[batch]!.resolve()
    else this.#ends[batch]!.reject(error)
    await setImmediate()
  }
}

function setUp() {
  const recorder = new HeldRecorder()
  return { recorder, writer: new BatchWriter(recorder as unknown as Recorder) }
}

/** A change of so many segments; 4096 make a full batch. */
function change(key: string, segments: number): Change {
  const hashes = Buffer.alloc(16 * segments)
  return {
    key,
    before: null,
    after: { etag: '', size: segments * MAX_BLOCK, lastModified: 0, hashes },
  }
}

function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), setImmediate(false)])
}

describe('a batch', () => {
  it('is written when it is full, by segments, or by objects where they are empty', async () => {
    const { recorder, writer } = setUp()
    await writer.add(change('a', 4095))
    await setImmediate()
    assert.deepEqual(recorder.batches, [])
    await writer.add(change('b', 0))
    await setImmediate()
    assert.deepEqual(recorder.batches, [['a', 'b']])
    await recorder.end(0)
    await writer.add({ key: 'gone', before: change('', 4096).after, after: null })
    await setImmediate()
    assert.deepEqual(recorder.batches, [['a', 'b'], ['gone']])
    await recorder.end(1)
    await writer.flush()
  })

  it('is written while the next one fills; the one after that waits', async () => {
    const { recorder, writer } = setUp()
    await writer.add(change('a', 4096))
    await writer.add(change('b', 1))
    const full = writer.add(change('c', 4096))
    assert.ok(full)
    assert.equal(await hasSettled(full), false)
    assert.deepEqual(recorder.batches, [['a']])
    await recorder.end(0)
    await full
    assert.deepEqual(recorder.batches, [['a'], ['b', 'c']])
    await writer.add(change('d', 1))
    const flushed = writer.flush()
    await recorder.end(1)
    assert.equal(await hasSettled(flushed), false)
    await recorder.end(2)
    await flushed
    assert.deepEqual(recorder.batches, [['a'], ['b', 'c'], ['d']])
  })

  it('that is full and waits for a slow disk holds all up who add, however many they are', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { recorder, writer } = setUp()
    await writer.add(change('first', 4096))
    await setImmediate()
    await writer.add(change('a', 4095))
    // No second one is put behind the one that is being written, full or due.
    for (let i = 0; i < 5; i++) {
      const added = writer.add(change(`b${i}`, 1))
      assert.ok(added)
      assert.equal(await hasSettled(added), false)
      t.mock.timers.tick(5000)
    }
    assert.deepEqual(recorder.batches, [['first']])
    await recorder.end(0)
    assert.deepEqual(recorder.batches[1], ['a', 'b0', 'b1', 'b2', 'b3', 'b4'])
    assert.equal(writer.add(change('c', 1)), undefined)
    const flushed = writer.flush()
    await recorder.end(1)
    await recorder.end(2)
    await flushed
  })

  it('is written after some seconds though it is not full', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { recorder, writer } = setUp()
    await writer.add(change('a', 1))
    t.mock.timers.tick(4999)
    await writer.add(change('b', 1))
    await setImmediate()
    assert.deepEqual(recorder.batches, [])
    t.mock.timers.tick(1)
    await setImmediate()
    assert.deepEqual(recorder.batches, [['a', 'b']])
    await recorder.end(0)
    await writer.flush()
    t.mock.timers.tick(60_000)
    await setImmediate()
    assert.equal(recorder.batches.length, 1)
  })

  it('that fails stops those behind it, and is told to all who add or flush', async () => {
    const { recorder, writer } = setUp()
    const failure = new Error('injected')
    await writer.add(change('a', 4096))
    const behind = writer.add(change('b', 4096))
    const third = writer.add(change('c', 1))
    await recorder.end(0, failure)
    await behind
    await third
    assert.throws(() => writer.add(change('d', 1)), failure)
    await assert.rejects(writer.flush(), failure)
    await assert.rejects(writer.flush(), failure)
    assert.deepEqual(recorder.batches, [['a']])
  })

  it('that nobody waits for may fail', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { recorder, writer } = setUp()
    await writer.add(change('a', 1))
    t.mock.timers.tick(5000)
    await setImmediate()
    await recorder.end(0, new Error('injected'))
    await assert.rejects(writer.flush(), /injected/)
  })
})
