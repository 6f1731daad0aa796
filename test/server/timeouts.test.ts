/** Clients that stop in the midst of things are left after a while; those that are only slow are not. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { ClientTimeouts } from '../../src/server/timeouts.ts'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { makeCertificate } from '../servers/certificate.ts'
import { deliver, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-timeouts-'))
after(() => rm(scratch, { recursive: true }))

const small = makeBlock(1000)
/** More than the system buffers between two sockets. */
const large = (() => {
  const data = Buffer.alloc(24 * 1024 * 1024, small.data)
  return { data, hash: createHash('md5').update(data).digest('hex') }
})()

const volume = makeVolume({
  blocks: {
    [small.hash]: [makeSource('small', small.data)],
    [large.hash]: [makeSource('large', large.data)],
  },
})
const getHead = (hash: string) => `GET /${hash} HTTP/1.1\r\nHost: x\r\n\r\n`
const putHead = `PUT /${small.hash} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n`

async function writable(): Promise<UnixVolume> {
  return UnixVolume.open(await mkdtemp(join(scratch, 'root-')))
}

/** A service that has little patience. */
function start(t: TestContext, timeouts: Partial<ClientTimeouts>, options = {}): Promise<Harness> {
  return Harness.start(t, { volumes: [volume], timeouts, ...options })
}

/** All that comes until the server ends the connection. */
async function received(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of socket) chunks.push(chunk)
  } catch {
    // A reset is an end, too.
  }
  return Buffer.concat(chunks).toString('latin1')
}

async function sendSlowly(socket: Socket, data: string | Buffer, pieces: number, ms: number) {
  const bytes = Buffer.from(data)
  const size = Math.ceil(bytes.length / pieces)
  for (let at = 0; at < bytes.length && !socket.destroyed; at += size) {
    socket.write(bytes.subarray(at, at + size))
    await delay(ms)
  }
}

/** Reads the rest of an answer, `bytes` at a time with a pause behind each. */
async function readSlowly(socket: Socket, bytes: number, ms: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let sincePause = 0
  socket.setNoDelay()
  for await (const chunk of socket) {
    chunks.push(chunk)
    sincePause += chunk.length
    if (sincePause < bytes) continue
    sincePause = 0
    await delay(ms)
  }
  return Buffer.concat(chunks)
}

