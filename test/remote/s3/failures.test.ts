/** What the answers and the breakdowns of a store mean: gone, changed, or merely out of reach. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { RemoteFailure, RemoteStore } from '../../../src/remote/remote.ts'
import { readResuming } from '../../../src/remote/resume.ts'
import { isAbort } from '../../aborts.ts'
import {
  type Answer,
  accessDenied,
  internalError,
  noSuchBucket,
  noSuchKey,
  proxyPage,
  s3Error,
  slowDown,
  starting,
} from '../../faults/fault.ts'
import { type FaultProxy, startFaultProxy } from '../../faults/proxy.ts'
import { startFauxqs } from '../../servers/fauxqs.ts'
import { makeBucket } from '../../servers/s3.ts'
import { failsWith, listAll, readAll } from '../../suites/remote.ts'
import { openBucket, partOf, startStub } from './stub.ts'

const ETAG = '0123456789abcdef0123456789abcdef'
const DATA = Buffer.from('The quick brown fox jumps over the lazy dog')
const REQUEST = { key: 'key', offset: 4, length: 20, etag: ETAG, size: DATA.length }
const unwanted = () => assert.fail('nothing may be delivered')

const html = (status: number): Answer => ({ ...proxyPage, status })
const empty = (status: number, headers: Record<string, string> = {}): Answer => {
  return { kind: 'answer', status, headers }
}

/** A read, asked of a store that has just this answer for everything but for the bucket itself. */
async function answered(t: TestContext, answer: Answer): Promise<RemoteStore> {
  const stub = await startStub(t, ({ path }) => (path === '/bucket/' ? empty(200) : answer))
  return openBucket(t, stub, { attempts: 1 })
}

const REFUSALS: [name: string, Answer, RemoteFailure, message: RegExp, hint?: RegExp][] = [
  ['NoSuchKey', noSuchKey, 'gone', /NoSuchKey/],
  ['NoSuchVersion', s3Error(404, 'NoSuchVersion', 'No version'), 'gone', /NoSuchVersion/],
  ['412', s3Error(412, 'PreconditionFailed', 'One did not hold'), 'changed', /PreconditionFailed/],
  ['416', s3Error(416, 'InvalidRange', 'Not satisfiable'), 'changed', /InvalidRange/],
  ['NoSuchBucket', noSuchBucket, 'unreachable', /NoSuchBucket/, /bucket’s name/],
  ["a proxy's 404", html(404), 'unreachable', /status 404/],
  ['an empty 404', empty(404), 'unreachable', /status 404/],
  ["a proxy's 412", html(412), 'unreachable', /status 412/],
  ["a proxy's 416", html(416), 'unreachable', /status 416/],
  ['AccessDenied', accessDenied, 'unreachable', /AccessDenied/, /s3:GetObject/],
  ['an archived object', s3Error(403, 'InvalidObjectState', 'x'), 'unreachable', /./, /restore/],
  ['ExpiredToken', s3Error(400, 'ExpiredToken', 'Expired'), 'unreachable', /Expired/, /Renew/],
  ['InvalidAccessKeyId', s3Error(403, 'InvalidAccessKeyId', 'x'), 'unreachable', /./, /--profile/],
  ['a wrong signature', s3Error(403, 'SignatureDoesNotMatch', 'x'), 'unreachable', /./, /secret/],
  ['a wrong clock', s3Error(403, 'RequestTimeTooSkewed', 'x'), 'unreachable', /./, /clock/],
  ['SlowDown', slowDown(), 'unreachable', /SlowDown/],
  ['InternalError', internalError, 'unreachable', /InternalError/],
  ["a proxy's 502", html(502), 'unreachable', /status 502/],
  ['a redirect to nowhere', empty(307), 'unreachable', /status 307/],
  ['304', empty(304), 'unreachable', /status 304/],
]

for (const [name, answer, failure, message, hint] of REFUSALS) {
  test(`a read that is answered with ${name} is ${failure}`, async (t) => {
    const store = await answered(t, answer)
    const error = await failsWith(store.read(REQUEST, unwanted), failure)
    assert.equal(error.delivered, 0)
    assert.match(error.message, message)
    assert.match(error.message, /s3:\/\/bucket\/key/)
    assert.doesNotMatch(error.message, /AKIDEXAMPLE|the-secret-key/)
    assert.equal(error.archived, name === 'an archived object')
    if (hint !== undefined) assert.match(error.hint ?? '', hint)
  })

  test(`a look that is answered with ${name} is never changed`, async (t) => {
    const store = await answered(t, answer)
    const { delivered } = await failsWith(
      store.stat('key'),
      failure === 'gone' ? 'gone' : 'unreachable',
    )
    assert.equal(delivered, 0)
  })

  test(`a listing that is answered with ${name} is unreachable`, async (t) => {
    await failsWith(listAll(await answered(t, answer)), 'unreachable')
  })
}

