import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { openEngine } from '../../src/hash/engine.ts'
import { EMPTY_HASH } from '../../src/keep/locator.ts'
import { FailureMemory } from '../../src/volume/failure-memory.ts'
import { readBlock } from '../../src/volume/read-block.ts'
import type { BlockError, BlockQuery, Failover } from '../../src/volume/source-walk.ts'
import type { BlockSource, Volume } from '../../src/volume/volume.ts'
import { runs } from '../fuzz.ts'
import {
  aborted,
  breaking,
  corrupted,
  deliver,
  deliverInto,
  failing,
  failure,
  makeBlock,
  makeSource,
  makeVolume,
  stalling,
} from './fakes.ts'

const KIB = 1024
const large = makeBlock(200 * KIB)
const small = makeBlock(1000)

/** What became of a read. */
interface Result {
  data: Buffer
  begun: number | undefined
  error: unknown
  events: Failover[]
}

async function run(
  hash: string,
  sources: BlockSource[] | Volume[],
  options: Partial<BlockQuery> = {},
): Promise<Result> {
  const isVolumes = sources.every((each) => 'deviceId' in each)
  const volumes = isVolumes
    ? (sources as Volume[])
    : [makeVolume({ blocks: { [hash]: sources as BlockSource[] } })]
  const chunks: Buffer[] = []
  const result: Result = { data: Buffer.alloc(0), begun: undefined, error: undefined, events: [] }
  const query: BlockQuery = {
    volumes,
    hash,
    signal: new AbortController().signal,
    failures: new FailureMemory(),
    idleLimit: 60_000,
    onFailover: (event) => result.events.push(event),
    ...options,
  }
  try {
    await readBlock(query, {
      begin(length) {
        assert.equal(result.begun, undefined, 'begins once')
        result.begun = length
      },
      async write(chunk) {
        assert.notEqual(result.begun, undefined, 'begins before the first byte')
        await Promise.resolve()
        chunks.push(Buffer.from(chunk))
      },
    })
  } catch (error) {
    result.error = error
  }
  result.data = Buffer.concat(chunks)
  return result
}

function failureOf({ error }: Result): string {
  return (error as { failure?: string } | undefined)?.failure ?? String(error)
}

describe('a block with a good place', () => {
  for (const size of [1, 65_535, 65_536, 65_537, 200 * KIB]) {
    test(`of ${size} bytes arrives whole`, async () => {
      const { data, hash } = makeBlock(size)
      const result = await run(hash, [makeSource('a', data)])
      assert.equal(result.error, undefined)
      assert.equal(result.begun, size)
      assert.ok(result.data.equals(data))
    })
  }

  test('that is empty is known without any volume', async () => {
    const result = await run(EMPTY_HASH, [])
    assert.deepEqual([result.error, result.begun, result.data.length], [undefined, 0, 0])
    assert.equal(failureOf(await run(EMPTY_HASH, [], { size: 1 })), 'not-found')
  })
})

