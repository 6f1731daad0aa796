import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { RemoteError, type Sink } from '../../src/remote/remote.ts'
import { Piece } from '../../src/volume/piece.ts'
import { ReadAhead } from '../../src/volume/read-ahead.ts'
import { readSliced } from '../../src/volume/sliced-read.ts'
import type { BlockSource } from '../../src/volume/volume.ts'
import { runs } from '../fuzz.ts'
import { aborted, deliver, deliverInto, failure, makeBlock, makeSource } from './fakes.ts'

const PIECE = 1000
const { data } = makeBlock(20 * PIECE)
const never = new AbortController().signal

/** A request for a part of the block. */
interface Asked {
  from: number
  to: number
  signal: AbortSignal
}

/** A source in parts, and what was asked of it. `read` has what each request does. */
function inParts(read?: BlockSource['read'], store = 'store') {
  const asked: Asked[] = []
  const source = makeSource('a', data, {
    inParts: true,
    store,
    read(from, sink, signal, to = data.length) {
      asked.push({ from, to, signal })
      return (read ?? whole)(from, sink, signal, to)
    },
  })
  return { source, asked }
}

const whole: BlockSource['read'] = (from, sink, _signal, to) => deliver(data, from, to!, sink)

function collect(): { sink: Sink; bytes(): Buffer } {
  const chunks: Buffer[] = []
  return {
    sink: (chunk) => void chunks.push(Buffer.from(chunk)),
    bytes: () => Buffer.concat(chunks),
  }
}

/** Time that stands still until a test looks at reads in its place. */
function makeClock() {
  const clock = {
    time: 0,
    idleTime: 0,
    looks: new Set<() => void>(),
    now: () => clock.time,
    idle: () => clock.idleTime,
    every(_ms: number, call: () => void) {
      clock.looks.add(call)
      return () => void clock.looks.delete(call)
    },
    /** Lets time pass, of which a part was idle, and has every read looked at. */
    pass(ms: number, idle = ms) {
      clock.time += ms
      clock.idleTime += idle
      for (const look of clock.looks) look()
    },
  }
  return clock
}

function shared(buffers: number, clock = makeClock()): ReadAhead {
  return new ReadAhead({ bytes: buffers * PIECE, pieceBytes: PIECE, clock })
}

/** True if no memory is missing. */
function isWhole(ahead: ReadAhead, buffers: number): boolean {
  const all = Array.from({ length: buffers }, () => ahead.take(0))
  return all.every(Boolean) && ahead.take(0) === undefined
}