test('NoSuchKey of a bucket that is not there is unreachable', async (t) => {
  const stub = await startStub(t, ({ path }) => (path === '/bucket/' ? empty(404) : noSuchKey))
  const store = openBucket(t, stub, { attempts: 1 })
  const error = await failsWith(store.read(REQUEST, unwanted), 'unreachable')
  assert.match(error.hint ?? '', /bucket’s name/)
  await failsWith(store.stat('key'), 'unreachable')
})

test('NoSuchKey is gone, to one who may not ask for the bucket', async (t) => {
  const stub = await startStub(t, ({ path }) => (path === '/bucket/' ? empty(403) : noSuchKey))
  await failsWith(openBucket(t, stub).read(REQUEST, unwanted), 'gone')
})

test('a store that is busy is asked again', async (t) => {
  for (const busy of [slowDown(), internalError, html(502)]) {
    let left = 2
    const stub = await startStub(t, (asked) => (left-- > 0 ? busy : partOf(DATA, asked, ETAG)))
    const got = await readAll(openBucket(t, stub, { attempts: 3 }), REQUEST)
    assert.equal(got.toString(), DATA.subarray(4, 24).toString())
    assert.equal(stub.requests.length, 3)
  }
})

test('an object that the store cannot read holds up no other', { timeout: 30_000 }, async (t) => {
  const unreadable = s3Error(503, 'SlowDownRead', 'Unreadable', { 'Retry-After': '3600' })
  const stub = await startStub(t, (asked) =>
    asked.path.endsWith('/bad') ? unreadable : partOf(DATA, asked, ETAG),
  )
  const store = openBucket(t, stub, { attempts: 1 })
  const { message } = await failsWith(
    store.read({ ...REQUEST, key: 'bad' }, unwanted),
    'unreachable',
  )
  assert.match(message, /SlowDownRead/)
  assert.equal((await readAll(store, REQUEST)).length, REQUEST.length)
})

test('a store that was there may be away for longer than a few attempts', async (t) => {
  let away = 0
  const stub = await startStub(t, (asked) => (away-- > 0 ? starting : partOf(DATA, asked, ETAG)))
  const store = openBucket(t, stub, { attempts: 1, outage: 3_600_000 })
  await readAll(store, REQUEST)
  away = 3
  assert.equal((await readAll(store, REQUEST)).length, REQUEST.length)
  assert.equal(stub.requests.length, 5)
})

test('a store that has never answered is not waited for', async (t) => {
  const stub = await startStub(t, () => internalError)
  const store = openBucket(t, stub, { attempts: 2, outage: 3_600_000 })
  await failsWith(store.read(REQUEST, unwanted), 'unreachable')
  assert.equal(stub.requests.length, 2)
})

test('an object that the store says it cannot read is not waited for', async (t) => {
  const stub = await startStub(t, (asked) =>
    asked.path.endsWith('/bad') ? internalError : partOf(DATA, asked, ETAG),
  )
  const store = openBucket(t, stub, { attempts: 2, outage: 3_600_000 })
  await readAll(store, REQUEST)
  await failsWith(store.read({ ...REQUEST, key: 'bad' }, unwanted), 'unreachable')
  assert.equal(stub.requests.length, 3)
})

test('an object that fails while others are read is not waited for', async (t) => {
  const stub = await startStub(t, (asked) =>
    asked.path.endsWith('/bad') ? starting : partOf(DATA, asked, ETAG),
  )
  const store = openBucket(t, stub, { attempts: 2, outage: 3_600_000 })
  let hasFailed = false
  const failing = failsWith(store.read({ ...REQUEST, key: 'bad' }, unwanted), 'unreachable')
  const failed = failing.finally(() => {
    hasFailed = true
  })
  while (!hasFailed) await readAll(store, REQUEST)
  assert.match((await failed).message, /ServiceUnavailable/)
})

