import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { Pacer, type PacerClock } from '../../../src/remote/s3/pacer.ts'
import { runs } from '../../fuzz.ts'

/** Time that passes only when it is told to. */
class FakeClock implements PacerClock {
  #now = 0
  #timers: { at: number; run: () => void }[] = []

  now(): number {
    return this.#now
  }

  setTimer(run: () => void, delay: number): unknown {
    const timer = { at: this.#now + delay, run }
    this.#timers.push(timer)
    return timer
  }

  clearTimer(timer: unknown): void {
    this.#timers = this.#timers.filter((other) => other !== timer)
  }

  get pending(): number {
    return this.#timers.length
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(resolve, milliseconds))
  }

  /** Lets so much time pass, and what is due happen in order. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds
    for (;;) {
      await setImmediate()
      const next = this.#timers.toSorted((a, b) => a.at - b.at)[0]
      if (next === undefined || next.at > end) break
      this.clearTimer(next)
      this.#now = Math.max(this.#now, next.at)
      next.run()
    }
    this.#now = end
  }
}

/** A store that lets so many requests through a second, and refuses the others. */
class Store {
  capacity: number
  readonly #clock: FakeClock
  readonly #latency: number
  #room = 0
  #filledAt = 0
  #asked = 0
  admitted = 0
  refused = 0

  constructor(clock: FakeClock, capacity: number, latency: number) {
    this.#clock = clock
    this.capacity = capacity
    this.#latency = latency
  }

  async ask(): Promise<boolean> {
    const now = this.#clock.now()
    const burst = Math.max(3, this.capacity / 5)
    this.#room = Math.min(burst, this.#room + ((now - this.#filledAt) * this.capacity) / 1000)
    this.#filledAt = now
    const isIn = this.#room >= 1
    if (isIn) this.#room -= 1
    // Were all answers to take the same time, a lane could fall in step with the refusals for ever.
    const jitter = (this.#asked++ * 0.618) % 1
    await this.#clock.sleep(this.#latency * (0.5 + jitter))
    if (isIn) this.admitted += 1
    else this.refused += 1
    return isIn
  }
}

/** Asks one request after the other, `lanes` at once, until stopped. */
function ask(pacer: Pacer, store: Store, lanes: number) {
  const admitted = Array.from({ length: lanes }, () => 0)
  let running = true
  const lane = async (index: number): Promise<void> => {
    while (running) {
      await pacer.turn()
      if (await store.ask()) {
        admitted[index]! += 1
        pacer.succeeded()
      } else {
        pacer.throttled()
      }
    }
  }
  for (let index = 0; index < lanes; index++) void lane(index)
  return {
    admitted,
    stop: () => {
      running = false
    },
  }
}

/** Returns how many turns there are in so much time, for one who takes every one. */
async function countTurns(pacer: Pacer, clock: FakeClock, milliseconds: number): Promise<number> {
  let turns = 0
  let running = true
  const take = async (): Promise<void> => {
    while (running) {
      await pacer.turn()
      if (running) turns += 1
    }
  }
  void take()
  await clock.pass(milliseconds)
  running = false
  return turns
}

/** Has the pacer see so many answers in the last second. */
async function answer(pacer: Pacer, clock: FakeClock, perSecond: number): Promise<void> {
  for (let i = 0; i < perSecond; i++) {
    await clock.pass(1000 / perSecond)
    pacer.succeeded()
  }
}

describe('a pacer', () => {
  it('holds nobody back before the store has throttled', async () => {
    const pacer = new Pacer(new FakeClock())
    for (let i = 0; i < 10_000; i++) {
      assert.equal(pacer.turn(), undefined)
      pacer.succeeded()
    }
  })

  it('falls below what the store had let through', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    await answer(pacer, clock, 100)
    pacer.throttled()
    const turns = await countTurns(pacer, clock, 1000)
    assert.ok(turns >= 60 && turns <= 76, `${turns}`)
  })

  it('counts a burst of refusals once', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    await answer(pacer, clock, 100)
    for (let i = 0; i < 50; i++) pacer.throttled()
    const turns = await countTurns(pacer, clock, 1000)
    assert.ok(turns >= 60, `${turns}`)
  })

  it('falls again where the lower rate is too much as well', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    await answer(pacer, clock, 100)
    pacer.throttled()
    await clock.pass(1100)
    pacer.throttled()
    const turns = await countTurns(pacer, clock, 1000)
    assert.ok(turns <= 60, `${turns}`)
  })