describe('a block in pieces', () => {
  test('arrives in order when its pieces come in any other', async () => {
    const gates: (() => void)[] = []
    const { source, asked } = inParts(async (from, sink, _signal, to) => {
      await new Promise<void>((resolve) => gates.unshift(resolve))
      await deliver(data, from, to!, sink)
    })
    const { sink, bytes } = collect()
    const reading = readSliced(shared(8), source, 0, sink, never)
    while (bytes().length < data.length) {
      assert.equal(bytes().length % PIECE, 0)
      gates.shift()?.()
      await setImmediate()
    }
    await reading
    assert.ok(bytes().equals(data))
    assert.deepEqual(
      asked.map(({ from, to }) => [from, to]),
      Array.from({ length: 20 }, (_, i) => [i * PIECE, (i + 1) * PIECE]),
    )
  })

  test('begins at any byte', async () => {
    const { source } = inParts()
    const { sink, bytes } = collect()
    await readSliced(shared(4), source, 3500, sink, never)
    assert.ok(bytes().equals(data.subarray(3500)))
  })

  test('lets each request come to its own end, so that its connection can be used again', async () => {
    const cut: number[] = []
    const { source } = inParts(async (from, sink, signal, to) => {
      await whole(from, sink, signal, to)
      for (let i = 0; i < 3; i++) await setImmediate()
      if (signal.aborted) cut.push(from)
    })
    await readSliced(shared(4), source, 0, collect().sink, never)
    for (let i = 0; i < 4; i++) await setImmediate()
    assert.deepEqual(cut, [])
  })

  test('gives the sink what came before a failure, and then the failure', async () => {
    const { source, asked } = inParts(async (from, sink, signal, to) => {
      if (from !== 3 * PIECE) return whole(from, sink, signal, to)
      await deliver(data, from, from + 400, sink)
      throw failure('changed', 400)
    })
    const ahead = shared(4)
    const { sink, bytes } = collect()
    await assert.rejects(readSliced(ahead, source, 0, sink, never), { failure: 'changed' })
    assert.ok(bytes().equals(data.subarray(0, 3400)))
    assert.ok(asked.slice(4).every(({ signal }) => signal.aborted))
    await setImmediate()
    assert.ok(isWhole(ahead, 4))
  })

  test('does not go on behind a piece that is short', async () => {
    const { source } = inParts(async (from, sink, _signal, to) => {
      await deliver(data, from, from === 2 * PIECE ? to! - 1 : to!, sink)
    })
    const { sink, bytes } = collect()
    await assert.rejects(readSliced(shared(4), source, 0, sink, never), (error) => {
      return error instanceof RemoteError && error.failure === 'unreachable'
    })
    assert.ok(bytes().equals(data.subarray(0, 3 * PIECE - 1)))
  })

  test('keeps to its bytes where a piece is too long', async () => {
    const { source } = inParts((from, sink) => deliver(data, from, data.length, sink))
    const { sink, bytes } = collect()
    await readSliced(shared(4), source, 0, sink, never)
    assert.ok(bytes().equals(data))
  })

  test('ends all requests when nobody waits any more', async () => {
    const { source, asked } = inParts(async (_from, _sink, signal) => {
      await aborted(signal)
      throw signal.reason
    })
    const controller = new AbortController()
    const ahead = shared(4)
    const reading = readSliced(ahead, source, 0, () => {}, controller.signal)
    const gone = new Error('gone')
    controller.abort(gone)
    await assert.rejects(reading, gone)
    assert.deepEqual(
      asked.map(({ signal }) => signal.aborted),
      Array(5).fill(true),
    )
    await setImmediate()
    assert.ok(isWhole(ahead, 4))
  })

  test('ends all requests when its sink breaks', async () => {
    const broken = new Error('disk full')
    const { source, asked } = inParts()
    const ahead = shared(4)
    let calls = 0
    const sink = async () => {
      if (++calls === 3) throw broken
    }
    await assert.rejects(readSliced(ahead, source, 0, sink, never), broken)
    assert.ok(asked.length < 10)
    await setImmediate()
    assert.ok(isWhole(ahead, 4))
  })

  test('has no buffer taken away that its request may still write to', async () => {
    const { promise: late, resolve: settle } = Promise.withResolvers<void>()
    const { source } = inParts(() => late)
    const ahead = shared(2)
    const controller = new AbortController()
    const reading = readSliced(ahead, source, 0, () => {}, controller.signal)
    controller.abort()
    await assert.rejects(reading)
    await setImmediate()
    assert.equal(ahead.hasRoom(0), false)
    settle()
    await setImmediate()
    assert.ok(isWhole(ahead, 2))
  })
})

describe('memory', () => {
  test('a client that takes nothing has no more pieces than its share', async () => {
    const ahead = shared(6)
    const clients = Array.from({ length: 3 }, () => {
      const { source, asked } = inParts()
      const { promise: stalled, resolve: goOn } = Promise.withResolvers<void>()
      const reading = readSliced(ahead, source, 0, () => stalled, never)
      return { asked, reading, goOn }
    })
    for (let i = 0; i < 20; i++) await setImmediate()
    // The piece whose turn it is, and what the first to come found free.
    assert.deepEqual(
      clients.map(({ asked }) => asked.length),
      [7, 1, 1],
    )
    for (const { goOn } of clients) goOn()
    await Promise.all(clients.map(({ reading }) => reading))
    assert.ok(isWhole(ahead, 6))
  })

  test('a client that takes nothing for a second leaves its pieces to others', async () => {
    const clock = makeClock()
    const ahead = shared(4, clock)
    const gate = Promise.withResolvers<void>()
    const { source, asked } = inParts()
    const { sink, bytes } = collect()
    let isOpen = false
    const slow = readSliced(
      ahead,
      source,
      0,
      (chunk) => {
        sink(chunk)
        if (!isOpen) return gate.promise
      },
      never,
    )
    await setImmediate()
    assert.equal(ahead.hasRoom(0), false)
    for (let look = 0; look < 50; look++) clock.pass(25)
    await setImmediate()
    assert.ok(isWhole(ahead, 4))
    assert.ok(asked.slice(1).every(({ signal }) => signal.aborted))
    for (let at = 0; at < 4; at++) ahead.give(Buffer.alloc(PIECE))
    isOpen = true
    gate.resolve()
    await slow
    assert.ok(bytes().equals(data))
    assert.ok(isWhole(ahead, 4))
  })

  test('is shared out among those who read at the same time', async () => {
    const ahead = shared(8)
    const open = new Set<Asked>()
    const most = new Map<BlockSource, number>()
    const readers = Array.from({ length: 4 }, () => {
      const { source } = inParts(async (from, sink, signal, to) => {
        const asked = { from, to: to!, signal }
        open.add(asked)
        await setImmediate()
        await deliver(data, from, to!, sink)
        open.delete(asked)
      })
      most.set(source, 0)
      return readSliced(
        ahead,
        source,
        0,
        async () => {
          assert.ok(open.size <= 8 + 4)
          await setImmediate()
        },
        never,
      )
    })
    await Promise.all(readers)
    assert.ok(isWhole(ahead, 8))
  })
})

