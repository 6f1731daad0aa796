import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { describe, test } from 'node:test'
import { KeepgwError } from '../../src/errors.ts'
import { startServer } from '../../src/server/serve.ts'
import { deliver, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness, readAnswer, serveOptions } from './harness.ts'

const { data, hash } = makeBlock(200_000)

describe('the end of a server', () => {
  // Shorter than the time an idle connection is kept.
  test('waits for answers under way, and for no more', { timeout: 4_000 }, async (t) => {
    const { promise: resumed, resolve: resume } = Promise.withResolvers<void>()
    const source = makeSource('a', data, {
      async read(from, sink) {
        await deliver(data, from, 100_000, sink)
        await resumed
        await deliver(data, 100_000, data.length, sink)
      },
    })
    const volumes = [makeVolume({ blocks: { [hash]: [source] } })]
    const h = await Harness.start(t, { volumes })
    // A client that would keep its connection for ever.
    const agent = new Agent({ keepAlive: true })
    t.after(() => agent.destroy())
    const req = get({ port: h.port, host: '127.0.0.1', path: `/${hash}`, agent })
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    const closed = h.server.close()
    await assert.rejects(h.get('/'), { code: 'ECONNREFUSED' })
    resume()
    assert.ok((await readAnswer(res)).body.equals(data))
    await closed
  })

  test('closes connections that are idle', async (t) => {
    const h = await Harness.start(t, {})
    const socket = await h.connect()
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(socket, 'data')
    socket.resume()
    await Promise.all([once(socket, 'close'), h.server.close()])
  })
})

test('a port that is taken is an error with what to do', async (t) => {
  const h = await Harness.start(t, {})
  const listen = { host: '127.0.0.1', port: h.port }
  await assert.rejects(startServer(serveOptions({ listen })), (error) => {
    assert.ok(error instanceof KeepgwError)
    assert.match(error.message, /^cannot listen at 127\.0\.0\.1:\d+: [^\n]+$/)
    assert.match(error.hint ?? '', /--listen/)
    return true
  })
})
