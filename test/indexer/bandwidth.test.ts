import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { type BandwidthClock, BandwidthLimit, shareBandwidth } from '../../src/indexer/bandwidth.ts'
import { runs } from '../fuzz.ts'

/** Time that passes only when it is told to. */
class FakeClock implements BandwidthClock {
  #now = 5_000_000_000n
  readonly #sleepers: { at: bigint; wake: () => void }[] = []

  now(): bigint {
    return this.#now
  }

  sleep(milliseconds: number): Promise<void> {
    const at = this.#now + BigInt(milliseconds) * 1_000_000n
    return new Promise((wake) => this.#sleepers.push({ at, wake }))
  }

  /** Lets a time of so many milliseconds pass, one after the other. */
  async pass(milliseconds: number): Promise<void> {
    for (let i = 0; i < milliseconds; i++) {
      this.#now += 1_000_000n
      for (const sleeper of this.#sleepers.splice(0)) {
        if (sleeper.at <= this.#now) sleeper.wake()
        else this.#sleepers.push(sleeper)
      }
      await setImmediate()
    }
  }
}

describe('a bandwidth limit', () => {
  it('holds nobody back below the limit', async () => {
    const clock = new FakeClock()
    const limit = new BandwidthLimit(shareBandwidth(1_000_000), clock)
    for (let i = 0; i < 50; i++) {
      assert.equal(limit.take(10_000), undefined)
      await clock.pass(10)
    }
  })

  it('saves up no more than a tenth of a second', async () => {
    const clock = new FakeClock()
    const limit = new BandwidthLimit(shareBandwidth(1_000_000), clock)
    await clock.pass(5000)
    assert.equal(limit.take(100_000), undefined)
    assert.notEqual(limit.take(1), undefined)
  })

  it('holds back for as long as the bytes take', async () => {
    const clock = new FakeClock()
    const limit = new BandwidthLimit(shareBandwidth(1_000_000), clock)
    let isOver = false
    const pause = limit.take(350_000)?.then(() => {
      isOver = true
    })
    await clock.pass(249)
    assert.equal(isOver, false)
    await clock.pass(1)
    await pause
    assert.equal(isOver, true)
  })

  it('holds a reader back for a sink and itself, whichever takes longer', async () => {
    const clock = new FakeClock()
    const limit = new BandwidthLimit(shareBandwidth(1_000_000), clock)
    const taken: number[] = []
    const quick = limit.before((chunk) => void taken.push(chunk.length))
    const slow = limit.before((chunk) => clock.sleep(500).then(() => void taken.push(chunk.length)))
    const failing = limit.before(async () => {
      throw new Error('it broke')
    })
    assert.equal(quick(new Uint8Array(100_000)), undefined)
    const over: string[] = []
    const both = [
      Promise.resolve(quick(new Uint8Array(200_000))).then(() => over.push('quick')),
      Promise.resolve(slow(new Uint8Array(100_000))).then(() => over.push('slow')),
    ]
    await assert.rejects(Promise.resolve(failing(new Uint8Array(1))), /it broke/)
    await clock.pass(199)
    assert.deepEqual(over, [])
    await clock.pass(300)
    assert.deepEqual(over, ['quick'])
    await clock.pass(1)
    await Promise.all(both)
    assert.deepEqual(taken, [100_000, 200_000, 100_000])
  })

  it('lets through what it is to, however many threads and readers there are', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 65_536, max: 100_000_000 }),
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 262_144 }),
        async (bytesPerSecond, threads, chunk) => {
          const clock = new FakeClock()
          const share = shareBandwidth(bytesPerSecond)
          // A chunk a millisecond is as fast as these readers are.
          const readers = threads.reduce((a, b) => a + b)
          let bytes = 0
          const read = async (limit: BandwidthLimit): Promise<void> => {
            for (;;) {
              await clock.sleep(1)
              bytes += chunk
              await limit.take(chunk)
            }
          }
          for (const count of threads) {
            const limit = new BandwidthLimit(share, clock)
            for (let i = 0; i < count; i++) void read(limit)
          }
          const seconds = 2
          await clock.pass(seconds * 1000)
          const most = bytesPerSecond * (seconds + 0.1) + readers * chunk
          assert.ok(bytes <= most, `${bytes} of ${most}`)
          // Each chunk takes a millisecond to come, and the clock counts in whole ones.
          const pace = Math.min(bytesPerSecond, (readers * chunk) / 0.001)
          const least = 0.3 * pace * seconds - readers * chunk
          assert.ok(bytes >= least, `${bytes} of at least ${least}`)
        },
      ),
      runs(20),
    )
  })

  it('counts every byte of threads that take at the same moment', async () => {
    const threads = 4
    const takes = 20_000
    const share = shareBandwidth(1e9)
    const source = `
      const { workerData } = require('node:worker_threads')
      import(workerData.module).then(({ BandwidthLimit }) => {
        const clock = { now: () => 1000000000n, sleep: async () => {} }
        const limit = new BandwidthLimit(workerData.share, clock)
        for (let i = 0; i < workerData.takes; i++) void limit.take(3)
      })`
    const module = new URL('../../src/indexer/bandwidth.ts', import.meta.url).href
    const workers = Array.from({ length: threads }, () => {
      return new Worker(source, { eval: true, workerData: { module, share, takes } })
    })
    const codes = await Promise.all(workers.map((worker) => once(worker, 'exit')))
    assert.deepEqual(codes.flat(), [0, 0, 0, 0])
    // A nanosecond a byte, from a tenth of a second before the clock's time.
    const [busyUntil] = new BigInt64Array(share.busyUntil)
    assert.equal(busyUntil, 900_000_000n + BigInt(3 * threads * takes))
  })
})