describe('a block of a fast store', () => {
  /** What is known of a store that the last read did not have to wait for. */
  function fast() {
    const ahead = shared(4)
    ahead.note(inParts().source, false)
    return ahead
  }

  test('is one request after the other, the next one as soon as the one before has begun to come', async () => {
    const ahead = fast()
    const gates: (() => void)[] = []
    const { source, asked } = inParts(async (from, sink, _signal, to) => {
      const gate = Promise.withResolvers<void>()
      gates.push(gate.resolve)
      await deliver(data, from, from + 300, sink)
      await gate.promise
      await deliver(data, from + 300, to!, sink)
    })
    const { sink, bytes } = collect()
    const reading = readSliced(ahead, source, 0, sink, never)
    for (const [at, [from, to]] of [
      [0, 1],
      [1, 4],
      [4, 7],
      [7, 10],
      [10, 13],
      [13, 16],
      [16, 20],
    ].entries()) {
      await setImmediate()
      assert.equal(bytes().length, from! * PIECE + 300, 'the next one waits for its turn')
      assert.deepEqual([asked[at]!.from, asked[at]!.to], [from! * PIECE, to! * PIECE])
      assert.equal(asked.length, Math.min(7, at + 2))
      gates[at]!()
    }
    await reading
    assert.ok(bytes().equals(data))
    assert.ok(isWhole(ahead, 4), 'no memory was used')
  })

  test('is asked for once more, in one request, where the next one broke before its turn', async () => {
    for (const isLasting of [false, true]) {
      const gate = Promise.withResolvers<void>()
      let isBroken = true
      const { source, asked } = inParts(async (from, sink, _signal, to) => {
        if (from > 0 && isBroken) {
          isBroken = isLasting
          throw failure('unreachable', 0)
        }
        await deliver(data, from, from + 300, sink)
        if (from === 0) await gate.promise
        await deliver(data, from + 300, to!, sink)
      })
      const { sink, bytes } = collect()
      const reading = readSliced(fast(), source, 0, sink, never)
      await setImmediate()
      gate.resolve()
      if (isLasting) await assert.rejects(reading, RemoteError)
      else await reading
      assert.ok(bytes().equals(isLasting ? data.subarray(0, PIECE) : data))
      assert.deepEqual(
        asked.map(({ from, to }) => [from, to]),
        [
          [0, PIECE],
          [PIECE, 4 * PIECE],
          [PIECE, data.length],
        ],
      )
    }
  })

  test('is in order where a request broke that waited before pieces in memory', async () => {
    const clock = makeClock()
    const ahead = shared(12, clock)
    ahead.note(inParts().source, false)
    const gate = Promise.withResolvers<void>()
    const held = Promise.withResolvers<void>()
    const { source, asked } = inParts(async (from, sink, signal, to) => {
      if (from === 12 * PIECE && to === 15 * PIECE) {
        await held.promise
        throw failure('unreachable', 0)
      }
      if (from !== 9 * PIECE) return await deliver(data, from, to!, sink)
      await deliver(data, from, from + 300, sink)
      await Promise.race([gate.promise, aborted(signal)])
      await deliver(data, from + 300, to!, sink)
    })
    const { sink, bytes } = collect()
    const reading = readSliced(ahead, source, 8 * PIECE, sink, never)
    for (let i = 0; i < 8; i++) await setImmediate()
    clock.pass(25)
    clock.pass(25)
    assert.ok(asked.length === 8, 'pieces lie behind what waits')
    held.resolve()
    await setImmediate()
    gate.resolve()
    await reading
    assert.ok(bytes().equals(data.subarray(8 * PIECE)))
    assert.ok(isWhole(ahead, 12))
  })

  test('holds nothing ahead for a client that takes more than five seconds for a piece', async () => {
    const clock = makeClock()
    const ahead = shared(4, clock)
    ahead.note(inParts().source, false)
    const gates: (() => void)[] = []
    const { source, asked } = inParts(async (from, sink, _signal, to) => {
      for (let at = from; at < to!; at += 100) await deliver(data, at, at + 100, sink)
    })
    const { sink, bytes } = collect()
    const take = (chunk: Uint8Array) => {
      sink(chunk)
      return new Promise<void>((resolve) => gates.push(resolve))
    }
    const reading = readSliced(ahead, source, 0, take, never)
    // Never still for a second.
    for (let second = 0; second < 6; second++) {
      await setImmediate()
      for (let look = 0; look < 39; look++) clock.pass(25, 0)
      gates.shift()?.()
    }
    assert.deepEqual(
      asked.map(({ signal }) => signal.aborted),
      [false, true],
    )
    while (bytes().length < data.length) {
      await setImmediate()
      gates.shift()?.()
    }
    await reading
    assert.ok(bytes().equals(data))
    assert.equal(asked.length, 3)
  })

  test('waits with no request for a client that takes nothing for a second', async () => {
    const clock = makeClock()
    const ahead = shared(4, clock)
    ahead.note(inParts().source, false)
    const gate = Promise.withResolvers<void>()
    const { source, asked } = inParts()
    const { sink, bytes } = collect()
    const take = (chunk: Uint8Array) => {
      sink(chunk)
      return gate.promise
    }
    const reading = readSliced(ahead, source, 0, take, never)
    await setImmediate()
    assert.equal(asked.length, 2)
    for (let look = 0; look < 50; look++) clock.pass(25)
    assert.deepEqual(
      asked.map(({ signal }) => signal.aborted),
      [false, true],
    )
    gate.resolve()
    await reading
    assert.ok(bytes().equals(data))
    assert.deepEqual([asked.length, asked[2]!.from, asked[2]!.to], [3, PIECE, data.length])
  })

  test('leaves nothing behind when nobody waits for its rest', async () => {
    const gone = new AbortController()
    let under = 0
    const { source } = inParts(async (from, sink, signal) => {
      under += 1
      await deliver(data, from, from + 300, sink)
        .then(() => aborted(signal))
        .finally(() => {
          under -= 1
        })
    })
    const reading = readSliced(fast(), source, 0, () => {}, gone.signal)
    await setImmediate()
    assert.equal(under, 2)
    gone.abort(new Error('gone'))
    await assert.rejects(reading, /gone/)
    await setImmediate()
    assert.equal(under, 0)
  })

  test('is one where it is short, or not in parts, or where there is no memory', async () => {
    const { source, asked } = inParts()
    await readSliced(shared(4), source, 19_000, () => {}, never)
    await readSliced(shared(0), source, 0, () => {}, never)
    await readSliced(shared(4), { ...source, inParts: false }, 0, () => {}, never)
    assert.deepEqual(
      asked.map(({ from, to }) => [from, to]),
      [
        [19_000, 20_000],
        [0, 20_000],
        [0, 20_000],
      ],
    )
  })

  test('is so as long as the last one did not have to wait for the store', async () => {
    const ahead = shared(4)
    const { source, asked } = inParts()
    await readSliced(ahead, source, 0, () => {}, never)
    assert.equal(asked.length, 20, 'nothing was known of the store')
    await readSliced(ahead, source, 0, () => {}, never)
    assert.equal(asked.length, 27)
    const other = inParts(undefined, 'another store')
    await readSliced(ahead, other.source, 0, () => {}, never)
    assert.equal(other.asked.length, 20)
  })

  test('that is ended before it was looked at says nothing of the store', async () => {
    const ahead = shared(4)
    const gone = new AbortController()
    const { source, asked } = inParts((_from, _sink, signal) => aborted(signal))
    const reading = readSliced(ahead, source, 0, () => {}, gone.signal)
    gone.abort(new Error('another place was faster'))
    await assert.rejects(reading, /faster/)
    assert.ok(asked.length > 1)
    assert.equal(ahead.isFast(source), false)
  })

  /** A read from a store that counts as fast, which stops at a byte. */
  async function stopped({ at = 2500, sink }: { at?: number; sink?: Sink } = {}) {
    const clock = makeClock()
    const ahead = shared(4, clock)
    ahead.note(inParts().source, false)
    const { promise: gate, resolve: goOn } = Promise.withResolvers<void>()
    const { source, asked } = inParts(async (from, give, signal, to) => {
      if (at < from || at >= to!) return deliver(data, from, to!, give)
      await deliver(data, from, at, give)
      await Promise.race([gate, aborted(signal)])
      for (let next = at; next < to!; next += 100) {
        if (signal.aborted) throw signal.reason
        await give(data.subarray(next, next + 100))
      }
    })
    const got = collect()
    const reading = readSliced(ahead, source, 0, sink ?? got.sink, never)
    for (let i = 0; i < 20; i++) await setImmediate()
    return { clock, ahead, asked, goOn, reading, bytes: got.bytes }
  }

  test('becomes several when it is the store that is waited for', async () => {
    const { clock, ahead, asked, goOn, reading, bytes } = await stopped()
    clock.pass(25)
    assert.equal(asked.length, 3, 'a moment is nothing yet')
    clock.pass(25)
    assert.deepEqual(
      asked.map(({ from }) => from),
      [0, 1000, 4000, 7000, 8000, 9000, 10_000],
    )
    goOn()
    await reading
    assert.ok(bytes().equals(data))
    assert.equal(ahead.isFast(inParts().source), false)
  })

  test('has its last request, too, made several', async () => {
    const { clock, asked, goOn, reading, bytes } = await stopped({ at: 17_500 })
    clock.pass(25)
    clock.pass(25)
    assert.deepEqual(
      asked.slice(6).map(({ from }) => from),
      [16_000, 18_500, 19_500],
    )
    goOn()
    await reading
    assert.ok(bytes().equals(data))
    assert.equal(asked[6]!.signal.aborted, true, 'it is not read to its end')
  })

  test('becomes no more where the store is fast, the thread busy, or the client slow', async () => {
    const busy = await stopped()
    for (let i = 0; i < 5; i++) busy.clock.pass(25, 10)
    const { promise: stalled, resolve: take } = Promise.withResolvers<void>()
    const slow = await stopped({ sink: () => stalled })
    for (let i = 0; i < 5; i++) slow.clock.pass(25)
    assert.deepEqual([busy.asked.length, slow.asked.length], [3, 2])
    take()
    busy.goOn()
    slow.goOn()
    await Promise.all([busy.reading, slow.reading])
    assert.deepEqual([busy.asked.length, slow.asked.length], [7, 7])
    assert.equal(slow.ahead.isFast(inParts().source), true)
  })
})

