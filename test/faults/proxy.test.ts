import assert from 'node:assert/strict'
import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { after, afterEach, before, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
} from '@aws-sdk/client-s3'
import { makeCertificate } from '../servers/certificate.ts'
import { startFauxqs } from '../servers/fauxqs.ts'
import { connectTo, makeBucket, type S3Server, sharedS3, type TestBucket } from '../servers/s3.ts'
import {
  accessDenied,
  type Fault,
  internalError,
  noSuchBucket,
  proxyPage,
  redirect,
  slowDown,
} from './fault.ts'
import { type FaultProxy, type SeenRequest, startFaultProxy } from './proxy.ts'

const KEY = 'reads/sample.bam'
const DATA = randomBytes(1 << 20)
const isGet = (seen: SeenRequest) => seen.method === 'GET'

let server: S3Server
let bucket: TestBucket
let proxy: FaultProxy
let client: ReturnType<typeof connectTo>

before(async () => {
  server = sharedS3() ?? (await startFauxqs())
  bucket = await makeBucket(server)
  await bucket.put(KEY, DATA)
  proxy = await startFaultProxy(server)
  client = connectTo({ ...server, endpoint: proxy.endpoint }, 1)
})

afterEach(() => proxy.clear())

after(async () => {
  client.destroy()
  await proxy.stop()
  await bucket.destroy()
  await server.stop()
})

/** Reads the object through the proxy with a signed request. */
function get() {
  return client.send(new GetObjectCommand({ Bucket: bucket.name, Key: KEY }))
}

/** Returns what arrives until the answer ends or breaks, and whether it broke. */
async function read(answer: AsyncIterable<Uint8Array>) {
  const chunks: Uint8Array[] = []
  let error: { code?: string } | undefined
  try {
    for await (const chunk of answer) chunks.push(chunk)
  } catch (thrown) {
    error = thrown as { code?: string }
  }
  return { bytes: Buffer.concat(chunks), error }
}

async function getAndRead() {
  const { Body } = await get()
  return read(Body as unknown as AsyncIterable<Uint8Array>)
}

test('hands signed requests on and the whole answer back', async () => {
  const { bytes, error } = await getAndRead()
  assert.equal(error, undefined)
  assert.ok(bytes.equals(DATA))
  const seen = proxy.requests.at(-1)
  assert.equal(seen?.path.split('?')[0], `/${bucket.name}/${KEY}`)
  assert.equal(seen?.status, 200)
  assert.equal(seen?.headers.host, new URL(proxy.endpoint).host)
})

test('hands an upload on, and an answer without a body back', async () => {
  const through = await makeBucket({ ...server, endpoint: proxy.endpoint })
  const { etag } = await through.putLarge('large', DATA.subarray(0, 600_000), 5 << 20)
  const head = await through.client.send(
    new HeadObjectCommand({ Bucket: through.name, Key: 'large' }),
  )
  assert.equal(head.ETag, `"${etag}"`)
  assert.equal(head.ContentLength, 600_000)
  await through.destroy()
})

test('hands on path, header names and their order as they came', async () => {
  const bare = await bareStore()
  const direct = await startFaultProxy(bare)
  const paths = ['/b/a/../b', '/b/%41%2e%2E', '//x', '/b/./c//d/?list-type=2&prefix=%2F', '/b/a:b']
  for (const path of paths) {
    const { port } = new URL(direct.endpoint)
    const socket = connect(Number(port), '127.0.0.1')
    const head = `GET ${path} HTTP/1.1\r\nX-Second: B\r\nhOsT: some.where:1\r\nx-FIRST: a\r\nConnection: close\r\n\r\n`
    socket.write(head)
    await read(socket)
    assert.equal(bare.heads.at(-1), head)
    assert.equal(direct.requests.at(-1)?.path, path)
  }
  await direct.stop()
  await bare.stop()
})

test('down() refuses connections and resets open ones, up() takes them again', async () => {
  proxy.on(isGet, { kind: 'stall', at: 100 })
  const { Body } = await get()
  await proxy.down()
  const { error } = await read(Body as unknown as AsyncIterable<Uint8Array>)
  assert.ok(error)
  await assert.rejects(get(), { code: 'ECONNREFUSED' })
  await proxy.up()
  proxy.clear()
  assert.ok((await getAndRead()).bytes.equals(DATA))
})