describe('fallback', () => {
  for (const at of [1, 10_000, 136 * KIB - 1, 136 * KIB, 200 * KIB - 1]) {
    test(`reads on in another volume from byte ${at}`, async () => {
      const [a, b] = [breaking('a', large.data, at), makeSource('b', large.data)]
      const volumes = [a, b].map((source, i) =>
        makeVolume({ name: `v${i}`, blocks: { [large.hash]: [source] } }),
      )
      const result = await run(large.hash, volumes)
      assert.ok(result.data.equals(large.data))
      assert.deepEqual(b.reads, [at])
      const left = result.events.filter((event) => !event.resumed)
      assert.deepEqual(
        left.map(({ cause, source, offset }) => ({ cause, source, offset })),
        [{ cause: 'unreachable', source: 'a', offset: at }],
      )
    })
  }

  test('a body that breaks is resumed at the same place while it makes progress', async () => {
    let breaks = 0
    const flaky = makeSource('flaky', large.data, {
      async read(from, sink) {
        if (breaks++ === 2) return deliver(large.data, from, large.data.length, sink)
        await deliver(large.data, from, from + 5000, sink)
        throw failure('unreachable', 5000)
      },
    })
    const result = await run(large.hash, [flaky])
    assert.ok(result.data.equals(large.data))
    assert.deepEqual(flaky.reads, [0, 5000, 10_000])
    assert.deepEqual(
      result.events.map((event) => event.resumed),
      [true, true],
    )
  })

  test('a place is resumed a bounded number of times', async () => {
    const endless = makeSource('endless', large.data, {
      async read(from, sink) {
        await deliver(large.data, from, from + 10, sink)
        throw failure('unreachable', 10)
      },
    })
    const result = await run(large.hash, [endless, makeSource('b', large.data)])
    assert.ok(result.data.equals(large.data))
    assert.equal(endless.reads.length, 3)
  })

  test('data that ends early without an error is a break, too', async () => {
    const short = makeSource('short', large.data, {
      read: (from, sink) => deliver(large.data, from, 70_000, sink),
    })
    const good = makeSource('b', large.data)
    assert.ok((await run(large.hash, [short, good])).data.equals(large.data))
    assert.deepEqual(good.reads, [70_000])
  })

  test('a reset after the last byte does no harm', async () => {
    const source = breaking('a', large.data, large.data.length)
    const result = await run(large.hash, [source])
    assert.ok(result.data.equals(large.data))
    assert.deepEqual([result.error, source.reads], [undefined, [0]])
  })

  test('places that failed lately are tried last, in this volume and the next', async () => {
    const failures = new FailureMemory()
    failures.add('a')
    const [a, b] = [makeSource('a', small.data), makeSource('b', small.data)]
    await run(small.hash, [a, b], { failures })
    assert.deepEqual([a.reads, b.reads], [[], [0]])
  })

  test('a place that proves good is trusted again', async () => {
    const failures = new FailureMemory()
    failures.add('a')
    await run(small.hash, [makeSource('a', small.data)], { failures })
    assert.equal(failures.has('a'), false)
  })
})

describe('wrong data', () => {
  test('of a small block is never seen: the next place is read from its start', async () => {
    const failures = new FailureMemory()
    const bad = makeSource('bad', corrupted(small.data, 999))
    const result = await run(small.hash, [bad, makeSource('b', small.data)], { failures })
    assert.ok(result.data.equals(small.data))
    assert.equal(failures.has('bad'), true)
    assert.deepEqual(
      result.events.map((event) => event.cause),
      ['corrupt'],
    )
  })

  test('of several places: the last one is read alone', async () => {
    const wrongStart = breaking('a', corrupted(small.data, 0), 500)
    const good = makeSource('b', small.data)
    const result = await run(small.hash, [wrongStart, good])
    assert.ok(result.data.equals(small.data))
    assert.deepEqual(good.reads, [500, 0])
  })

  for (const at of [0, 140 * KIB, 200 * KIB - 1]) {
    test(`at byte ${at} of a large block cuts the answer before its end`, async () => {
      const result = await run(large.hash, [
        makeSource('bad', corrupted(large.data, at)),
        makeSource('b', large.data),
      ])
      assert.equal(failureOf(result), 'corrupt')
      assert.equal(result.begun, large.data.length)
      assert.equal(result.data.length, 136 * KIB, 'the last 64 KiB are held back')
    })
  }

  test('beyond the end of the block is not sent', async () => {
    const tooLong = Buffer.concat([large.data, Buffer.from('x')])
    const source = makeSource('long', tooLong, { length: large.data.length })
    const result = await run(large.hash, [source])
    assert.ok(result.data.length < large.data.length)
    assert.notEqual(result.error, undefined)
  })
})

