/** The Keep protocol, as clients meet it: statuses, tokens and headers of every kind of request. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { networkInterfaces } from 'node:os'
import { describe, type TestContext, test } from 'node:test'
import { signLocator } from '../../src/keep/signature.ts'
import { mountUuid } from '../../src/server/mounts.ts'
import { corrupted, failing, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(1000)
const [bad, away] = [makeBlock(100, 2), makeBlock(100, 3)]
const volumes = [
  makeVolume({
    name: 'one',
    blocks: {
      [hash]: [makeSource('a', data)],
      [bad.hash]: [makeSource('bad', corrupted(bad.data, 5))],
      [away.hash]: [failing('away', away.data, 'unreachable')],
    },
  }),
]
const tokens = { systemRoot: 'the-system-root-token', management: 'the-management-token' }
const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })
const mount = `/mounts/${mountUuid('zzzzz', 'keepgw:one')}/blocks`

test('the protocol’s signature opens the block, however the locator is written', async (t) => {
  const foo = Buffer.from('foo')
  const key =
    '13u9fkuccnboeewr0ne3mvapk28epf68a3bhj9q8sb4l6e4e5mkkp6nhj2mmpscgu1zze5h5enydxfe3j215024u16ij4hjaiqs5u4pzsl3nczmaoxncljkm4875xqn4xv058koz3vkptmzhyheiy6wzevzjmdvxhvcqsvr5abhl15c2d4o4jhl0s91lojy1mtrzqqvprqcverls0xvy9vai9t1l1lvvazpuadafm71jl4mrwq2ygokee3eamvjy8qq1fvy238838enjmy5wzy2md7yvsitp5vztft6j4q866efym7e6vu5wm9fpnwjyxfldw3vbo01mgjs75rgo7qioh8z8ij7jpyp8508okhgbbex3ceei786u5rw2a9gx743dj3fgq2irk'
  const token = 'hocfupkn2pjhrpgp2vxv8rsku7tvtx49arbc9s4bvu7p7wxqvk'
  const name = 'acbd18db4cc2f85cedef654fccc4a4d8'
  const signature = '+A89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff'
  const volume = makeVolume({ blocks: { [name]: [makeSource('foo', foo)] } })
  const h = await Harness.start(t, { volumes: [volume], signing: { key, ttl: 1_209_600 } })
  for (const hints of [signature, `+K@xyzzy${signature}`, `${signature}+K@xyzzy`]) {
    for (const slashes of ['/', '//']) {
      const target = `${slashes}${name}+3${hints}`
      const answer = await h.get(target, bearer(token))
      assert.deepEqual([answer.status, String(answer.body)], [200, 'foo'], target)
      assert.equal((await h.send('HEAD', target, bearer(token))).headers['content-length'], '3')
    }
  }
})

describe('a bad locator', () => {
  const rests = ['++Z', '+', '+3+', '+3+3', '+Z+3', '+3+k@xyzzy', '+3+K=x', '+-3', '+3+K@x%0A']
  const names = [hash.toUpperCase(), `${hash}0`, hash.slice(1), `g${hash.slice(1)}`, '+3']
  const remote = `${hash}+3+Rzzzzz-${'0'.repeat(40)}@7fffffff`
  for (const name of [...rests.map((rest) => hash + rest), ...names, remote]) {
    test(`${name} is 400, in one line`, async (t) => {
      const h = await Harness.start(t, { volumes })
      const { status, headers, body } = await h.get(`/${name}`)
      assert.equal(status, 400)
      assert.match(headers['content-type'] ?? '', /^text\/plain/)
      assert.match(String(body), /^[^\n]+\n$/)
      assert.equal((await h.send('HEAD', `/${name}`)).status, 400)
    })
  }
})

test('what is no request of Keep is 400 Bad Request', async (t) => {
  const h = await Harness.start(t, { volumes, tokens })
  const requests = [
    ['POST', '/'],
    ['POST', `/${hash}`],
    ['GET', '/'],
    ['GET', '/xyz'],
    ['PUT', '/xyz'],
    ['DELETE', '/index'],
    ['PROPFIND', '/'],
    ['PATCH', `/${hash}`],
    ['GET', '//mounts'],
    ['GET', '//index'],
    ['GET', `///${hash}`],
    ['GET', '/pull'],
    ['GET', `/untrash/${hash}`],
    ['PUT', '/untrash'],
  ] as const
  for (const [method, path] of requests) {
    const { status, body } = await h.send(method, path, bearer(tokens.systemRoot))
    assert.equal(status, 400, `${method} ${path}`)
    assert.equal(String(body), 'Bad Request\n', `${method} ${path}`)
  }
})

test('another version of HTTP than 1 is 400, whatever is asked for', async (t) => {
  const h = await Harness.start(t, { volumes })
  for (const rest of ['', ' HTTP/0.9\r\nHost: x', ' HTTP/2.0\r\nHost: x']) {
    assert.match(await h.sendRaw(`GET /${hash}${rest}\r\n\r\n`), /^HTTP\/1\.1 400 /)
  }
})

describe('a token', () => {
  const token = 'v2/zzzzz-gj3su-0123456789abcde/?>~secret'
  const signing = { key: 'the-key', ttl: 1_209_600 }
  const path = `/${signLocator(`${hash}+1000`, token, 0x7fffffff, signing)}`
  const basic = (text: string) => `Basic ${Buffer.from(`user:${text}`).toString('base64')}`
  const query = (text: string) => `?api_token=${encodeURIComponent(text)}`
  const cookie = (text: string) => {
    // As Arvados encodes it: the URL-safe letters, and padded.
    const encoded = Buffer.from(text).toString('base64').replaceAll('+', '-').replaceAll('/', '_')
    return `a=b; arvados_api_token=${encoded}; c=d`
  }
  assert.match(cookie(token), /arvados_api_token=\w*[_-][\w-]*=+;/)

  // Who comes first, and what comes behind it.
  const cases: [string, string, Record<string, string>, number][] = [
    ['Bearer', '', { Authorization: `Bearer ${token}` }, 200],
    ['OAuth2', '', { Authorization: `OAuth2 ${token}` }, 200],
    ['a password', '', { Authorization: basic(token) }, 200],
    ['the query', query(token), {}, 200],
    ['the cookie', '', { Cookie: cookie(token) }, 200],
    ['Bearer before the query', query('x'), { Authorization: `Bearer ${token}` }, 200],
    [
      'Bearer before the cookie',
      '',
      { Authorization: `Bearer ${token}`, Cookie: cookie('x') },
      200,
    ],
    ['a password before the query', query('x'), { Authorization: basic(token) }, 200],
    ['the query before the cookie', query(token), { Cookie: cookie('x') }, 200],
    ['another Bearer before the query', query(token), { Authorization: 'Bearer x' }, 400],
    ['another password before the query', query(token), { Authorization: basic('x') }, 400],
    ['another query before the cookie', query('x'), { Cookie: cookie(token) }, 400],
    ['a scheme that has none, and the query', query(token), { Authorization: 'Digest x' }, 200],
    ['none', '', { Authorization: 'Bearer', Cookie: 'a=b' }, 401],
  ]
  for (const [name, target, headers, status] of cases) {
    test(`is taken from ${name}: ${status}`, async (t) => {
      const h = await Harness.start(t, { volumes, signing })
      assert.equal((await h.get(path + target, headers)).status, status)
      await h.logLine(({ msg }) => msg === 'response')
      const log = JSON.stringify(h.logLines)
      for (const secret of ['secret', encodeURIComponent(token), cookie(token), basic(token)]) {
        assert.ok(!log.includes(secret), log)
      }
    })
  }
})

describe('CORS headers', () => {
  const expected = {
    'access-control-allow-methods': 'GET, HEAD, PUT, OPTIONS',
    'access-control-allow-origin': '*',
    'access-control-allow-headers':
      'Authorization, Content-Length, Content-Type, X-Keep-Desired-Replicas, X-Keep-Signature, X-Keep-Storage-Classes',
    'access-control-expose-headers':
      'X-Keep-Locator, X-Keep-Replicas-Stored, X-Keep-Storage-Classes-Confirmed',
    'access-control-max-age': '86486400',
  }
  const root = bearer(tokens.systemRoot)
  const cases: [string, string, Record<string, string>, number][] = [
    ['GET', `/${hash}`, {}, 200],
    ['HEAD', `/${hash}`, {}, 200],
    ['GET', `/${hash}+5`, {}, 404],
    ['HEAD', `/${hash}+5`, {}, 404],
    ['GET', `/${hash}++`, {}, 400],
    ['GET', `/${bad.hash}`, {}, 502],
    ['GET', `/${away.hash}`, {}, 503],
    ['GET', '/xyz', {}, 400],
    ['PUT', `/${hash}`, {}, 405],
    ['DELETE', `/${hash}`, {}, 405],
    ['PUT', `/untrash/${hash}`, {}, 405],
    ['GET', '/index', {}, 401],
    ['GET', '/index', bearer('x'), 403],
    ['GET', '/index', root, 200],
    ['GET', '/index/xyz', root, 400],
    ['GET', '/mounts', root, 200],
    ['GET', mount, root, 200],
    ['GET', '/mounts/x/blocks', root, 404],
    ['PUT', '/trash', root, 200],
    ['GET', '/status.json', root, 200],
    ['OPTIONS', '*', {}, 200],
    ['OPTIONS', `/${hash}`, {}, 200],
    ['OPTIONS', '/xyz', {}, 200],
    ['OPTIONS', '/metrics', {}, 200],
  ]
  for (const [method, path, headers, status] of cases) {
    const with_ = headers === root ? ' with the token' : ''
    test(`come with ${method} ${path}${with_}: ${status}`, async (t) => {
      const h = await Harness.start(t, { volumes, tokens })
      const answer = await h.send(method, path, headers)
      assert.equal(answer.status, status)
      assert.partialDeepStrictEqual(answer.headers, expected)
    })
  }

  test('come with what is no HTTP, too', async (t) => {
    const h = await Harness.start(t, { volumes })
    for (const text of ['nonsense\r\n\r\n', `TOUCH /${hash} HTTP/1.1\r\nHost: x\r\n\r\n`]) {
      const answer = (await h.sendRaw(text)).toLowerCase()
      for (const [name, value] of Object.entries(expected)) {
        assert.ok(answer.includes(`\r\n${name}: ${value.toLowerCase()}\r\n`), `${text}${name}`)
      }
    }
  })

  test('do not come with health and metrics, whatever the answer', async (t) => {
    const h = await Harness.start(t, { volumes, tokens })
    for (const path of ['/_health/ping', '/metrics', '/metrics.json']) {
      for (const headers of [{}, bearer('x'), bearer(tokens.management)]) {
        const answer = await h.get(path, headers)
        const names = Object.keys(answer.headers)
        assert.ok(!names.some((name) => name.startsWith('access-control-')), path)
      }
    }
  })
})

describe('routes of the system', () => {
  const routes: [method: string, path: string, needs: 'systemRoot' | 'management'][] = [
    ['GET', '/index', 'systemRoot'],
    ['GET', `/index/${hash.slice(0, 3)}`, 'systemRoot'],
    ['GET', '/index?prefix=', 'systemRoot'],
    ['GET', '/mounts', 'systemRoot'],
    ['GET', mount, 'systemRoot'],
    ['GET', `${mount}/${hash.slice(0, 3)}`, 'systemRoot'],
    ['GET', `${mount}?prefix=${hash.slice(0, 3)}`, 'systemRoot'],
    ['PUT', '/pull', 'systemRoot'],
    ['PUT', '/trash', 'systemRoot'],
    ['GET', '/status.json', 'systemRoot'],
    ['GET', '/metrics', 'management'],
    ['GET', '/metrics.json', 'management'],
  ]
  /** An address of this machine that is not its loopback. */
  const own = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address

  /** The statuses of a request from this machine as such, and as anybody would make it. */
  async function statuses(
    t: TestContext,
    given: Partial<typeof tokens>,
    method: string,
    path: string,
  ) {
    const listen = { host: '0.0.0.0', port: 0 }
    const h = await Harness.start(t, { volumes, tokens: given, listen })
    const ask = async (host: string, headers = {}) => {
      const answer = await fetch(`http://${host}:${h.port}${path}`, { method, headers })
      await answer.arrayBuffer()
      return answer.status
    }
    return { here: ask.bind(undefined, '127.0.0.1'), there: ask.bind(undefined, own ?? '') }
  }

  for (const [method, path, needs] of routes) {
    test(`${method} ${path.slice(0, 30)} is open to this machine alone without a token`, async (t) => {
      if (own === undefined) return t.skip('this machine has no address but its loopback')
      const { here, there } = await statuses(t, {}, method, path)
      assert.deepEqual([await here(), await there()], [200, 404])
      assert.equal(await there(bearer('x')), 404)
    })

    test(`${method} ${path.slice(0, 30)} asks everybody for the token that is set`, async (t) => {
      const { here, there } = await statuses(t, tokens, method, path)
      for (const ask of own === undefined ? [here] : [here, there]) {
        assert.deepEqual(
          [await ask(), await ask(bearer('x')), await ask(bearer(tokens[needs]))],
          [401, 403, 200],
        )
      }
    })
  }
})