const entity = { ETag: `"${ETAG}"` }
const DOUBTFUL: [name: string, Answer, RemoteFailure][] = [
  ['no ETag', empty(206, { 'Content-Range': 'bytes 4-23/43' }), 'unreachable'],
  ['another ETag', empty(206, { ETag: '"other"', 'Content-Range': 'bytes 4-23/43' }), 'changed'],
  ['another size', empty(206, { ...entity, 'Content-Range': 'bytes 4-23/50' }), 'changed'],
  ['another range', empty(206, { ...entity, 'Content-Range': 'bytes 3-22/43' }), 'unreachable'],
  ['a longer range', empty(206, { ...entity, 'Content-Range': 'bytes 4-42/43' }), 'unreachable'],
  ['a range cut short', empty(206, { ...entity, 'Content-Range': 'bytes 4-9/43' }), 'unreachable'],
  ['no range', { ...empty(206, entity), body: 'x'.repeat(20) }, 'unreachable'],
  [
    'a range of unknown size',
    empty(206, { ...entity, 'Content-Range': 'bytes 4-23/*' }),
    'unreachable',
  ],
  ['the whole object', { ...empty(200, entity), body: DATA.toString() }, 'unreachable'],
  ['the whole of another size', { ...empty(200, entity), body: 'another object' }, 'changed'],
]

for (const [name, answer, failure] of DOUBTFUL) {
  test(`an answer with ${name} is ${failure}, and nothing of it is delivered`, async (t) => {
    const store = await answered(t, answer)
    const error = await failsWith(store.read(REQUEST, unwanted), failure)
    assert.equal(error.delivered, 0)
  })
}

test('an object that ends within the range has changed', async (t) => {
  const store = await answered(t, empty(206, { ...entity, 'Content-Range': 'bytes 4-9/10' }))
  await failsWith(
    store.read({ key: 'key', offset: 4, length: 20, etag: ETAG }, unwanted),
    'changed',
  )
})

test('200 without a length says nothing of the object', async (t) => {
  const stub = await startStub(t, (_asked, res) => {
    res.writeHead(200, entity)
    res.end(DATA)
  })
  await failsWith(openBucket(t, stub).read(REQUEST, unwanted), 'unreachable')
})

test('200 is as good for the whole object', async (t) => {
  const store = await answered(t, { ...empty(200, entity), body: DATA.toString() })
  const request = { key: 'key', offset: 0, length: DATA.length, etag: ETAG, size: DATA.length }
  assert.ok((await readAll(store, request)).equals(DATA))
})

test('a weak ETag is the same ETag', async (t) => {
  const stub = await startStub(t, (asked) => {
    const answer = partOf(DATA, asked)
    return { ...answer, headers: { ...answer.headers, ETag: `W/"${ETAG}"` } }
  })
  assert.equal((await readAll(openBucket(t, stub), REQUEST)).length, 20)
})

test('If-Match is sent, unless the store is known to get it wrong', async (t) => {
  const stub = await startStub(t, (asked) => partOf(DATA, asked, ETAG))
  await readAll(openBucket(t, stub), REQUEST)
  assert.equal(stub.requests.at(-1)?.headers['if-match'], `"${ETAG}"`)
  await readAll(openBucket(t, stub, { ifMatch: false }), REQUEST)
  assert.equal(stub.requests.at(-1)?.headers['if-match'], undefined)
  const other = { ...REQUEST, etag: 'other' }
  await failsWith(openBucket(t, stub, { ifMatch: false }).read(other, unwanted), 'changed')
})

for (const waits of [false, true]) {
  const sink = waits ? 'a sink that takes its time' : 'a sink'
  test(`of more bytes than the range has, ${sink} gets those of the range`, async (t) => {
    const body = `${DATA.toString('latin1', 4, 24)}x`
    const stub = await startStub(t, (asked) => ({ ...partOf(DATA, asked, ETAG), body }))
    const got: Buffer[] = []
    const error = await failsWith(
      openBucket(t, stub).read(REQUEST, (chunk) => {
        if (!waits) return void got.push(Buffer.from(chunk))
        // The memory must be left alone until then.
        return setImmediate().then(() => void got.push(Buffer.from(chunk)))
      }),
      'unreachable',
    )
    assert.match(error.message, /sent more/)
    assert.equal(error.delivered, 20)
    assert.equal(Buffer.concat(got).toString(), body.slice(0, 20))
  })
}

test('an answer that is not wanted is not read, and keeps no connection', async (t) => {
  const open = new Set<ServerResponse>()
  const stub = await startStub(t, (_asked, res) => {
    res.writeHead(206, { ETag: '"other"', 'Content-Range': 'bytes 4-23/43', 'Content-Length': 20 })
    res.flushHeaders()
    open.add(res)
    res.on('close', () => open.delete(res))
  })
  const store = openBucket(t, stub)
  for (let i = 0; i < 200; i++) await failsWith(store.read(REQUEST, unwanted), 'changed')
  while (open.size > 0) await once([...open][0]!, 'close')
  while (stub.connections.size > 0) await new Promise((resolve) => setImmediate(resolve))
})

