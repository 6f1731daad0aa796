import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import { mountUuid } from '../../src/server/mounts.ts'
import type { IndexedBlock } from '../../src/volume/volume.ts'
import { failure, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const a = makeBlock(10)
const b = makeBlock(20, 2)
const volumes = [
  makeVolume({ name: 'one', blocks: { [a.hash]: [makeSource('a', a.data)] } }),
  makeVolume({ name: 'two', blocks: { [b.hash]: [makeSource('b', b.data)] } }),
]
const lineOf = (hash: string, length: number) => `${hash}+${length} 1700000000123456789\n`
const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })
const tokens = { systemRoot: 'the-system-root-token', management: 'the-management-token' }

/** A volume with very many blocks, which fails after `failAt` of them. */
function endless(failAt: number) {
  return makeVolume({
    async *index(): AsyncGenerator<IndexedBlock> {
      for (let i = 0; i < failAt; i++) {
        yield { hash: i.toString(16).padStart(32, '0'), length: 5, mtimeNs: 1n }
      }
      throw failure('unreachable')
    },
  })
}

describe('the index', () => {
  test('lists the blocks of all volumes, and ends with an empty line', async (t) => {
    const h = await Harness.start(t, { volumes })
    const { status, body, complete } = await h.get('/index')
    assert.deepEqual([status, complete], [200, true])
    assert.equal(body.toString(), `${lineOf(a.hash, 10)}${lineOf(b.hash, 20)}\n`)
  })

  test('can be limited to a prefix, in two ways', async (t) => {
    const h = await Harness.start(t, { volumes })
    const prefix = a.hash.slice(0, 3)
    for (const path of [`/index/${prefix}`, `/index?prefix=${prefix}`, `/index/${a.hash}`]) {
      assert.equal((await h.get(path)).body.toString(), `${lineOf(a.hash, 10)}\n`, path)
    }
    const none = a.hash.startsWith('0') ? 'f'.repeat(32) : '0'.repeat(32)
    assert.equal((await h.get(`/index/${none}`)).body.toString(), '\n')
    for (const bad of ['/index/xyz', '/index/ABC', `/index/${a.hash}0`, '/index/a/b']) {
      assert.equal((await h.get(bad)).status, 400, bad)
    }
  })

  test('that fails at its start is an error', async (t) => {
    const h = await Harness.start(t, { volumes: [...volumes, endless(10)] })
    assert.equal((await h.get('/index')).status, 503)
  })

  test('that fails half-way breaks the connection, without the empty line', async (t) => {
    const h = await Harness.start(t, { volumes: [endless(5000)] })
    const { status, body, complete } = await h.get('/index')
    assert.deepEqual([status, complete], [200, false])
    assert.ok(body.length > 0 && !body.toString().includes('\n\n'))
  })

  test('stops when its client goes away', async (t) => {
    const { promise: stopped, resolve } = Promise.withResolvers<void>()
    const volume = makeVolume({
      async *index() {
        try {
          for (;;) yield { hash: a.hash, length: 5, mtimeNs: 1n }
        } finally {
          resolve()
        }
      },
    })
    const h = await Harness.start(t, { volumes: [volume] })
    const socket = await h.connect()
    socket.write('GET /index HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(socket, 'data')
    socket.destroy()
    await stopped
  })
})

describe('tokens', () => {
  const one = mountUuid('zzzzz', 'keepgw:one')
  const routes = [
    { path: '/index', good: [tokens.systemRoot], bad: [tokens.management, 'x'] },
    { path: '/mounts', good: [tokens.systemRoot], bad: [tokens.management, 'x'] },
    { path: `/mounts/${one}/blocks`, good: [tokens.systemRoot], bad: [tokens.management] },
    { path: '/status.json', good: [tokens.systemRoot, tokens.management], bad: ['x'] },
    { path: '/_health/ping', good: [tokens.management], bad: [tokens.systemRoot, 'x'] },
    { path: '/metrics', good: [tokens.management], bad: [tokens.systemRoot, 'x'] },
    { path: '/metrics.json', good: [tokens.management], bad: [tokens.systemRoot, 'x'] },
  ]
  for (const { path, good, bad } of routes) {
    test(`${path} asks for one`, async (t) => {
      const h = await Harness.start(t, { volumes, tokens })
      const none = await h.get(path)
      assert.deepEqual([none.status, none.body.toString()], [401, 'Unauthorized\n'])
      for (const token of good) assert.equal((await h.get(path, bearer(token))).status, 200)
      for (const token of bad) {
        const answer = await h.get(path, bearer(token))
        assert.deepEqual([answer.status, answer.body.toString()], [403, 'Forbidden\n'])
      }
    })
  }

  test('may come in the query, as a password, or in a cookie', async (t) => {
    const h = await Harness.start(t, { volumes, tokens })
    const secret = tokens.systemRoot
    assert.equal((await h.get(`/index?api_token=${secret}`)).status, 200)
    const basic = `Basic ${Buffer.from(`none:${secret}`).toString('base64')}`
    assert.equal((await h.get('/index', { Authorization: basic })).status, 200)
    const cookie = `arvados_api_token=${Buffer.from(secret).toString('base64url')}`
    assert.equal((await h.get('/index', { Cookie: cookie })).status, 200)
    assert.equal((await h.get('/index', { Authorization: `OAuth2 ${secret}` })).status, 200)
  })

  test('that are not set leave index and status to this machine alone', async (t) => {
    for (const unset of [{}, { systemRoot: '', management: '' }]) {
      const h = await Harness.start(t, { volumes, tokens: unset })
      for (const path of ['/index', '/mounts', '/status.json', '/metrics', '/metrics.json']) {
        assert.equal((await h.get(path)).status, 200)
        for (const name of ['X-Forwarded-For', 'Forwarded', 'Origin']) {
          assert.equal((await h.get(path, { [name]: '192.0.2.1' })).status, 404, name)
        }
      }
      assert.equal((await h.get('/_health/ping')).status, 404)
    }
  })

  test('that are not set do not open them to a web page that gives its name this address', async (t) => {
    const h = await Harness.start(t, { volumes })
    const socket = await h.connect()
    socket.write('GET /index HTTP/1.1\r\nHost: page.example:25107\r\nConnection: close\r\n\r\n')
    const [answer] = await once(socket, 'data')
    assert.match(String(answer), /^HTTP\/1\.1 404 /)
  })

  test('a management token alone does not open the index to it', async (t) => {
    const management = tokens.management
    const h = await Harness.start(t, { volumes, tokens: { management } })
    const headers = { ...bearer(management), 'X-Forwarded-For': '192.0.2.1' }
    assert.equal((await h.get('/index', headers)).status, 404)
    assert.equal((await h.get('/mounts', headers)).status, 404)
    assert.equal((await h.get('/status.json', headers)).status, 200)
  })
})

test('the status counts what was done', async (t) => {
  const h = await Harness.start(t, { volumes })
  await h.get(`/${a.hash}`)
  await h.get(`/${'0'.repeat(32)}`)
  await h.logLine((line) => line.msg === 'response' && line.respStatusCode === 404)
  const status = JSON.parse((await h.get('/status.json')).body.toString())
  assert.deepEqual(status.volumes, [
    { uuid: mountUuid('zzzzz', 'keepgw:one'), deviceId: 'keepgw:one', volume: 'one' },
    { uuid: mountUuid('zzzzz', 'keepgw:two'), deviceId: 'keepgw:two', volume: 'two' },
  ])
  assert.deepEqual(status.hedges, { won: 0, lost: 0 })
  assert.deepEqual(status.requests, { total: 3, running: 1, byStatus: { 200: 1, 404: 1 } })
  assert.deepEqual([status.blocks, status.bytes], [1, 10 + 'Not Found\n'.length])
  assert.equal(status.errors['not-found'], 1)
  assert.ok(status.uptimeSeconds > 0)
})

test('health is an error while a volume cannot be asked', async (t) => {
  const down = makeVolume({
    name: 'the disk',
    // biome-ignore lint/correctness/useYield: it fails before.
    async *sources() {
      throw failure('unreachable')
    },
  })
  const h = await Harness.start(t, { volumes: [...volumes, down], tokens })
  const { status, body } = await h.get('/_health/ping', bearer(tokens.management))
  const error = 'the disk: injected: unreachable'
  assert.deepEqual([status, JSON.parse(body.toString())], [200, { health: 'ERROR', error }])
})

test('health is JSON, without CORS headers', async (t) => {
  const h = await Harness.start(t, { tokens })
  const { body, headers } = await h.get('/_health/ping', bearer(tokens.management))
  assert.deepEqual(JSON.parse(body.toString()), { health: 'OK' })
  assert.equal(headers['access-control-allow-origin'], undefined)
})

test('OPTIONS of anything has the CORS headers', async (t) => {
  const h = await Harness.start(t, { tokens })
  for (const path of ['*', '/', `/${a.hash}`, '/index']) {
    const { status, headers } = await h.send('OPTIONS', path)
    assert.equal(status, 200, path)
    assert.equal(headers['access-control-allow-methods'], 'GET, HEAD, PUT, OPTIONS')
    assert.equal(headers['access-control-max-age'], '86486400')
    assert.match(headers['access-control-expose-headers'] ?? '', /X-Keep-Locator/)
    assert.match(headers['access-control-allow-headers'] ?? '', /X-Keep-Signature/)
  }
})

describe('the log', () => {
  test('has a line when a request comes, and one when it is over', async (t) => {
    const h = await Harness.start(t, { volumes })
    const answer = await h.get(`/${a.hash}+10?x=1`, { 'X-Request-Id': 'req-mine' })
    assert.equal(answer.headers['x-request-id'], 'req-mine')
    const end = await h.logLine(({ msg }) => msg === 'response')
    const [start] = h.logLines
    for (const line of [start, end]) {
      assert.equal(line?.RequestID, 'req-mine')
      assert.match(String(line?.remoteAddr), /^127\.0\.0\.1:\d+$/)
      assert.equal(line?.reqHost, `127.0.0.1:${h.port}`)
      const { reqMethod, reqPath, reqQuery, reqBytes } = line ?? {}
      assert.deepEqual([reqMethod, reqPath, reqQuery, reqBytes], ['GET', `/${a.hash}+10`, 'x=1', 0])
    }
    assert.equal(start?.msg, 'request')
    assert.deepEqual([end.respStatusCode, end.respBytes], [200, 10])
    const { timeTotal, timeToStatus, timeWriteBody } = end as unknown as Record<string, number>
    assert.ok(Math.abs(timeTotal! - timeToStatus! - timeWriteBody!) < 1e-6 && timeToStatus! > 0)
  })

  test('a request without an id gets one, each its own', async (t) => {
    const h = await Harness.start(t, {})
    const ids = await Promise.all(
      [{}, {}, { 'X-Request-Id': 'not fit' }, { 'X-Request-Id': 'x'.repeat(500) }].map(
        async (headers) => String((await h.get('/', headers)).headers['x-request-id']),
      ),
    )
    for (const id of ids) assert.match(id, /^req-[0-9a-f]{20}$/)
    assert.equal(new Set(ids).size, ids.length)
  })

  test('holds no token, wherever it was sent', async (t) => {
    const h = await Harness.start(t, { volumes, tokens })
    const secret = 'v2/zzzzz-gj3su-0123456789abcde/the-secret-part-of-a-token'
    const plain = 'a-token-of-the-first-version-12345'
    const cookie = `arvados_api_token=${Buffer.from(secret).toString('base64url')}`
    const basic = Buffer.from(`x:${secret}`).toString('base64')
    await h.get(`/index?prefix=a&api_token=${encodeURIComponent(secret)}`)
    await h.get('/index', bearer(secret))
    await h.get('/index', bearer(plain))
    await h.get('/index', { Authorization: `Basic ${basic}` })
    await h.get(`/${'0'.repeat(32)}?api_token=${secret}`, { Cookie: cookie })
    await h.sendRaw(`TOUCH /${a.hash}?api_token=${secret} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await h.logLine((line) => line.msg === 'response' && line.reqMethod === 'TOUCH')
    const log = JSON.stringify(h.logLines)
    const secrets = [secret, 'the-secret-part', plain, basic, cookie, encodeURIComponent(secret)]
    for (const text of secrets) assert.ok(!log.includes(text), text)
    assert.match(log, /"reqQuery":"prefix=a"/)
    assert.match(log, /"tokenUUIDs":\["zzzzz-gj3su-0123456789abcde"\]/)
    assert.match(log, /"tokenUUIDs":\["v1 token ending in 12345"\]/)
  })
})