  it('is unlimited again when the store lets everything through', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    const store = new Store(clock, 1e9, 10)
    pacer.throttled()
    const lanes = ask(pacer, store, 8)
    await clock.pass(60_000)
    lanes.stop()
    assert.equal(pacer.turn(), undefined)
    await clock.pass(100)
    assert.equal(clock.pending, 0)
    const before = store.admitted
    const again = ask(pacer, store, 8)
    await clock.pass(1000)
    again.stop()
    assert.ok(store.admitted - before >= 780, 'eight lanes with answers after 10 ms')
  })

  it('waits as long as Retry-After says, and no longer than 20 s', async () => {
    for (const [retryAfter, seconds] of [
      [5, 5],
      [1e9, 20],
    ] as const) {
      const clock = new FakeClock()
      const pacer = new Pacer(clock)
      await answer(pacer, clock, 100)
      pacer.throttled(retryAfter)
      assert.equal(await countTurns(pacer, clock, seconds * 1000 - 1), 0)
      assert.ok((await countTurns(pacer, clock, 1000)) > 0)
    }
  })

  it('starts slowly behind a Retry-After', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    await answer(pacer, clock, 100)
    pacer.throttled(15)
    await clock.pass(15_001)
    pacer.succeeded()
    const turns = await countTurns(pacer, clock, 1000)
    assert.ok(turns <= 80, `${turns}`)
  })

  it('takes a Retry-After that is none for none', async () => {
    for (const retryAfter of [undefined, Number.NaN, -1, 0]) {
      const clock = new FakeClock()
      const pacer = new Pacer(clock)
      await answer(pacer, clock, 100)
      pacer.throttled(retryAfter)
      assert.ok((await countTurns(pacer, clock, 1000)) >= 60)
    }
  })

  it('lets go in the order of asking, and leaves no timer behind', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    pacer.throttled()
    const order: number[] = []
    const all = Array.from({ length: 5 }, async (_, i) => {
      await pacer.turn()
      order.push(i)
    })
    await clock.pass(10_000)
    await Promise.all(all)
    assert.deepEqual(order, [0, 1, 2, 3, 4])
    assert.equal(clock.pending, 0)
  })

  it('leaves no timer behind for those who went away, and lets the others go', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    pacer.throttled()
    const gone = new AbortController()
    const reason = new Error('gone')
    const first = assert.rejects(pacer.turn(gone.signal)!, reason)
    const second = pacer.turn()
    gone.abort(reason)
    await first
    assert.equal(clock.pending, 1)
    await clock.pass(2000)
    await second
    assert.equal(clock.pending, 0)
    await assert.rejects(Promise.resolve(pacer.turn(gone.signal)), reason)
  })

  it('lets nobody wait once it is closed', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    pacer.throttled()
    const reason = new Error('closed')
    const both = [pacer.turn()!, pacer.turn()!].map((turn) => assert.rejects(turn, reason))
    pacer.close(reason)
    await Promise.all(both)
    assert.equal(clock.pending, 0)
    await assert.rejects(Promise.resolve(pacer.turn()), reason)
  })

  it('goes on asking a store that refuses everything', async () => {
    const clock = new FakeClock()
    const pacer = new Pacer(clock)
    const store = new Store(clock, 0, 20)
    const lanes = ask(pacer, store, 4)
    await clock.pass(60_000)
    lanes.stop()
    assert.ok(store.refused >= 50 && store.refused <= 80, `${store.refused}`)
  })

  it('finds a store’s capacity, with few refusals, and shares it out evenly', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 10, max: 150 }),
        fc.integer({ min: 10, max: 300 }),
        fc.integer({ min: 4, max: 64 }),
        async (capacity, latency, count) => {
          const clock = new FakeClock()
          const pacer = new Pacer(clock)
          const store = new Store(clock, capacity, latency)
          const lanes = ask(pacer, store, count)
          await clock.pass(10_000)
          store.admitted = 0
          store.refused = 0
          const before = lanes.admitted.slice()
          await clock.pass(40_000)
          lanes.stop()
          const possible = Math.min(capacity, (count * 1000) / latency)
          const rate = store.admitted / 40
          const told = `${rate}/s of ${possible}/s, ${store.refused} refused of ${store.admitted}`
          assert.ok(rate >= 0.6 * possible, told)
          assert.ok(store.refused <= 0.3 * store.admitted, told)
          const shares = lanes.admitted.map((admitted, i) => admitted - before[i]!)
          const fair = store.admitted / count
          assert.ok(Math.min(...shares) >= 0.3 * fair - 3, `${shares}`)
        },
      ),
      runs(30),
    )
  })
})