const COLD: Record<string, string>[] = [
  { 'x-amz-storage-class': 'GLACIER' },
  { 'x-amz-storage-class': 'INTELLIGENT_TIERING', 'x-amz-archive-status': 'ARCHIVE_ACCESS' },
]

for (const cold of COLD) {
  test(`an object of ${Object.values(cold)} is archived, until it is restored`, async (t) => {
    let restore: Record<string, string> = {}
    const stub = await startStub(t, () => empty(200, { ...entity, ...cold, ...restore }))
    const store = openBucket(t, stub)
    assert.equal((await store.stat('key')).archived, true)
    restore = { 'x-amz-restore': 'ongoing-request="true"' }
    assert.equal((await store.stat('key')).archived, true)
    restore = {
      'x-amz-restore': 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"',
    }
    assert.equal((await store.stat('key')).archived, false)
  })
}

test('a message is one line, whatever the key', async (t) => {
  const store = await answered(t, noSuchKey)
  const key = 'a\nb\r\u001b[31m\u2028c\u0085%41 é'
  const error = await failsWith(store.read({ ...REQUEST, key }, unwanted), 'gone')
  assert.match(error.message, /^s3:\/\/bucket\/a%0Ab%0D%1B\[31m%E2%80%A8c%C2%85%41 é: /)
})

/** A real object behind a proxy that breaks things. */
interface Broken {
  proxy: FaultProxy
  store: RemoteStore
  data: Buffer
  key: string
}

async function broken(t: TestContext, idle = 1000): Promise<Broken> {
  const server = await startFauxqs()
  const bucket = await makeBucket(server)
  const proxy = await startFaultProxy(server)
  const data = Buffer.alloc(1_000_000)
  for (let i = 0; i < data.length; i++) data[i] = (i * 7919) >> 3
  await bucket.put('key', data)
  const timeouts = { connect: 1000, headers: 1000, idle }
  const store = openBucket(t, proxy, { attempts: 2, timeouts }, { bucket: bucket.name })
  t.after(async () => {
    await proxy.stop()
    await bucket.destroy()
    await server.stop()
  })
  return { proxy, store, data, key: 'key' }
}

const isGet = ({ method }: { method: string }) => method === 'GET'

test('what was delivered before a break is right, and is counted', async (t) => {
  const { proxy, store, data, key } = await broken(t)
  for (const kind of ['cut', 'reset', 'stall'] as const) {
    for (const at of kind === 'stall' ? [123_457] : [0, 1, 123_457, data.length - 1]) {
      proxy.on(isGet, { kind, at })
      const chunks: Buffer[] = []
      const read = store.read({ key, offset: 0, length: data.length }, (chunk) => {
        chunks.push(Buffer.from(chunk))
      })
      const error = await failsWith(read, 'unreachable')
      const got = Buffer.concat(chunks)
      assert.equal(got.length, error.delivered, kind)
      assert.ok(got.equals(data.subarray(0, got.length)), kind)
      if (kind === 'reset') assert.ok(got.length <= at)
      else assert.equal(got.length, at, kind)
      proxy.clear()
    }
  }
})

test('a break is reported only when the sink has come back', async (t) => {
  const { proxy, store, data, key } = await broken(t)
  proxy.on(isGet, { kind: 'cut', at: 500_000 })
  let busy = 0
  const read = store.read({ key, offset: 0, length: data.length }, async () => {
    busy++
    await new Promise((resolve) => setTimeout(resolve, 5))
    busy--
  })
  await failsWith(read, 'unreachable')
  assert.equal(busy, 0)
})

test('a reader may take longer than a store', async (t) => {
  const { store, data, key } = await broken(t, 300)
  let pauses = 0
  await store.read({ key, offset: 0, length: data.length }, async () => {
    if (pauses++ < 2) await new Promise((resolve) => setTimeout(resolve, 700))
  })
  assert.ok(pauses >= 2)
})

test('a read goes on from the byte reached', async (t) => {
  const { proxy, store, data, key } = await broken(t)
  const { etag } = await store.stat(key)
  const before = proxy.requests.length
  for (const kind of ['cut', 'reset'] as const) {
    proxy.on(isGet, { kind, at: 300_000 }, { times: 2 })
    const chunks: Buffer[] = []
    const request = { key, offset: 1000, length: 900_000, etag, size: data.length }
    await readResuming(store, request, (chunk) => {
      chunks.push(Buffer.from(chunk))
    })
    assert.ok(Buffer.concat(chunks).equals(data.subarray(1000, 901_000)), kind)
    proxy.clear()
  }
  const ranges = proxy.requests.slice(before).map(({ headers }) => headers.range)
  assert.deepEqual(ranges.slice(0, 3), [
    'bytes=1000-900999',
    'bytes=301000-900999',
    'bytes=601000-900999',
  ])
  assert.ok(
    proxy.requests.slice(before).every(({ headers }) => headers['if-match'] === `"${etag}"`),
  )
})

test('a read that goes on finds out that the object has changed', async (t) => {
  const { proxy, store, data, key } = await broken(t)
  const { etag } = await store.stat(key)
  proxy.on(isGet, { kind: 'cut', at: 300_000 }, { times: 1 })
  proxy.on(isGet, { kind: 'etag', etag: 'other' })
  let bytes = 0
  const read = readResuming(store, { key, offset: 0, length: data.length, etag }, (chunk) => {
    bytes += chunk.length
  })
  const error = await failsWith(read, 'changed')
  assert.deepEqual([bytes, error.delivered], [300_000, 300_000])
})

for (const [where, at] of [
  ['the headers', undefined],
  ['the first byte', 0],
] as const) {
  test(`a connection that breaks before ${where} is tried again`, async (t) => {
    const { proxy, store, data, key } = await broken(t)
    for (const kind of ['cut', 'reset', 'stall'] as const) {
      const rule = proxy.on(isGet, { kind, at }, { times: 1 })
      const got = await readAll(store, { key, offset: 0, length: data.length })
      assert.ok(got.equals(data))
      assert.equal(rule.hits, 1)
      proxy.clear()
      proxy.on(isGet, { kind, at })
      // A time-out is no abort of ours.
      const read = store.read({ key, offset: 0, length: 10 }, unwanted)
      assert.equal(isAbort(await failsWith(read, 'unreachable')), false)
      proxy.clear()
    }
  })
}

test('a store that takes no connection is unreachable', async (t) => {
  const { proxy, store, key } = await broken(t)
  await proxy.down()
  const error = await failsWith(store.read({ key, offset: 0, length: 1 }, unwanted), 'unreachable')
  assert.match(error.hint ?? '', /running/)
  await failsWith(store.stat(key), 'unreachable')
  await failsWith(listAll(store), 'unreachable')
  await proxy.up()
  assert.equal((await readAll(store, { key, offset: 0, length: 1 })).length, 1)
})

test('where no connection comes about, a proxy that is not used is named, and not its password', async (t) => {
  const saved = { ...process.env }
  const isProxy = (name: string) => /_proxy$/i.test(name)
  const clear = () => {
    for (const name of Object.keys(process.env).filter(isProxy)) delete process.env[name]
  }
  clear()
  t.after(() => {
    clear()
    Object.assign(process.env, saved)
  })
  // It takes connections, and never answers a TLS handshake.
  const server = createServer((socket) => void socket.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  const limits = { attempts: 1, timeouts: { connect: 50 } }
  const hintAt = async (endpoint: string): Promise<string | undefined> => {
    const store = openBucket(t, { endpoint }, limits)
    return (await failsWith(store.read(REQUEST, unwanted), 'unreachable')).hint
  }
  const [silent, refusing] = [`https://127.0.0.1:${port}`, 'http://127.0.0.1:1']
  assert.equal(await hintAt(silent), undefined)
  assert.match((await hintAt(refusing)) ?? '', /--endpoint-url$/)
  process.env.https_proxy = 'http://user:secret@proxy:3128'
  const unused = 'keepgw does not use proxies (https_proxy is set)'
  assert.equal(await hintAt(silent), unused)
  assert.ok((await hintAt(refusing))?.endsWith(`--endpoint-url; ${unused}`))
  const stub = await startStub(t, () => accessDenied)
  assert.doesNotMatch((await hintAt(stub.endpoint)) ?? '', /proxies/)
})

test('what stands still in the middle of a listing or an error does so for a while only', async (t) => {
  const stub = await startStub(t, ({ path }, res) => {
    res.writeHead(path.includes('list-type') ? 200 : 404, { 'Content-Length': 1000 })
    res.write('<?xml version="1.0"?><Error><Code>NoSuchKey</Code>')
  })
  const store = openBucket(t, stub, { attempts: 1, timeouts: { idle: 100 } })
  await failsWith(listAll(store), 'unreachable')
  await failsWith(store.read(REQUEST, unwanted), 'unreachable')
})

test('what is no HTTP is unreachable', async (t) => {
  const server = createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  const store = openBucket(t, { endpoint: `http://127.0.0.1:${port}` }, { attempts: 1 })
  await failsWith(store.read(REQUEST, unwanted), 'unreachable')
})