for (const kind of ['reset', 'cut'] as const) {
  test(`${kind} breaks the answer off at a byte`, async () => {
    proxy.on(isGet, { kind, at: 300_000 })
    const { bytes, error } = await getAndRead()
    assert.equal(error?.code, 'ECONNRESET')
    assert.ok(bytes.equals(DATA.subarray(0, bytes.length)))
    if (kind === 'cut') assert.equal(bytes.length, 300_000)
    else assert.ok(bytes.length <= 300_000)
  })

  test(`${kind} without a byte gives no answer at all`, async () => {
    proxy.on(isGet, { kind })
    await assert.rejects(get(), { code: 'ECONNRESET' })
    assert.equal(proxy.requests.at(-1)?.status, undefined)
  })
}

test('cut at byte 0 gives the head alone', async () => {
  proxy.on(isGet, { kind: 'cut', at: 0 })
  const { ContentLength, Body } = await get()
  assert.equal(ContentLength, DATA.length)
  const { bytes, error } = await read(Body as unknown as AsyncIterable<Uint8Array>)
  assert.equal(bytes.length, 0)
  assert.equal(error?.code, 'ECONNRESET')
})

test('stall holds the answer at a byte until it is released', async () => {
  const rule = proxy.on(isGet, { kind: 'stall', at: 300_000 })
  const { Body } = await get()
  let arrived = 0
  for await (const chunk of Body as unknown as AsyncIterable<Uint8Array>) {
    arrived += chunk.length
    if (arrived === 300_000) rule.release()
    else if (arrived > 300_000) break
  }
  // Without the stall, a chunk would have gone past the byte.
  assert.ok(arrived > 300_000)
  assert.equal(rule.hits, 1)
})

test('stall without a byte holds back the whole answer', async () => {
  const rule = proxy.on(isGet, { kind: 'stall' })
  await assert.rejects(
    client.send(new GetObjectCommand({ Bucket: bucket.name, Key: KEY }), {
      abortSignal: AbortSignal.timeout(200),
    }),
    { name: 'AbortError' },
  )
  assert.equal(proxy.requests.at(-1)?.status, undefined)
  rule.release()
  assert.ok((await getAndRead()).bytes.equals(DATA))
})

test('a stall or a reset can have its time', async () => {
  proxy.on(isGet, { kind: 'stall', at: 300_000, milliseconds: 50 }, { times: 1 })
  const began = performance.now()
  assert.ok((await getAndRead()).bytes.equals(DATA))
  assert.ok(performance.now() - began >= 45)
  proxy.on(isGet, { kind: 'reset', at: 300_000, milliseconds: 200 })
  const { bytes, error } = await getAndRead()
  assert.equal(error?.code, 'ECONNRESET')
  assert.ok(bytes.length > 0)
})

test('slow delivers the answer in small pieces', async () => {
  proxy.on(isGet, { kind: 'slow', bytesPerSecond: 200 })
  const { Body } = await get()
  for await (const piece of Body as unknown as AsyncIterable<Uint8Array>) {
    // A chunk would hold kilobytes else.
    assert.ok(piece.length < 1000)
    break
  }
  proxy.clear()
  proxy.on(isGet, { kind: 'slow', bytesPerSecond: 20 << 20 })
  assert.ok((await getAndRead()).bytes.equals(DATA))
})

test('flip changes one byte and not the length', async () => {
  proxy.on(isGet, { kind: 'flip', at: 777_777 })
  const { bytes, error } = await getAndRead()
  assert.equal(error, undefined)
  const wanted = Buffer.from(DATA)
  wanted[777_777] = ~wanted[777_777]!
  assert.ok(bytes.equals(wanted))
})

test('length makes the body shorter or longer, and says so', async () => {
  for (const bytes of [0, 300_000, DATA.length + 10]) {
    proxy.on(isGet, { kind: 'length', bytes })
    const { ContentLength, Body } = await get()
    assert.equal(ContentLength, bytes)
    const arrived = await read(Body as unknown as AsyncIterable<Uint8Array>)
    assert.equal(arrived.error, undefined)
    const wanted = Buffer.concat([DATA, Buffer.alloc(10)]).subarray(0, bytes)
    assert.ok(arrived.bytes.equals(wanted))
    proxy.clear()
  }
})

