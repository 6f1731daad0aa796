import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { FailureMemory } from '../../src/volume/failure-memory.ts'
import { type HedgeAfter, Hedging } from '../../src/volume/hedging.ts'
import type { Hedge } from '../../src/volume/race.ts'
import { readBlock } from '../../src/volume/read-block.ts'
import type { BlockQuery } from '../../src/volume/source-walk.ts'
import type { BlockSource } from '../../src/volume/volume.ts'
import { runs } from '../fuzz.ts'
import {
  aborted,
  breaking,
  corrupted,
  deliver,
  failing,
  failure,
  makeBlock,
  makeSource,
  makeVolume,
  stalling,
} from './fakes.ts'

const { data, hash } = makeBlock(200_000)
const place = makeSource('any', data)

describe('the time after which another place is asked', () => {
  test('is the one that was set', () => {
    assert.equal(new Hedging(250).delay(place), 250)
  })

  test('is learnt from what first bytes of the store took lately', () => {
    const hedging = new Hedging('auto')
    const other = makeSource('other', data, { store: 'other' })
    assert.equal(hedging.delay(place), 1000, 'nothing is known yet')
    for (let i = 0; i < 200; i++) hedging.answered(place, 20 + (i % 10))
    assert.equal(hedging.delay(place), 29)
    for (let i = 0; i < 200; i++) hedging.answered(other, 5)
    assert.equal(hedging.delay(other), 5)
    for (let i = 0; i < 200; i++) hedging.answered(place, 300)
    assert.equal(hedging.delay(place), 300, 'the store has become slower')
  })

  test('is that of the slowest store for one that has never answered', () => {
    const hedging = new Hedging('auto')
    for (let i = 0; i < 200; i++) hedging.answered(place, 20)
    for (let i = 0; i < 200; i++) hedging.answered(makeSource('b', data, { store: 'b' }), 40)
    assert.equal(hedging.delay(makeSource('c', data, { store: 'c' })), 40)
  })

  test('is not made long by a few that were very slow, nor shorter than a timer can tell', () => {
    const hedging = new Hedging('auto')
    for (let i = 0; i < 128; i++) hedging.answered(place, i % 10 === 0 ? 5000 : 20)
    assert.equal(hedging.delay(place), 40)
    for (let i = 0; i < 128; i++) hedging.answered(place, 0.1)
    assert.equal(hedging.delay(place), 4)
  })
})

test('requests in vain are bounded: a few at a stretch, and then one in ten', () => {
  const hedging = new Hedging(1)
  const begun = () => Array.from({ length: 100 }, () => hedging.begin()).filter(Boolean).length
  assert.equal(begun(), 16)
  for (let i = 0; i < 50; i++) hedging.answered(place, 10)
  assert.ok(begun() <= 5)
  for (let i = 0; i < 100; i++) hedging.won()
  assert.equal(begun(), 16, 'those that were of use cost nothing')
})

/** Reads the block with every place raced after a moment. */
async function run(
  sources: BlockSource[],
  options: Partial<BlockQuery> & { after?: HedgeAfter } = {},
) {
  const { after = 1, ...query } = options
  const chunks: Buffer[] = []
  const hedges: Hedge[] = []
  const failovers: string[] = []
  const failures = new FailureMemory()
  const reading = readBlock(
    {
      volumes: [makeVolume({ blocks: { [hash]: sources } })],
      hash,
      signal: new AbortController().signal,
      failures,
      idleLimit: 60_000,
      hedging: new Hedging(after),
      onHedge: (hedge) => hedges.push(hedge),
      onFailover: ({ source, cause }) => failovers.push(`${source} ${cause}`),
      ...query,
    },
    { begin() {}, write: (chunk) => void chunks.push(Buffer.from(chunk)) },
  )
  const failed = await reading.then(
    () => undefined,
    (error) => error.failure ?? error,
  )
  return { bytes: Buffer.concat(chunks), failed, hedges, failovers, failures }
}

/** A place that is silent until it is told to end; `ends` settles when it was. */
function silent(name: string, options: Partial<BlockSource> = {}) {
  const { promise: ends, resolve } = Promise.withResolvers<void>()
  const source = makeSource(name, data, {
    ...options,
    async read(_from, _sink, signal) {
      await aborted(signal)
      resolve()
      throw signal.reason
    },
  })
  return Object.assign(source, { ends })
}

/** A place that answers only once another one was asked. */
function waitingFor(name: string, other: { asked: Promise<void> }, read: BlockSource['read']) {
  return makeSource(name, data, {
    async read(from, sink, signal) {
      await other.asked
      await read(from, sink, signal)
    },
  })
}

/** A place and when it was first asked. */
function observed(name: string, read: BlockSource['read']) {
  const { promise: asked, resolve } = Promise.withResolvers<void>()
  const source = makeSource(name, data, {
    async read(from, sink, signal) {
      resolve()
      await read(from, sink, signal)
    },
  })
  return Object.assign(source, { asked })
}

