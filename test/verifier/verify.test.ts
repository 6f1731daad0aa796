import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { HashPool } from '../../src/indexer/hash-pool.ts'
import type { MappingReader, Place } from '../../src/mapping/mapping.ts'
import { verifyBlocks } from '../../src/verifier/verify.ts'

const HASH = '0'.repeat(32)
const CONCURRENCY = 4

async function* many<T>(value: T): AsyncIterable<T> {
  for (let i = 0; i < 10_000; i++) yield value
}

describe('verifying', () => {
  it('ends at once when it is told to, while the store is silent, and has many places left', {
    timeout: 60_000,
  }, async () => {
    const stop = new AbortController()
    const reason = new Error('interrupted')
    const { promise: closed, reject: close } = Promise.withResolvers<never>()
    closed.catch(() => {})
    let asked = 0
    const pool: Partial<HashPool> = {
      hash: () => {
        asked += 1
        if (asked === CONCURRENCY) void setImmediate().then(() => stop.abort(reason))
        return closed
      },
      close: async () => close(new Error('closed')),
    }
    const place: Place = { offset: 0, length: 1, key: 'k', etag: 'e' }
    const mapping: Partial<MappingReader> = { places: () => many(place) }
    const verified = verifyBlocks(many(HASH), {
      mapping: mapping as MappingReader,
      pool: pool as HashPool,
      concurrency: CONCURRENCY,
      signal: stop.signal,
      report: () => assert.fail('no block was read'),
    })
    await assert.rejects(verified, reason)
    await setImmediate()
    // Those who waited for a slot may each have come to their turn.
    assert.ok(asked <= 4 * CONCURRENCY, `${asked} places`)
  })
})