describe('the request id', () => {
  test('of the client comes back with every answer, and is in both lines of the log', async (t) => {
    const h = await Harness.start(t, { volumes, tokens })
    const requests = [
      ['GET', `/${hash}`],
      ['GET', '/xyz'],
      ['GET', `/${away.hash}`],
      ['PUT', `/${hash}`],
      ['GET', '/index'],
      ['GET', '/metrics'],
      ['OPTIONS', '/'],
    ] as const
    for (const [at, [method, path]] of requests.entries()) {
      const id = `req-of-mine-${at}`
      const { headers } = await h.send(method, path, { 'X-Request-Id': id })
      assert.equal(headers['x-request-id'], id)
      await h.logLine(({ msg, RequestID }) => msg === 'response' && RequestID === id)
      assert.ok(h.logLines.some(({ msg, RequestID }) => msg === 'request' && RequestID === id))
    }
    const raw = await h.sendRaw('TOUCH /xyz HTTP/1.1\r\nHost: x\r\nX-Request-Id: req-raw\r\n\r\n')
    assert.match(raw, /\r\nX-Request-Id: req-raw\r\n/)
    await h.logLine(({ RequestID }) => RequestID === 'req-raw')
  })

  test('has a place in the log of what has failed behind it', async (t) => {
    const h = await Harness.start(t, { volumes })
    await h.get(`/${away.hash}`, { 'X-Request-Id': 'req-of-mine' })
    const line = await h.logLine(({ msg }) => msg === 'failover')
    assert.deepEqual([line.RequestID, line.hash], ['req-of-mine', away.hash])
  })
})