test('whatever pieces do: the bytes are right, up to the first that failed', async () => {
  const fault = fc.record({ at: fc.nat(data.length - 1), kind: fc.constantFrom('break', 'end') })
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 300, max: 8000 }),
      fc.integer({ min: 1, max: 12 }),
      fc.nat(data.length - 1),
      fc.array(fault, { maxLength: 2 }),
      fc.array(fc.nat(4), { minLength: 1, maxLength: 7 }),
      fc.boolean(),
      fc.boolean(),
      async (pieceBytes, buffers, from, faults, delays, hasRoom, isFast) => {
        let turn = 0
        const pause = async () => {
          for (let i = delays[turn++ % delays.length]!; i > 0; i--) await setImmediate()
        }
        const { source } = inParts(async (start, sink, _signal, to) => {
          await pause()
          const hit = faults
            .filter(({ at }) => at >= start && at < to!)
            .sort((a, b) => a.at - b.at)[0]
          await (hasRoom ? deliverInto : deliver)(data, start, hit?.at ?? to!, sink)
          if (hit?.kind === 'break') throw failure('unreachable', hit.at - start)
        })
        const ahead = new ReadAhead({ bytes: buffers * pieceBytes, pieceBytes })
        if (isFast) ahead.note(source, false)
        const got = collect()
        const own = Buffer.alloc(777)
        const sink: Sink = Object.assign(
          async (chunk: Uint8Array) => {
            got.sink(chunk)
            await pause()
          },
          hasRoom ? { room: () => own } : {},
        )
        const reach = Math.min(
          data.length,
          ...faults.map(({ at }) => at).filter((at) => at >= from),
        )
        const reading = readSliced(ahead, source, from, sink, never)
        if (reach === data.length) await reading
        else await reading.catch((error) => assert.equal(error.failure, 'unreachable'))
        assert.ok(got.bytes().equals(data.subarray(from, reach)))
        for (let i = 0; i < 8; i++) await setImmediate()
        assert.ok(isWhole(ahead, buffers))
      },
    ),
    runs(150),
  )
})

test('a piece that has all its bytes offers no memory for more: the next one has it', async () => {
  const { promise: asked, resolve } = Promise.withResolvers<Sink>()
  const { source } = inParts((_from, sink, signal) => {
    resolve(sink)
    return aborted(signal)
  })
  const room = Buffer.alloc(PIECE)
  const piece = new Piece(
    source,
    0,
    data.length,
    Object.assign(() => {}, { room: () => room }),
  )
  const sink = await asked
  await sink(data.subarray(0, 100))
  assert.equal(sink.room?.(), room)
  piece.endAt(PIECE)
  await sink(data.subarray(100, 2 * PIECE))
  // TLS delivers what it has at hand even when the request was ended meanwhile.
  assert.equal(sink.room?.(), undefined)
  await piece.stop()
})
