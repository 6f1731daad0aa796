import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { signLocator } from '../../src/keep/signature.ts'
import type { Volume } from '../../src/volume/volume.ts'
import { CacheFixture, scratch } from '../volume/cache/fixture.ts'
import { failing, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness, type TestOptions } from './harness.ts'

const { data, hash } = makeBlock(300_000)
const path = `/${hash}+${data.length}`
const tokens = { management: 'the-management-token' }
const headers = { Authorization: `Bearer ${tokens.management}` }

/** Serves a block whose only place goes when `vanish` is called. */
async function start(t: TestContext, options: TestOptions = {}) {
  const places = [makeSource('a', data)]
  const volumes: Volume[] = [makeVolume({ blocks: { [hash]: places } })]
  const { cache, settled } = await openCache(t)
  const h = await Harness.start(t, { volumes, tokens, cache, ...options })
  const vanish = () => places.splice(0, 1, failing('a', data, 'gone'))
  return { h, cache, settled, vanish }
}

async function openCache(t: TestContext) {
  const fixture = await CacheFixture.open(t, await scratch(t))
  return { cache: fixture.cache, settled: () => fixture.settled() }
}

describe('a server with a cache', () => {
  test('gives a block again whose place has gone, and counts that', async (t) => {
    const { h, settled, vanish } = await start(t)
    assert.ok((await h.get(path)).body.equals(data))
    await settled()
    vanish()
    for (const each of [path, `/${hash}`]) {
      const { status, headers, body } = await h.get(each)
      assert.equal(status, 200)
      assert.equal(headers['content-length'], String(data.length))
      assert.ok(body.equals(data))
    }
    const lines = (await h.get('/metrics', headers)).body.toString().split('\n')
    for (const line of [
      'keepgw_cache_hits_total 2',
      'keepgw_cache_misses_total 1',
      `keepgw_cache_hit_bytes_total ${2 * data.length}`,
      'keepgw_cache_stored_total 1',
      'keepgw_cache_evictions_total 0',
      'keepgw_cache_bytes 303104',
      'arvados_keepstore_volume_operations{device_id="keepgw:fake",operation="get"} 1',
    ]) {
      assert.ok(lines.includes(line), line)
    }
    const { cache } = JSON.parse((await h.get('/status.json', headers)).body.toString())
    assert.equal(cache.hits, 2)
    assert.equal(cache.bytes, 303_104)
  })

  for (const head of ['if-match', 'read'] as const) {
    test(`says in HEAD (${head}) whether the block is in its place`, async (t) => {
      const { h, cache, settled, vanish } = await start(t, { head })
      assert.equal((await h.send('HEAD', path)).status, 200)
      assert.equal(cache.counts.misses, 0)
      await h.get(path)
      await settled()
      vanish()
      assert.equal((await h.send('HEAD', path)).status, 404)
      assert.equal((await h.get(path)).status, 200)
    })
  }

  test('shows no cached block to those who may not read it', async (t) => {
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const { h, settled } = await start(t, { signing })
    const token = 'the-token'
    const own = { Authorization: `Bearer ${token}` }
    const signed = `/${signLocator(path.slice(1), token, 0x7fffffff, signing)}`
    assert.equal((await h.get(signed, own)).status, 200)
    await settled()
    assert.equal((await h.get(signed, own)).status, 200)
    assert.equal((await h.get(path, own)).status, 400)
    assert.equal((await h.get(signed)).status, 401)
    assert.equal((await h.get(signed, { Authorization: 'Bearer another' })).status, 400)
  })

  test('lists in its index and mounts what the volumes have', async (t) => {
    const { h, settled } = await start(t)
    await h.get(path)
    await settled()
    const index = (await h.get('/index')).body.toString()
    assert.equal(index.split('\n').length, 3)
    assert.equal(JSON.parse((await h.get('/mounts')).body.toString()).length, 1)
  })
})