test('a line of the log fits into what a pipe takes at once, whatever a client sends', async (t) => {
  const h = await Harness.start(t, { volumes })
  const long = '"'.repeat(2500)
  await h.sendRaw(
    `GET /${long}?${long} HTTP/1.1\r\nHost: ${long}\r\nX-Request-Id: ${'x'.repeat(128)}\r\nConnection: close\r\n\r\n`,
  )
  await h.sendRaw(`${'X'.repeat(2500)} /${long}?${long} HTTP/1.1\r\nHost: x\r\n\r\n`)
  await h.logLine(({ msg, reqMethod }) => msg === 'response' && reqMethod !== 'GET')
  const lengths = h.logLines.map((line) => Buffer.byteLength(JSON.stringify(line)))
  assert.ok(lengths.length === 3 && Math.max(...lengths) < 4000, String(lengths))
})

test('the log tells what a body had, and what an error was', async (t) => {
  const h = await Harness.start(t, { volumes })
  await h.send('PUT', `/${hash}`, { 'Content-Length': data.length }, data)
  const refused = await h.logLine(({ msg }) => msg === 'response')
  assert.deepEqual([refused.reqMethod, refused.reqBytes], ['PUT', data.length])
  assert.deepEqual(
    [refused.respStatusCode, refused.respBytes],
    [405, 'Method Not Allowed\n'.length],
  )
  await h.get(`/${away.hash}`)
  const failed = await h.logLine(({ respStatusCode }) => respStatusCode === 503)
  assert.match(String(failed.respError), /./)
})