test('edit changes the text of an answer', async () => {
  const list = () => client.send(new ListObjectsV2Command({ Bucket: bucket.name }))
  proxy.on(isGet, { kind: 'edit', edit: (xml) => xml.replace(`<Key>${KEY}`, '<Key>another') })
  assert.equal((await list()).Contents?.[0]?.Key, 'another')
})

test('etag shows another ETag', async () => {
  proxy.on(isGet, { kind: 'etag', etag: 'deadbeef' })
  assert.equal((await get()).ETag, '"deadbeef"')
})

test('answers in the place of the store', async () => {
  const answers: [Fault, number, RegExp][] = [
    [internalError, 500, /<Code>InternalError/],
    [slowDown(7), 503, /<Code>SlowDown/],
    [accessDenied, 403, /<Code>AccessDenied/],
    [noSuchBucket, 404, /<Code>NoSuchBucket/],
    [proxyPage, 404, /<html>/],
    [redirect('http://127.0.0.1:1/'), 307, /<Code>TemporaryRedirect/],
  ]
  for (const [fault, status, body] of answers) {
    proxy.on(isGet, fault, { times: 1 })
    const answer = await plainGet()
    assert.equal(answer.statusCode, status)
    assert.match((await read(answer)).bytes.toString(), body)
    assert.equal(answer.headers['retry-after'], status === 503 ? '7' : undefined)
    assert.equal(proxy.requests.at(-1)?.status, status)
  }
})

test('a fault with `times` ends by itself', async () => {
  const rule = proxy.on(isGet, internalError, { times: 2 })
  for (let i = 0; i < 2; i++) await assert.rejects(get(), { name: 'InternalError' })
  assert.ok((await getAndRead()).bytes.equals(DATA))
  assert.equal(rule.hits, 2)
})

test('before runs ahead of the request, beside another fault', async () => {
  await bucket.put('gone/soon', 'x')
  const gone = { Bucket: bucket.name, Key: 'gone/soon' }
  proxy.on(isGet, { kind: 'before', run: () => bucket.client.send(new DeleteObjectCommand(gone)) })
  proxy.on(isGet, { kind: 'etag', etag: 'unused' })
  await assert.rejects(client.send(new GetObjectCommand(gone)), { name: 'NoSuchKey' })
})

test('speaks HTTPS with one certificate, and then with another', async (t) => {
  await using first = await makeCertificate()
  await using second = await makeCertificate()
  const secure = await startFaultProxy(server, first)
  t.after(() => secure.stop())
  const shown = async (): Promise<Buffer> => {
    const port = Number(new URL(secure.endpoint).port)
    const socket = connectTls({ host: '127.0.0.1', port, ca: [first.cert, second.cert] })
    await once(socket, 'secureConnect')
    const { raw } = socket.getPeerX509Certificate()!
    socket.destroy()
    return raw
  }
  assert.ok((await shown()).equals(new X509Certificate(first.cert).raw))
  secure.renew(second)
  assert.ok((await shown()).equals(new X509Certificate(second.cert).raw))
})

test('a certificate can have expired', async () => {
  await using expired = await makeCertificate({ days: -1 })
  assert.ok(Date.parse(new X509Certificate(expired.cert).validTo) < Date.now())
})

/** Sends an unsigned GET: what the SDK makes of an answer is not asked. */
async function plainGet(): Promise<IncomingMessage> {
  const [answer] = await once(request(`${proxy.endpoint}/${bucket.name}/${KEY}`).end(), 'response')
  return answer
}

/** A store that takes down what it is sent, to the byte. */
async function bareStore() {
  const heads: string[] = []
  const store = createServer((socket) => {
    socket.once('data', (head) => {
      heads.push(head.toString('latin1'))
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
    })
  })
  store.listen(0, '127.0.0.1')
  await once(store, 'listening')
  const { port } = store.address() as { port: number }
  const stop = async () => {
    await once(store.close(), 'close')
  }
  return { endpoint: `http://127.0.0.1:${port}`, heads, stop }
}
