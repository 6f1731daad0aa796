import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(1000)
const path = `/${hash}+1000`
const tokens = { management: 'the-management-token' }
const headers = { Authorization: `Bearer ${tokens.management}` }

/** A volume whose block comes when `release` is called; `asked` tells when it was asked for. */
function slowVolume() {
  const asked = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const source = makeSource('slow', data, {
    async read(_from, sink) {
      asked.resolve()
      await released.promise
      await sink(data)
    },
  })
  const volume = makeVolume({ blocks: { [hash]: [source] } })
  return { volume, asked: asked.promise, release: released.resolve }
}

describe('a limit', () => {
  for (const limit of [{ maxRequests: 1 }, { maxBlocks: 1 }]) {
    const [name] = Object.keys(limit)

    test(`of ${name} refuses what is beyond it, to be tried again`, async (t) => {
      const { volume, asked, release } = slowVolume()
      const h = await Harness.start(t, { volumes: [volume], tokens, ...limit })
      const first = h.get(path)
      await asked
      const second = await h.get(path)
      assert.equal(second.status, 503)
      assert.equal(second.headers['retry-after'], '1')
      assert.match(second.body.toString(), /^[^\n]+\n$/)
      assert.equal((await h.send('HEAD', path)).status, 503)
      release()
      assert.ok((await first).body.equals(data))
      assert.equal((await h.get(path)).status, 200)
    })

    test(`of ${name} lets the next one in when a client has gone`, async (t) => {
      const { volume, asked, release } = slowVolume()
      const h = await Harness.start(t, { volumes: [volume], tokens, ...limit })
      const socket = await h.connect()
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
      await asked
      socket.destroy()
      await h.logLine(({ msg }) => msg === 'response')
      release()
      assert.equal((await h.get(path)).status, 200)
    })
  }

  test('on requests does not keep out health, metrics and refusals of writes', async (t) => {
    const { volume, asked, release } = slowVolume()
    const h = await Harness.start(t, { volumes: [volume], tokens, maxRequests: 1 })
    const first = h.get(path)
    await asked
    assert.equal((await h.get('/_health/ping', headers)).status, 200)
    const metrics = (await h.get('/metrics', headers)).body.toString()
    assert.match(metrics, /^keepgw_concurrent_requests 1$/m)
    assert.equal((await h.send('OPTIONS', '/')).status, 200)
    assert.equal((await h.send('PUT', path)).status, 405)
    release()
    await first
  })

  test('on blocks leaves the index alone', async (t) => {
    const { volume, asked, release } = slowVolume()
    const h = await Harness.start(t, { volumes: [volume], maxBlocks: 1 })
    const first = h.get(path)
    await asked
    assert.equal((await h.get('/index')).status, 200)
    release()
    await first
  })

  test('that is 0 is none', async (t) => {
    const { volume, release } = slowVolume()
    const h = await Harness.start(t, { volumes: [volume], maxRequests: 0, maxBlocks: 0 })
    const all = Array.from({ length: 20 }, () => h.get(path))
    const arrived = () => h.logLines.filter(({ msg }) => msg === 'request').length === 20
    await h.logLine(arrived)
    release()
    for (const { status } of await Promise.all(all)) assert.equal(status, 200)
  })
})
