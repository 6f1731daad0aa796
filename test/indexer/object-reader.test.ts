import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Admission } from '../../src/indexer/admission.ts'
import type { HashPool } from '../../src/indexer/hash-pool.ts'
import { ObjectReader } from '../../src/indexer/object-reader.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import {
  type ReadRequest,
  RemoteError,
  type RemoteFailure,
  type RemoteObject,
  type RemoteStore,
} from '../../src/remote/remote.ts'

const { signal } = new AbortController()

type Answer = Promise<Buffer> | RemoteFailure | Error

const failure = (kind: RemoteFailure): RemoteError => new RemoteError(kind, `injected: ${kind}`)

function object(size: number, etag = 'e1', key = 'k'): RemoteObject {
  return { key, size, etag, lastModified: 1, archived: false }
}

/** The hash that the pools here answer for a segment. */
function hashFor({ etag, offset }: ReadRequest): Buffer {
  return Buffer.alloc(16, `${etag}${offset}`)
}

function poolOf(
  answer: (request: ReadRequest) => Answer | undefined,
  atOnce = 4,
): HashPool & { asked: ReadRequest[] } {
  const asked: ReadRequest[] = []
  const admission = new Admission(atOnce)
  const pool = {
    asked,
    room: (length: number) => admission.room(length),
    async hash(request: ReadRequest): Promise<Buffer> {
      asked.push(request)
      admission.enter(request.length)
      try {
        await setImmediate()
        const given = answer(request)
        if (typeof given === 'string') throw failure(given)
        if (given instanceof Error) throw given
        return await (given ?? hashFor(request))
      } finally {
        admission.leave(request.length)
      }
    },
  }
  return pool as unknown as HashPool & { asked: ReadRequest[] }
}

function setUp(options: {
  answer?: (request: ReadRequest) => Answer | undefined
  stat?: () => RemoteObject | RemoteFailure
  distrust?: () => Promise<HashPool>
  /** Large segments read at once. */
  atOnce?: number
  etagsAreMd5?: boolean
}) {
  const pool = poolOf(options.answer ?? (() => undefined), options.atOnce)
  const trusting = poolOf(() => undefined)
  const counts = { bytes: 0, stats: 0, distrusted: 0 }
  const remote: Partial<RemoteStore> = {
    async stat(_key, given) {
      assert.equal(given, signal)
      counts.stats += 1
      const found = options.stat?.() ?? 'gone'
      if (typeof found === 'string') throw failure(found)
      return found
    },
  }
  const reader = new ObjectReader({
    remote: remote as RemoteStore,
    pool,
    async distrustIfMatch() {
      counts.distrusted += 1
      return (await options.distrust?.()) ?? trusting
    },
    etagsAreMd5: options.etagsAreMd5 ?? true,
    signal,
    onBytes: (bytes) => {
      counts.bytes += bytes
    },
  })
  const read = async (listed: RemoteObject) => await (await reader.start(listed)).result
  return { reader, read, pool, trusting, counts }
}

describe('an object', () => {
  it('is read in segments, whose hashes come in their order however they end', async () => {
    const size = 3 * MAX_BLOCK + 5
    const held = new Map<number, PromiseWithResolvers<Buffer>>()
    const { reader, counts, pool } = setUp({
      answer: ({ offset }) => {
        held.set(offset, Promise.withResolvers())
        return held.get(offset)!.promise
      },
    })
    const { result } = await reader.start(object(size))
    while (held.size < 4) await setImmediate()
    for (const request of pool.asked.toReversed())
      held.get(request.offset)!.resolve(hashFor(request))
    const { hashes } = (await result)!
    assert.deepEqual(
      pool.asked.map(({ offset, length, etag, size: whole }) => [offset, length, etag, whole]),
      [0, 1, 2, 3].map((i) => [i * MAX_BLOCK, i === 3 ? 5 : MAX_BLOCK, 'e1', size]),
    )
    assert.deepEqual(hashes, Buffer.concat(pool.asked.map(hashFor)))
    assert.equal(counts.bytes, size)
  })

  it('that is empty is known without reading', async () => {
    const { read, pool } = setUp({ atOnce: 1 })
    assert.deepEqual(await read(object(0)), { object: object(0), hashes: Buffer.alloc(0) })
    assert.deepEqual(pool.asked, [])
  })

  it('lets the next one start once all of its segments are handed over', async () => {
    const held = Promise.withResolvers<Buffer>()
    const { reader, pool } = setUp({ answer: () => held.promise, atOnce: 2 })
    await reader.start(object(MAX_BLOCK))
    const second = reader.start(object(2 * MAX_BLOCK, 'e', 'second'))
    for (let i = 0; i < 5; i++) await setImmediate()
    assert.equal(pool.asked.length, 2)
    held.resolve(Buffer.alloc(16, 1))
    await (await second).result
    assert.equal(pool.asked.length, 3)
  })

  for (const first of ['changed', 'gone'] as const) {
    it(`that is ${first} when it is read, and there as another one, is read as that`, async () => {
      const now = object(2 * MAX_BLOCK, 'e2')
      const { read, counts } = setUp({
        answer: ({ etag }) => (etag === 'e1' ? first : undefined),
        stat: () => now,
      })
      const result = (await read(object(3 * MAX_BLOCK)))!
      assert.deepEqual(result.object, now)
      assert.equal(result.hashes.length, 32)
      assert.deepEqual([counts.stats, counts.distrusted], [1, 0])
    })
  }

  it('that changes a second time is reported', async () => {
    const { read } = setUp({
      answer: () => 'changed',
      stat: () => object(9, 'e2'),
    })
    await assert.rejects(read(object(9)), { failure: 'changed' })
  })

  it('that is gone is undefined', async () => {
    for (const answer of ['gone', 'changed'] as const) {
      const { read } = setUp({ answer: () => answer, stat: () => 'gone' })
      assert.equal(await read(object(3 * MAX_BLOCK)), undefined)
    }
  })

  it('that cannot be reached, first or when it is looked at again, is reported', async () => {
    const first = setUp({ answer: () => 'unreachable' })
    await assert.rejects(first.read(object(9)), { failure: 'unreachable' })
    assert.equal(first.counts.stats, 0)
    const then = setUp({ answer: () => 'changed', stat: () => 'unreachable' })
    await assert.rejects(then.read(object(9)), { failure: 'unreachable' })
  })

  it('is not read to its end once a part has failed', async () => {
    const { read, pool } = setUp({
      answer: ({ offset }) => (offset === 0 ? 'unreachable' : undefined),
      atOnce: 2,
    })
    await assert.rejects(read(object(1000 * MAX_BLOCK)), { failure: 'unreachable' })
    assert.ok(pool.asked.length <= 3, `${pool.asked.length} segments`)
  })

  it('may fail before anyone looks at its result', async () => {
    const { reader } = setUp({ answer: () => new Error('a thread ended') })
    const { result } = await reader.start(object(9))
    for (let i = 0; i < 5; i++) await setImmediate()
    await assert.rejects(result, /a thread ended/)
  })
})