test('a mount’s blocks are those of the index, under its UUID alone', async (t) => {
  const other = makeBlock(7, 9)
  const two = makeVolume({ name: 'two', blocks: { [other.hash]: [makeSource('b', other.data)] } })
  const h = await Harness.start(t, { volumes: [...volumes, two], tokens })
  const list = async (path: string) => {
    const { status, body } = await h.get(path, bearer(tokens.systemRoot))
    assert.equal(status, 200, path)
    const lines = String(body).split('\n')
    // The line feed of the last block, and the empty line that says that this was all.
    assert.deepEqual(lines.splice(-2), ['', ''])
    return lines.sort()
  }
  const mounts = JSON.parse(String((await h.get('/mounts', bearer(tokens.systemRoot))).body))
  const each = await Promise.all(
    mounts.map(({ uuid }: { uuid: string }) => list(`/mounts/${uuid}/blocks`)),
  )
  assert.deepEqual(each.flat().sort(), await list('/index'))
  for (const { uuid, device_id: deviceId } of mounts) {
    const digest = createHash('md5').update(deviceId).digest('hex')
    assert.equal(uuid, `zzzzz-nyw5e-${digest.slice(0, 15)}`)
    const prefix = other.hash.slice(0, 5)
    const found = await list(`/mounts/${uuid}/blocks/${prefix}`)
    assert.deepEqual(await list(`/mounts/${uuid}/blocks?prefix=${prefix}`), found)
    assert.equal(found.length, deviceId === 'keepgw:two' ? 1 : 0)
  }
})
