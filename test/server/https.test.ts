/** The service over HTTPS: every kind of request on a real connection. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, stat, utimes } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { type Certificate, makeCertificate } from '../servers/certificate.ts'
import { makeBlock } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-https-'))
const certificate: Certificate = await makeCertificate()
after(async () => {
  await rm(scratch, { recursive: true })
  await certificate[Symbol.asyncDispose]()
})

const { data, hash } = makeBlock(5_000_000)
const path = `/${hash}+${data.length}`
const root = { Authorization: 'Bearer root-token' }
const OLD = new Date('2020-01-01T00:00:00Z')

/** A service of a directory, which is written to as well. */
async function start(t: TestContext): Promise<{ h: Harness; file: string }> {
  const dir = await mkdtemp(join(scratch, 'root-'))
  const h = await Harness.start(t, {
    volumes: [await UnixVolume.open(dir)],
    tls: certificate,
    tokens: { systemRoot: 'root-token', management: 'management-token' },
  })
  return { h, file: join(dir, hash.slice(0, 3), hash) }
}

describe('over HTTPS', () => {
  test('a block is put, found and got, whole', async (t) => {
    const { h } = await start(t)
    const put = await h.send('PUT', path, { 'Content-Length': data.length }, data)
    assert.deepEqual([put.status, String(put.body)], [200, `${path.slice(1)}\n`])
    const head = await h.send('HEAD', path)
    assert.deepEqual([head.status, head.headers['content-length']], [200, String(data.length)])
    const got = await h.get(path)
    assert.ok(got.complete && got.body.equals(data))
    assert.equal((await h.get(`/${'0'.repeat(32)}`)).status, 404)
    const index = await h.get('/index', root)
    assert.match(String(index.body), new RegExp(`^${hash}\\+${data.length} \\d{19}\\n\\n$`))
  })

  test('TOUCH makes a block young again, also when its head comes in pieces', async (t) => {
    const { h, file } = await start(t)
    await h.send('PUT', path, { 'Content-Length': data.length }, data)
    const request = `TOUCH ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer root-token\r\n\r\n`
    for (const cut of [request.length, 60]) {
      await utimes(file, OLD, OLD)
      const socket = await h.connect()
      socket.write(request.slice(0, cut))
      await new Promise((resolve) => setImmediate(resolve))
      if (cut < request.length) socket.write(request.slice(cut))
      const answer = String(Buffer.concat(await Array.fromAsync(socket)))
      assert.match(answer, /^HTTP\/1\.1 200 OK\r\n.*Connection: close/is)
      assert.ok((await stat(file)).mtimeMs > OLD.getTime())
    }
    const line = await h.logLine((each) => each.msg === 'response' && each.reqMethod === 'TOUCH')
    assert.match(String(line.remoteAddr), /^127\.0\.0\.1:\d+$/)
    assert.match(await h.sendRaw(`TOUCH ${path} HTTP/1.1\r\nHost: x\r\n\r\n`), /^HTTP\/1\.1 401 /)
  })

  test('DELETE, /untrash, /mounts, health and metrics are as over HTTP', async (t) => {
    const { h, file } = await start(t)
    await h.send('PUT', path, { 'Content-Length': data.length }, data)
    await utimes(file, OLD, OLD)
    assert.equal((await h.send('DELETE', path, root)).status, 200)
    assert.equal((await h.get(path)).status, 404)
    assert.equal((await h.send('PUT', `/untrash${path}`, root)).status, 200)
    assert.equal((await h.get(path)).status, 200)
    assert.equal(JSON.parse(String((await h.get('/mounts', root)).body)).length, 1)
    const management = { Authorization: 'Bearer management-token' }
    assert.equal(String((await h.get('/_health/ping', management)).body), '{"health":"OK"}')
    assert.equal((await h.get('/metrics', management)).status, 200)
  })

  test('what is no TLS, or ends half-way, disturbs nobody', async (t) => {
    const { h } = await start(t)
    const plain = connect(h.port, '127.0.0.1')
    plain.on('error', () => {})
    plain.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await once(plain, 'close')
    // Who does not know the certificate goes away in the middle of the handshake.
    const stranger = connectTls({ port: h.port, host: '127.0.0.1' })
    const [error] = await once(stranger, 'error').catch((thrown) => [thrown])
    assert.match(String(error.code), /SELF_SIGNED/)
    const broken = await h.connect()
    broken.write(`GET ${path} HTTP/1.1\r\nHo`)
    broken.destroy()
    assert.equal((await h.get('/xyz')).status, 400)
  })

  test('nonsense in a good connection is answered in it', async (t) => {
    const { h } = await start(t)
    assert.match(await h.sendRaw('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 .*\r\n\r\nBad Request\n$/s)
  })
})