describe('the reason why there is no block', () => {
  const { data, hash } = small
  const place = {
    gone: () => failing('gone', data, 'gone'),
    changed: () => failing('changed', data, 'changed'),
    unreachable: () => failing('unreachable', data, 'unreachable'),
    corrupt: () => makeSource('corrupt', corrupted(data, 5)),
  }
  const cases: [(keyof typeof place)[], string][] = [
    [[], 'not-found'],
    [['gone'], 'not-found'],
    [['gone', 'changed'], 'not-found'],
    [['unreachable'], 'unreachable'],
    [['gone', 'unreachable', 'changed'], 'unreachable'],
    [['corrupt'], 'corrupt'],
    [['gone', 'corrupt'], 'corrupt'],
    [['corrupt', 'unreachable'], 'unreachable'],
    [['unreachable', 'corrupt', 'gone'], 'unreachable'],
  ]
  for (const [kinds, outcome] of cases) {
    test(`${kinds.join(', ') || 'no place'}: ${outcome}`, async () => {
      const result = await run(
        hash,
        kinds.map((kind) => place[kind]()),
      )
      assert.equal(failureOf(result), outcome)
      assert.equal(result.begun, undefined)
    })
  }

  test('a volume that cannot tell whether it knows the hash is unreachable', async () => {
    const out = makeVolume({
      name: 'out',
      // biome-ignore lint/correctness/useYield: it fails before its first place.
      async *sources() {
        throw failure('unreachable')
      },
    })
    assert.equal(failureOf(await run(hash, [out, makeVolume({})])), 'unreachable')
    const good = makeVolume({ blocks: { [hash]: [makeSource('b', data)] } })
    assert.ok((await run(hash, [out, good])).data.equals(data))
  })

  test('an error nobody foresaw is unreachable, never "not found"', async () => {
    const odd = makeSource('odd', data, {
      async read() {
        throw new TypeError('a bug')
      },
    })
    assert.equal(failureOf(await run(hash, [odd])), 'unreachable')
  })

  test('a size that no place has: not found, and nothing is read', async () => {
    const good = makeSource('a', data)
    assert.equal(failureOf(await run(hash, [good], { size: 999 })), 'not-found')
    assert.deepEqual(good.reads, [])
  })

  test('an empty place is no block, and the next one is asked', async () => {
    const empty = () => makeSource('empty', Buffer.alloc(0))
    const found = await run(small.hash, [empty(), makeSource('good', small.data)])
    assert.ok(found.data.equals(small.data))
    assert.deepEqual(
      found.events.map(({ cause, source }) => [cause, source]),
      [['corrupt', 'empty']],
    )
    const alone = await run(small.hash, [empty()])
    assert.equal((alone.error as BlockError).failure, 'corrupt')
    for (const size of [0, 67_108_865, Number.POSITIVE_INFINITY]) {
      const { error } = await run(small.hash, [empty(), makeSource('good', small.data)], { size })
      assert.equal((error as BlockError).failure, 'not-found')
    }
  })

  test('without a size, a place of another length than the first is not used', async () => {
    const other = makeSource('other', large.data)
    const result = await run(hash, [failing('a', data, 'gone'), other])
    assert.equal(failureOf(result), 'unreachable', 'a place was not tried')
    assert.deepEqual(other.reads, [])
  })
})

describe('a block with very many places', () => {
  async function manyPlaces(kind: 'gone' | 'unreachable') {
    let tried = 0
    const volume = makeVolume({
      async *sources() {
        for (let i = 0; i < 1_000_000; i++) {
          const read = async () => {
            tried += 1
            throw failure(kind)
          }
          yield makeSource(`p${i}`, small.data, { read })
        }
      },
    })
    return { outcome: failureOf(await run(small.hash, [volume])), tried }
  }

  test('tries 16 that cannot be reached', async () => {
    assert.deepEqual(await manyPlaces('unreachable'), { outcome: 'unreachable', tried: 16 })
  })

  test('tries 256 that are gone, and does not call the others gone', async () => {
    assert.deepEqual(await manyPlaces('gone'), { outcome: 'unreachable', tried: 256 })
  })
})