describe('a client', { concurrency: true, timeout: 60_000 }, () => {
  test('whose head does not come to an end is told so: 408', async (t) => {
    const h = await start(t, { head: 400 })
    const socket = await h.connect()
    socket.on('error', () => {})
    void sendSlowly(socket, `GET /${small.hash} HTTP/1.1\r\nX: ${'x'.repeat(1000)}`, 1000, 50)
    assert.match(await received(socket), /^HTTP\/1\.1 408 /)
  })

  test('that says nothing at all is left', async (t) => {
    const h = await start(t, { head: 400 })
    await received(await h.connect())
  })

  for (const sent of ['', 'GET /x HTTP/1.1\r\nHost']) {
    test(`that has sent ${sent === '' ? 'nothing' : 'half a head'} does not hold up the end`, async (t) => {
      const h = await start(t, { head: 500_000, silence: 500_000 })
      const socket = await h.connect()
      socket.write(`${getHead(small.hash)}${sent}`)
      await h.logLine(({ msg }) => msg === 'response')
      const fresh = await h.connect()
      fresh.write(sent)
      await Promise.all([h.server.close(), received(socket), received(fresh)])
    })
  }

  test('that does not begin with TLS is left', async (t) => {
    await using tls = await makeCertificate()
    const h = await start(t, { head: 400 }, { tls })
    const socket = connect(h.port, '127.0.0.1')
    assert.equal(await received(socket), '')
    assert.equal((await h.get(`/${small.hash}`)).status, 200)
  })

  test('that sends no further request is left, and one that does in time is not', async (t) => {
    const h = await start(t, { idle: 1500 })
    const socket = await h.connect()
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
    })
    for (let at = 0; at < 5; at++) {
      socket.write(getHead(small.hash))
      await delay(200)
    }
    if (!socket.closed) await once(socket, 'close')
    assert.equal(text.split('HTTP/1.1 200 ').length, 6)
  })

  for (const secure of [false, true]) {
    test(`that takes nothing of its block gives its place back (TLS: ${secure})`, async (t) => {
      await using tls = secure ? await makeCertificate() : undefined
      const h = await start(t, { silence: 1000 }, { maxBlocks: 1, tls })
      const socket = await h.connect()
      socket.on('error', () => {})
      socket.pause()
      socket.write(getHead(large.hash))
      const line = await h.logLine(({ msg }) => msg === 'response')
      assert.match(String(line.respError), /neither sent nor took a byte for 1 s/)
      assert.ok((await h.get(`/${large.hash}`)).body.equals(large.data))
    })
  }

  test('that takes its block slowly gets all of it', async (t) => {
    const h = await start(t, { silence: 2000 })
    const socket = await h.connect()
    socket.write(getHead(large.hash).replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
    const began = performance.now()
    const answer = await readSlowly(socket, 2 * 1024 * 1024, 400)
    assert.ok(performance.now() - began > 4000)
    assert.ok(answer.subarray(answer.indexOf('\r\n\r\n') + 4).equals(large.data))
  })

  test('that takes its block too slowly altogether is left', async (t) => {
    const h = await start(t, { answer: 500 })
    const socket = await h.connect()
    socket.on('error', () => {})
    socket.write(getHead(large.hash))
    await readSlowly(socket, 1, 100).catch(() => {})
    const line = await h.logLine(({ msg }) => msg === 'response')
    assert.match(String(line.respError), /took longer than 0\.5 s/)
  })

  test('that waits for a slow store is not blamed for it', async (t) => {
    const source = makeSource('late', small.data, {
      async read(from, sink) {
        await delay(1500)
        await deliver(small.data, from, small.data.length, sink)
      },
    })
    const volumes = [makeVolume({ blocks: { [small.hash]: [source] } })]
    const h = await start(t, { silence: 400 }, { volumes })
    assert.ok((await h.get(`/${small.hash}`)).body.equals(small.data))
  })

  test('whose body does not come to an end gives its memory back', async (t) => {
    const volumes = [await writable()]
    const h = await start(t, { silence: 1000 }, { volumes, writing: { buffers: 1 } })
    const socket = await h.connect()
    socket.on('error', () => {})
    socket.write(`${putHead}${'x'.repeat(500)}`)
    await h.logLine(({ msg }) => msg === 'request')
    const put = () => h.send('PUT', `/${small.hash}`, {}, small.data)
    assert.equal((await put()).status, 503)
    const line = await h.logLine(
      ({ msg, respStatusCode }) => msg === 'response' && respStatusCode === 0,
    )
    assert.match(String(line.respError), /neither sent nor took a byte/)
    assert.equal((await put()).status, 200)
  })

  test('whose body comes slowly is answered when it is there', async (t) => {
    const h = await start(t, { silence: 2000 }, { volumes: [await writable()] })
    const socket = await h.connect()
    socket.write(putHead.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
    await sendSlowly(socket, small.data, 10, 400)
    assert.match(await received(socket), /^HTTP\/1\.1 200 /)
  })

  test('whose body comes too slowly altogether is left', async (t) => {
    const h = await start(t, { head: 400, request: 800 }, { volumes: [await writable()] })
    const socket = await h.connect()
    socket.on('error', () => {})
    socket.write(putHead)
    void sendSlowly(socket, 'x'.repeat(999), 999, 50)
    assert.equal(await received(socket), '')
    const line = await h.logLine(({ msg }) => msg === 'response')
    assert.match(String(line.respError), /did not come whole within 0\.8 s/)
  })

  test('that waits for a slow disk is not blamed for it', async (t) => {
    const disk = await writable()
    const put = disk.put.bind(disk)
    disk.put = async (...args) => {
      await delay(1500)
      return put(...args)
    }
    const h = await start(t, { silence: 400 }, { volumes: [disk] })
    assert.equal((await h.send('PUT', `/${small.hash}`, {}, small.data)).status, 200)
  })
})