/** A place that fails once the other one was asked; `ends` settles then. */
function failingAfter(other: { asked: Promise<void> }) {
  const { promise: ends, resolve } = Promise.withResolvers<void>()
  const source = makeSource('first', data, {
    async read() {
      await other.asked
      resolve()
      throw failure('unreachable')
    },
  })
  return Object.assign(source, { ends })
}

const good: BlockSource['read'] = (from, sink) => deliver(data, from, data.length, sink)

const untilAborted: BlockSource['read'] = async (_from, _sink, signal) => {
  await aborted(signal)
  throw signal.reason
}

describe('a place that is slow to its first byte', () => {
  test('is raced by the next one, ended when that is faster, and asked last from then on', async () => {
    const [slow, next] = [silent('slow'), makeSource('next', data)]
    const { bytes, failed, hedges, failovers, failures } = await run([slow, next])
    await slow.ends
    assert.equal(failed, undefined)
    assert.ok(bytes.equals(data))
    assert.deepEqual(hedges, [{ source: 'slow', rival: 'next', won: true }])
    assert.deepEqual(failovers, [])
    assert.deepEqual([failures.has('slow'), failures.has('next')], [true, false])
  })

  test('goes on where its byte comes first, and the other one is ended', async () => {
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    const rival = observed('rival', async (from, sink, signal) => {
      await untilAborted(from, sink, signal).finally(resolve)
    })
    const { bytes, hedges, failures } = await run([waitingFor('late', rival, good), rival])
    await ended
    assert.ok(bytes.equals(data))
    assert.deepEqual(hedges, [{ source: 'late', rival: 'rival', won: false }])
    assert.deepEqual([failures.has('late'), failures.has('rival')], [false, false])
  })

  test('is asked once more where there is no other, if that is another connection', async () => {
    let asked = 0
    const moody = makeSource('moody', data, {
      inParts: true,
      async read(from, sink, signal) {
        await (asked++ === 0 ? untilAborted : good)(from, sink, signal)
      },
    })
    const { bytes, hedges, failures } = await run([moody])
    assert.ok(bytes.equals(data))
    assert.deepEqual(hedges, [{ source: 'moody', rival: 'moody', won: true }])
    assert.equal(failures.has('moody'), false)
    const disk = silent('disk')
    assert.equal((await run([disk], { idleLimit: 30 })).failed, 'unreachable')
    assert.deepEqual(disk.reads, [0])
  })

  test('is left alone where the requests in vain are used up, and where it is off', async () => {
    const hedging = new Hedging(1)
    while (hedging.begin());
    for (const options of [{ hedging }, { hedging: undefined }]) {
      const [slow, next] = [silent('slow'), makeSource('next', data)]
      const { bytes, hedges, failovers } = await run([slow, next], { idleLimit: 30, ...options })
      assert.ok(bytes.equals(data))
      assert.deepEqual([hedges, failovers], [[], ['slow unreachable']])
    }
  })

  test('is raced, too, where a body that broke is read on', async () => {
    let asked = 0
    const breaks = makeSource('breaks', data, {
      async read(from, sink, signal) {
        if (asked++ > 0) return untilAborted(from, sink, signal)
        await deliver(data, 0, 50_000, sink)
        throw failure('unreachable', 50_000)
      },
    })
    const next = makeSource('next', data)
    const { bytes, hedges } = await run([breaks, next])
    assert.ok(bytes.equals(data))
    assert.deepEqual(next.reads, [50_000])
    assert.deepEqual(hedges, [{ source: 'breaks', rival: 'next', won: true }])
  })

  test('may still be the one that has the block', async () => {
    let asked = 0
    const slow = makeSource('slow', data, {
      async read(from, sink, signal) {
        await (asked++ === 0 ? untilAborted : good)(from, sink, signal)
      },
    })
    const { bytes, failovers } = await run([slow, breaking('next', data, 100_000)])
    assert.ok(bytes.equals(data))
    assert.equal(failovers.at(-1), 'next unreachable')
    assert.deepEqual(slow.reads, [0, 100_000])
  })

  test('leaves the rival to be tried next, where it goes on and breaks', async () => {
    const rival = observed('rival', async (from, sink, signal) => {
      if (from === 0) return untilAborted(from, sink, signal)
      await good(from, sink, signal)
    })
    const late = waitingFor('late', rival, async (from, sink) => {
      await deliver(data, from, 100_000, sink)
      throw failure('changed', 100_000)
    })
    const { bytes, failovers } = await run([late, rival])
    assert.ok(bytes.equals(data))
    assert.deepEqual(failovers, ['late changed'])
    assert.deepEqual(rival.reads, [0, 100_000])
  })
})

test('a place that was outrun before races the next one, where that is silent', async () => {
  const failures = new FailureMemory()
  failures.add('first')
  const { bytes, hedges } = await run([makeSource('first', data), silent('second')], { failures })
  assert.ok(bytes.equals(data))
  assert.deepEqual(hedges, [{ source: 'second', rival: 'first', won: true }])
})

test('where a rival fails, the one after it is asked', async () => {
  const slow = silent('slow')
  const { bytes, hedges } = await run([
    slow,
    failing('b', data, 'gone'),
    failing('c', data, 'unreachable'),
    makeSource('d', data),
  ])
  assert.ok(bytes.equals(data))
  assert.deepEqual(hedges, [{ source: 'slow', rival: 'd', won: true }])
})