describe('a place that stands still', () => {
  test('is left, and the next one goes on from the byte reached', async () => {
    const [a, b] = [stalling('a', large.data, 100_000), makeSource('b', large.data)]
    const result = await run(large.hash, [a, b], { idleLimit: 20 })
    assert.ok(result.data.equals(large.data))
    assert.deepEqual(b.reads, [100_000])
  })

  test('is asked once more if there is no other', async () => {
    let asked = 0
    const moody = makeSource('a', large.data, {
      async read(from, sink, signal) {
        if (asked++ > 0) return deliver(large.data, from, large.data.length, sink)
        await deliver(large.data, from, 100_000, sink)
        await aborted(signal)
      },
    })
    const result = await run(large.hash, [moody], { idleLimit: 20 })
    assert.ok(result.data.equals(large.data))
    assert.deepEqual(moody.reads, [0, 100_000])
  })

  test('counts as unreachable, also if it ignores its signal', async () => {
    const deaf = makeSource('deaf', small.data, { read: () => new Promise(() => {}) })
    assert.equal(failureOf(await run(small.hash, [deaf], { idleLimit: 20 })), 'unreachable')
  })

  test('and wakes up later adds nothing to what the next one sends', async () => {
    const { promise: late, resolve: wake } = Promise.withResolvers<void>()
    const { promise: slept, resolve: ended } = Promise.withResolvers<boolean>()
    const sleeper = makeSource('sleeper', small.data, {
      async read(from, sink) {
        await late
        await deliver(small.data, from, 1000, sink).then(
          () => ended(true),
          () => ended(false),
        )
      },
    })
    const next = makeSource('b', small.data, {
      async read(from, sink) {
        wake()
        await slept
        await deliver(small.data, from, 1000, sink)
      },
    })
    const result = await run(small.hash, [sleeper, next], { idleLimit: 20 })
    assert.ok(result.data.equals(small.data))
    assert.equal(await slept, false, 'what it delivers is refused')
  })

  test('may be a volume: the next one is asked, and this one last from then on', async () => {
    const failures = new FailureMemory()
    let asked = 0
    const hung = makeVolume({
      name: 'hung',
      async *sources() {
        asked += 1
        await new Promise(() => {})
      },
    })
    const good = makeVolume({ blocks: { [small.hash]: [makeSource('b', small.data)] } })
    const options = { failures, idleLimit: 20 }
    assert.ok((await run(small.hash, [hung, good], options)).data.equals(small.data))
    assert.ok((await run(small.hash, [hung, good], options)).data.equals(small.data))
    assert.equal(asked, 1)
    assert.equal(failureOf(await run(small.hash, [hung], options)), 'unreachable')
  })

  test('is not blamed for a slow client', async () => {
    const source = makeSource('a', large.data)
    const waits: Promise<void>[] = []
    await readBlock(
      {
        volumes: [makeVolume({ blocks: { [large.hash]: [source] } })],
        hash: large.hash,
        signal: new AbortController().signal,
        failures: new FailureMemory(),
        idleLimit: 10,
        onFailover: (event) => assert.fail(event.message),
      },
      {
        begin() {},
        write() {
          if (waits.length > 0) return
          const wait = new Promise<void>((resolve) => setTimeout(resolve, 50))
          waits.push(wait)
          return wait
        },
      },
    )
    assert.deepEqual(source.reads, [0])
  })
})

describe('the reader going away', () => {
  test('cancels the read, and no other place is tried', async () => {
    const controller = new AbortController()
    const cause = new Error('gone home')
    const { promise: cancelled, resolve } = Promise.withResolvers<void>()
    const slow = makeSource('a', large.data, {
      async read(from, sink, signal) {
        await deliver(large.data, from, 100_000, sink)
        controller.abort(cause)
        await aborted(signal)
        resolve()
        throw signal.reason
      },
    })
    const next = makeSource('b', large.data)
    const result = await run(large.hash, [slow, next], { signal: controller.signal })
    await cancelled
    assert.equal(result.error, cause)
    assert.deepEqual(next.reads, [])
    assert.deepEqual(result.events, [])
  })

  test("an output's own error ends all, as it is", async () => {
    const broken = new Error('disk full')
    const [a, b] = [makeSource('a', large.data), makeSource('b', large.data)]
    const query: BlockQuery = {
      volumes: [makeVolume({ blocks: { [large.hash]: [a, b] } })],
      hash: large.hash,
      signal: new AbortController().signal,
      failures: new FailureMemory(),
      idleLimit: 60_000,
    }
    const write = () => {
      throw broken
    }
    await assert.rejects(readBlock(query, { begin() {}, write }), broken)
    await assert.rejects(readBlock(query, { begin() {}, write: async () => write() }), broken)
    assert.deepEqual([a.reads, b.reads], [[0, 0], []])
  })
})

test('whatever fails: a whole answer is right, any other is short', async () => {
  const step = fc.oneof(
    fc.constant({ kind: 'good' as const, at: 0 }),
    fc.constant({ kind: 'gone' as const, at: 0 }),
    fc.record({ kind: fc.constant('break' as const), at: fc.nat() }),
    fc.record({ kind: fc.constant('corrupt' as const), at: fc.nat() }),
    fc.record({ kind: fc.constant('corrupt-break' as const), at: fc.nat() }),
  )
  const size = fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 65_000, max: 90_000 }))
  await fc.assert(
    fc.asyncProperty(size, fc.array(step, { maxLength: 6 }), async (length, steps) => {
      const { data, hash } = makeBlock(length)
      const sources = steps.map(({ kind, at }, i) => {
        const byte = at % length
        if (kind === 'good') return makeSource(`${i}`, data)
        if (kind === 'gone') return failing(`${i}`, data, 'gone')
        if (kind === 'break') return breaking(`${i}`, data, byte)
        if (kind === 'corrupt') return makeSource(`${i}`, corrupted(data, byte))
        return breaking(`${i}`, corrupted(data, byte >> 1), byte)
      })
      const result = await run(hash, sources)
      if (result.error === undefined) assert.ok(result.data.equals(data))
      else assert.ok(result.data.length < length)
      const kinds = new Set(steps.map((each) => each.kind))
      const isClean = !kinds.has('corrupt') && !kinds.has('corrupt-break')
      // Nothing of a small block is sent unproven: one good place is enough, whatever the others do.
      if (kinds.has('good') && (isClean || length <= 65_536)) assert.equal(result.error, undefined)
    }),
    runs(200),
  )
})