describe('a store that answers 412 to its own ETags', () => {
  it('is distrusted once, and then read without If-Match', async () => {
    const { reader, read, trusting, counts } = setUp({
      answer: () => 'changed',
      stat: () => object(MAX_BLOCK + 1),
    })
    const many = await Promise.all([1, 2, 3].map(() => reader.start(object(MAX_BLOCK + 1))))
    for (const { result } of many) assert.equal((await result)?.hashes.length, 32)
    assert.equal(counts.distrusted, 1)
    const { stats } = counts
    await read(object(5))
    assert.equal(counts.stats, stats)
    assert.equal(trusting.asked.length, 7)
  })

  it('is not, where it was the object that changed back, or changes on', async () => {
    // The first read says changed, the look shows the listed one, and the probe is right again.
    let reads = 0
    const back = setUp({
      answer: () => (reads++ === 0 ? 'changed' : undefined),
      stat: () => object(5),
    })
    assert.equal((await back.read(object(5)))?.object.etag, 'e1')
    assert.equal(back.counts.distrusted, 0)

    let looks = 0
    const on = setUp({
      answer: () => 'changed',
      stat: () => object(5, looks++ === 0 ? 'e1' : 'e2'),
    })
    await assert.rejects(on.read(object(5)), { failure: 'changed' })
    assert.equal(on.counts.distrusted, 0)
  })

  it('ends the reading where that cannot be remembered', async () => {
    const full = new Error('disk full')
    const { reader } = setUp({
      answer: () => 'changed',
      stat: () => object(5),
      distrust: () => Promise.reject(full),
    })
    const { result } = await reader.start(object(5))
    await assert.rejects(result, full)
    const later = reader.start(object(5, 'e', 'later')).then((started) => started.result)
    await assert.rejects(later, full)
  })
})

describe('bytes that are not what an ETag says', () => {
  const [right, wrong] = ['00', 'ff'].map((byte) => Buffer.from(byte.repeat(16), 'hex'))
  const listed = object(9, right!.toString('hex'))
  /** Brings these hashes, one after the other. */
  const bringing = (hashes: Buffer[], etagsAreMd5 = true) => {
    const left = hashes.map((hash) => Promise.resolve(hash))
    return setUp({ answer: () => left.shift(), etagsAreMd5 })
  }

  it('are read once more, as they may have been spoilt on their way', async () => {
    const { read, pool } = bringing([wrong!, right!])
    assert.deepEqual((await read(listed))?.hashes, right)
    assert.equal(pool.asked.length, 2)
  })

  it('are taken for what they are if they come again, and no others are doubted then', async () => {
    const { read, pool } = bringing([wrong!, wrong!, wrong!])
    for (let i = 0; i < 2; i++) assert.deepEqual((await read(listed))?.hashes, wrong)
    assert.equal(pool.asked.length, 3)
  })

  it('are not doubted where ETags are known to be no MD5s', async () => {
    const { read, pool } = bringing([wrong!], false)
    assert.deepEqual((await read(listed))?.hashes, wrong)
    assert.equal(pool.asked.length, 1)
  })

  it('are believed of no read if each brings others', async () => {
    const { read } = bringing([wrong!, Buffer.alloc(16, 7)])
    await assert.rejects(read(listed), { failure: 'unreachable', message: /two reads/ })
  })
})