test('a rival that is all there is, as the first one has failed, was not in vain', async () => {
  const hedging = new Hedging(1)
  for (let i = 0; i < 20; i++) {
    const rival = observed('rival', async (from, sink, signal) => {
      await first.ends
      await setImmediate()
      await good(from, sink, signal)
    })
    const first = failingAfter(rival)
    assert.ok((await run([first, rival], { hedging })).bytes.equals(data))
    assert.deepEqual(rival.reads, [0])
  }
  for (let i = 0; i < 16; i++) assert.ok(hedging.begin(), `${i} are left`)
})

describe('what is said of a block whose places are raced', () => {
  const cases: [string, () => BlockSource[], string | undefined][] = [
    ['all are gone', () => [failing('a', data, 'gone'), failing('b', data, 'gone')], 'not-found'],
    [
      'one is silent, the other gone',
      () => [silent('a'), failing('b', data, 'gone')],
      'unreachable',
    ],
    [
      'one is gone, the other silent',
      () => [failing('a', data, 'gone'), silent('b')],
      'unreachable',
    ],
    ['both are silent', () => [silent('a'), silent('b')], 'unreachable'],
    ['one stops half-way', () => [silent('a'), stalling('b', data, 9)], 'unreachable'],
    [
      'one is silent, one gone, one good',
      () => {
        return [silent('a'), failing('b', data, 'gone'), makeSource('c', data)]
      },
      undefined,
    ],
  ]
  for (const [name, places, outcome] of cases) {
    test(`${name}: ${outcome ?? 'the block'}`, async () => {
      assert.equal((await run(places(), { idleLimit: 40 })).failed, outcome)
    })
  }

  test('the first is found gone while its rival is on the way: the rival is enough', async () => {
    const { promise: gone, resolve: begun } = Promise.withResolvers<void>()
    const rival = observed('rival', async (from, sink, signal) => {
      await gone
      for (let i = 0; i < 5; i++) await setImmediate()
      await good(from, sink, signal)
    })
    const first = makeSource('first', data, {
      async read() {
        await rival.asked
        begun()
        throw failure('gone')
      },
    })
    const { bytes, failovers } = await run([first, rival])
    assert.ok(bytes.equals(data))
    assert.deepEqual(failovers, ['first gone'])
  })

  test('wrong bytes of the faster one are not sent, and the slower one is read', async () => {
    const block = makeBlock(1000)
    let asked = 0
    const slow = makeSource('slow', block.data, {
      async read(from, sink, signal) {
        if (asked++ === 0) return untilAborted(from, sink, signal)
        await deliver(block.data, from, 1000, sink)
      },
    })
    const chunks: Buffer[] = []
    await readBlock(
      {
        volumes: [
          makeVolume({
            blocks: { [block.hash]: [slow, makeSource('bad', corrupted(block.data, 5))] },
          }),
        ],
        hash: block.hash,
        signal: new AbortController().signal,
        failures: new FailureMemory(),
        idleLimit: 60_000,
        hedging: new Hedging(1),
      },
      { begin() {}, write: (chunk) => void chunks.push(Buffer.from(chunk)) },
    )
    assert.ok(Buffer.concat(chunks).equals(block.data))
  })

  test('the client going away ends both', async () => {
    const controller = new AbortController()
    const second = observed('b', untilAborted)
    const first = silent('a')
    const reading = run([first, second], { signal: controller.signal })
    await second.asked
    controller.abort('gone home')
    assert.equal((await reading).failed, 'gone home')
    await first.ends
  })
})

test('whatever is raced: a whole answer is right, and no outage becomes "not found"', async () => {
  const kind = fc.constantFrom('good', 'silent', 'gone', 'unreachable', 'breaks', 'late')
  await fc.assert(
    fc.asyncProperty(fc.array(kind, { maxLength: 5 }), fc.nat(data.length), async (kinds, at) => {
      const places = kinds.map((each, i) => {
        if (each === 'silent') return silent(`${i}`)
        if (each === 'breaks') return breaking(`${i}`, data, at)
        if (each === 'gone' || each === 'unreachable') return failing(`${i}`, data, each)
        if (each === 'good') return makeSource(`${i}`, data)
        return makeSource(`${i}`, data, {
          async read(from, sink) {
            await new Promise((resolve) => setTimeout(resolve, 3))
            await deliver(data, from, data.length, sink)
          },
        })
      })
      const { bytes, failed } = await run(places, { idleLimit: 15 })
      if (failed === undefined) assert.ok(bytes.equals(data))
      else assert.ok(bytes.length < data.length)
      if (kinds.includes('good') || kinds.includes('late')) assert.equal(failed, undefined)
      else if (kinds.every((each) => each === 'gone')) assert.equal(failed, 'not-found')
      else
        assert.equal(
          failed,
          at === data.length && kinds.includes('breaks') ? undefined : 'unreachable',
        )
    }),
    runs(60),
  )
})