describe('a proof', () => {
  test('is what one place that gave the whole block is told of', async () => {
    const [bad, good] = [failing('bad', large.data, 'gone'), makeSource('good', large.data)]
    const unread = makeSource('unread', large.data)
    await run(large.hash, [bad, good, unread])
    assert.deepEqual([bad.proofs, good.proofs, unread.proofs], [0, 1, 0])
  })

  test('is not a part of a block, nor what nobody was sent', async () => {
    const [part, rest] = [breaking('part', large.data, 70_000), makeSource('rest', large.data)]
    const result = await run(large.hash, [part, rest])
    assert.ok(result.data.equals(large.data))
    assert.deepEqual([part.proofs, rest.proofs], [0, 0])
    const wrong = makeSource('wrong', corrupted(small.data, 5))
    await run(small.hash, [wrong])
    assert.equal(wrong.proofs, 0)
  })

  test('that fails says that the hash was trusted', async () => {
    const trusted = makeSource('trusted', corrupted(small.data, 5), { trusted: true })
    const { events } = await run(small.hash, [trusted])
    assert.equal(events.length, 1)
    assert.match(events[0]!.message, /its ETag, which was trusted/)
    const read = makeSource('read', corrupted(small.data, 5))
    assert.doesNotMatch((await run(small.hash, [read])).events[0]!.message, /trusted/)
  })
})

describe('blocks that are hashed together', () => {
  const blocks = [1, 2, 3, 4, 5].map((seed) => makeBlock(2_000_000 + seed * 100_003, seed))

  test('arrive whole, from the memory that they are hashed in', async () => {
    const engine = openEngine(8)
    const results = await Promise.all(
      blocks.map(({ data, hash }) => {
        const source = makeSource('a', data, {
          read: (from, sink) => deliverInto(data, from, data.length, sink),
        })
        return run(hash, [source], { engine })
      }),
    )
    for (const [i, { data, error }] of results.entries()) {
      assert.equal(error, undefined)
      assert.ok(data.equals(blocks[i]!.data))
    }
  })

  test('are resumed under the same hash, and refused where they are wrong', async () => {
    const engine = openEngine(8)
    const results = await Promise.all(
      blocks.map(({ data, hash }, i) => {
        const second = makeSource('b', i % 2 === 0 ? data : corrupted(data, 1_900_000))
        return run(hash, [breaking('a', data, 1_000_000 + i), second], { engine })
      }),
    )
    assert.deepEqual(
      results.map(({ error, data }, i) => [error === undefined, data.equals(blocks[i]!.data)]),
      [
        [true, true],
        [false, false],
        [true, true],
        [false, false],
        [true, true],
      ],
    )
  })

  test('give their memory back, however they end', async () => {
    const engine = openEngine(2)
    const { data, hash } = blocks[0]!
    const cutShort = new AbortController()
    const stopping = makeSource('a', data, {
      async read(from, sink) {
        await deliver(data, from, 500_000, sink)
        cutShort.abort()
      },
    })
    await run(hash, [stopping], { engine, signal: cutShort.signal })
    await run(hash, [breaking('a', data, 500_000)], { engine })
    await run(hash, [makeSource('a', corrupted(data, 9))], { engine })
    await run(hash, [makeSource('a', data)], { engine })
    for (let i = 0; i < 2; i++) assert.ok(engine.open().room(), 'it is no stream too many')
    assert.equal(engine.open().room(), undefined)
  })

  test('are not, where they are small', async () => {
    const engine = { open: () => assert.fail('a lane for a block of 1000 bytes') }
    const result = await run(small.hash, [makeSource('a', small.data)], { engine })
    assert.ok(result.data.equals(small.data))
  })
})
