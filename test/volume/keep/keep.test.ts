import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { RemoteError } from '../../../src/remote/remote.ts'
import { makeMount, shownMounts } from '../../../src/server/mounts.ts'
import { startServer } from '../../../src/server/serve.ts'
import { FailureMemory } from '../../../src/volume/failure-memory.ts'
import { readIndex } from '../../../src/volume/keep/index-lines.ts'
import { KeepVolume } from '../../../src/volume/keep/keep.ts'
import { rendezvous } from '../../../src/volume/keep/rendezvous.ts'
import { readBlock } from '../../../src/volume/read-block.ts'
import type { Failover } from '../../../src/volume/source-walk.ts'
import { UnixVolume } from '../../../src/volume/unix/unix.ts'
import { VolumeFull } from '../../../src/volume/volume.ts'
import { serveOptions } from '../../server/harness.ts'
import { readFrom, type VolumeFixture, volumeSuite } from '../../suites/volume.ts'
import { makeBlock } from '../fakes.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-keep-'))
after(() => rm(scratch, { recursive: true }))

const signal = new AbortController().signal
const WANTED = { replicas: 1, classes: [] }
const { data, hash } = makeBlock(100_000)

/** A keep service of our own, over a directory. */
async function startService(root: string) {
  const volumes = [await UnixVolume.open(root)]
  const server = await startServer(serveOptions({ volumes, tokens: { systemRoot: 'root-token' } }))
  return { url: `http://${server.address}`, close: () => server.close() }
}

for (const count of [1, 3]) {
  volumeSuite(`keep volume of ${count}`, 'writes', async (): Promise<VolumeFixture> => {
    const roots: string[] = []
    for (let at = 0; at < count; at++) roots.push(await mkdtemp(join(scratch, 'root-')))
    const services = await Promise.all(roots.map(startService))
    const urls = services.map(({ url }) => url)
    const volume = new KeepVolume({ services: urls, systemRoot: 'root-token' })
    let isClosed = false
    const close = async () => {
      if (isClosed) return
      isClosed = true
      await Promise.all(services.map((service) => service.close()))
    }
    let next = 0
    return {
      volume,
      async add(name, content) {
        const dir = join(roots[next++ % count]!, name.slice(0, 3))
        await mkdir(dir, { recursive: true })
        await writeFile(join(dir, name), content)
      },
      cutOff: close,
      async teardown() {
        await volume.close()
        await close()
      },
    }
  })
}

/** A service that answers as it is told. */
async function startFake(t: TestContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function open(t: TestContext, services: string[]): KeepVolume {
  const volume = new KeepVolume({ services, systemRoot: 'root-token' })
  t.after(() => volume.close())
  return volume
}

const status = (code: number, headers = {}): RequestListener => {
  return (req, res) => {
    req.resume()
    req.on('end', () => res.writeHead(code, headers).end('as told\n'))
  }
}
/** As keep services say it, old keepproxies among them. */
const KEEPS = {
  'Access-Control-Allow-Headers':
    'Authorization, Content-Length, Content-Type, X-Keep-Desired-Replicas',
}
const notFound = status(404, KEEPS)
const good: RequestListener = (_req, res) => {
  res.writeHead(200, { 'Content-Length': data.length }).end(data)
}

describe('a block in other keep services', () => {
  test('is not there only if all of them say so', async (t) => {
    const missing = await startFake(t, notFound)
    const gone = open(t, [missing, await startFake(t, notFound)])
    await assert.rejects(readFrom(gone, hash, data.length), { failure: 'not-found' })
    await assert.rejects(readFrom(gone, hash), { failure: 'not-found' })
    for (const code of [401, 403, 429, 500, 503]) {
      const volume = open(t, [missing, await startFake(t, status(code))])
      const read = readFrom(volume, hash, data.length)
      await assert.rejects(read, { failure: 'unreachable' }, String(code))
    }
    const reset = await startFake(t, (req) => req.socket.destroy())
    const volume = open(t, [missing, reset])
    await assert.rejects(readFrom(volume, hash, data.length), { failure: 'unreachable' })
  })

  test('may be there where another server says 404, or nobody says how long it is', async (t) => {
    const page = { 'Content-Type': 'text/html', 'Access-Control-Allow-Origin': '*' }
    const endless: RequestListener = (_req, res) => {
      res.writeHead(200)
      res.write(data)
      res.end()
    }
    for (const other of [status(404), status(404, page), endless]) {
      const volume = open(t, [await startFake(t, other)])
      await assert.rejects(readFrom(volume, hash, data.length), { failure: 'unreachable' })
      await assert.rejects(readFrom(volume, hash), { failure: 'unreachable' })
    }
  })

  test('is refused to whom the service refuses it, which is not the service’s failure', async (t) => {
    const missing = await startFake(t, notFound)
    for (const code of [400, 401, 403]) {
      const refusing = await startFake(t, status(code, KEEPS))
      const failures = new FailureMemory()
      const read = (services: string[], size: number | undefined) => {
        const query = { hash, size, signal, failures, volumes: [open(t, services)] }
        const reader = { locator: size === undefined ? hash : `${hash}+${size}` }
        return readBlock({ ...query, reader, idleLimit: 20_000 }, { begin() {}, write() {} })
      }
      const down = await startFake(t, status(503, KEEPS))
      // In front of a service, it says nothing of the reader.
      const proxy = await startFake(t, status(code))
      for (const size of [undefined, data.length]) {
        await assert.rejects(read([refusing, missing], size), { status: code })
        await assert.rejects(read([missing, refusing], size), { status: code })
        assert.equal(failures.has(`${refusing}/${hash}`), false)
        assert.equal(failures.has(`keep:${refusing},${missing}`), false)
        await assert.rejects(read([refusing, down], size), {
          failure: 'unreachable',
          name: 'BlockError',
        })
        await assert.rejects(read([refusing, proxy], size), { name: 'BlockError' })
      }
    }
  })

  test('comes from the next one where one fails, breaks off, or sends wrong data', async (t) => {
    const breaking: RequestListener = (_req, res) => {
      res.writeHead(200, { 'Content-Length': data.length })
      res.write(data.subarray(0, 50_000), () => setImmediate(() => res.destroy()))
    }
    const wrong: RequestListener = (_req, res) => {
      res.writeHead(200, { 'Content-Length': 5 }).end('wrong')
    }
    for (const bad of [status(503), notFound, breaking, wrong]) {
      const volume = open(t, [await startFake(t, bad), await startFake(t, good)])
      assert.ok((await readFrom(volume, hash, data.length)).equals(data))
    }
  })

  test('is asked for with the token and the signature of who reads it, and by whose hands', async (t) => {
    const asked: unknown[] = []
    const url = await startFake(t, (req, res) => {
      asked.push([req.method, req.url, req.headers.authorization, req.headers.via])
      good(req, res)
    })
    const volume = new KeepVolume({ services: [url], id: 'keepgw-me' })
    t.after(() => volume.close())
    const hint = `A${'0'.repeat(40)}@7fffffff`
    const locator = `${hash}+${data.length}+${hint}`
    const reader = { locator, token: 'the-token', via: '1.1 somebody' }
    for await (const source of volume.sources(hash, reader)) await source.read(0, () => {}, signal)
    const via = '1.1 somebody, 1.1 keepgw-me'
    assert.deepEqual(asked, [['GET', `/${locator}`, 'Bearer the-token', via]])
    // What came around is asked for already.
    assert.deepEqual(await Array.fromAsync(volume.sources(hash, { locator, via })), [])
  })

  test('is out of reach to a reader whom no service knows, and is not to one who only looks', async (t) => {
    const url = await startFake(t, (_req, res) => void res.writeHead(401).end())
    const volume = open(t, [url])
    assert.deepEqual(await Array.fromAsync(volume.sources(hash)), [])
    await assert.rejects(Array.fromAsync(volume.sources(hash, { locator: hash })), /answered 401/)
  })

  test('is not silent while a service sends again what is known', async (t) => {
    let asked = 0
    const url = await startFake(t, async (_req, res) => {
      res.writeHead(200, { 'Content-Length': data.length })
      if (asked++ === 0) return res.write(data.subarray(0, 95_000), () => res.destroy())
      // For longer than the limit in all, though each piece comes in time.
      for (let at = 0; at < data.length; at += 10_000) {
        res.write(data.subarray(at, at + 10_000))
        await delay(200)
      }
      res.end()
    })
    const volume = open(t, [url])
    const chunks: Buffer[] = []
    const events: Failover[] = []
    await readBlock(
      {
        volumes: [volume],
        hash,
        size: data.length,
        reader: { locator: `${hash}+${data.length}` },
        signal,
        failures: new FailureMemory(),
        idleLimit: 1500,
        onFailover: (event) => events.push(event),
      },
      { begin() {}, write: (chunk) => void chunks.push(Buffer.from(chunk)) },
    )
    assert.ok(Buffer.concat(chunks).equals(data))
    assert.ok(
      events.every(({ message }) => !/nothing came/.test(message)),
      JSON.stringify(events),
    )
  })

  test('is written to as many services as copies are wanted, with the writer’s token', async (t) => {
    const asked: string[] = []
    const services: string[] = []
    for (let number = 0; number < 3; number++) {
      const url = await startFake(t, async (req, res) => {
        let length = 0
        for await (const chunk of req) length += chunk.length
        assert.equal(length, data.length)
        asked.push(
          `${number} ${req.headers.authorization} ${req.headers['x-keep-storage-classes']}`,
        )
        res.setHeader('X-Keep-Replicas-Stored', '1')
        res.setHeader('X-Keep-Storage-Classes-Confirmed', 'hot=1')
        res.end(`${hash}+${data.length}+A${'0'.repeat(40)}@7fffffff\n`)
      })
      services.push(url)
    }
    const volume = open(t, services)
    const wanted = { replicas: 2, classes: ['hot'], token: 'the-token' }
    const stored = await volume.put({ hash, data }, wanted, signal)
    const locator = `${hash}+${data.length}+A${'0'.repeat(40)}@7fffffff`
    const written = 2 * data.length
    assert.deepEqual(stored, { replicas: 2, classes: { hot: 2 }, locator, written })
    const order = rendezvous(hash, [0, 1, 2]).slice(0, 2)
    assert.deepEqual(
      asked,
      order.map((number) => `${number} Bearer the-token hot`),
    )
  })

  test('is not taken for written where the answer names another block', async (t) => {
    const plain = `${hash}+${data.length}`
    for (const name of [`${plain}0`, `${plain}+A\nx`, `${plain}++`, hash, '-']) {
      const url = await startFake(t, (req, res) => void req.resume().on('end', () => res.end(name)))
      const put = open(t, [url]).put({ hash, data }, WANTED, signal)
      await assert.rejects(put, { failure: 'unreachable' }, name)
    }
  })

  test('finds no room only if all are full', async (t) => {
    const full = await startFake(t, status(507))
    const put = (services: string[]) => open(t, services).put({ hash, data }, WANTED, signal)
    await assert.rejects(put([full, await startFake(t, status(507))]), VolumeFull)
    const some = await put([full, await startFake(t, status(503))]).catch((error) => error)
    assert.equal(some.failure, 'unreachable')
  })
})

test('its blocks are listed to keep-balance by the services behind, not by it', async (t) => {
  const volume = open(t, ['http://127.0.0.1:1'])
  assert.deepEqual(shownMounts([makeMount(volume, 'zzzzz')]), [])
})

test('services are asked in the order of the SDKs', () => {
  const services = ['a', 'b', 'c', 'd', 'e']
  const weight = (number: number) => {
    const uuid = `00000-bi6l4-${String(number).padStart(15, '0')}`
    return createHash('md5')
      .update(hash + uuid.slice(-15))
      .digest('hex')
  }
  const numbers = [0, 1, 2, 3, 4].sort((a, b) => (weight(a) > weight(b) ? -1 : 1))
  assert.deepEqual(
    rendezvous(hash, services),
    numbers.map((number) => services[number]),
  )
})

test('an index counts only if it is complete', async () => {
  const all = async (...pieces: string[]) => {
    return Array.fromAsync(readIndex(Readable.from(pieces.map((each) => Buffer.from(each)))))
  }
  const line = `${hash}+5 1700000000123456789\n`
  const block = { hash, length: 5, mtimeNs: 1_700_000_000_123_456_789n }
  assert.deepEqual(await all('\n'), [])
  assert.deepEqual(await all(line, line.slice(0, 7), line.slice(7), '\n'), [block, block])
  for (const bad of [
    '',
    line,
    line.slice(0, -1),
    `${line}\n${line}`,
    'Forbidden\n',
    `x${line}\n`,
  ]) {
    await assert.rejects(all(bad), { failure: 'unreachable' }, JSON.stringify(bad))
  }
})

test('an index of any bytes, in any pieces, is whole or out of reach', async () => {
  const line = `${hash}+100000 1700000000000000000\n`
  const part = fc.oneof(
    fc.constantFrom(line, '\n', `${hash}+3 17\n`, `${hash}+x 1\n`, hash, ' '),
    fc.string({ unit: 'binary-ascii' }),
  )
  const indexes = fc.array(part).map((parts) => Buffer.from(`${parts.join('')}\n`))
  const outcome = async (pieces: Buffer[]): Promise<unknown> => {
    try {
      return await Array.fromAsync(readIndex(Readable.from(pieces)))
    } catch (error) {
      assert.ok(error instanceof RemoteError && error.failure === 'unreachable', String(error))
      return undefined
    }
  }
  await fc.assert(
    fc.asyncProperty(indexes, fc.nat(), async (index, at) => {
      const cut = at % index.length
      const pieces = [index.subarray(0, cut), index.subarray(cut)].filter(
        ({ length }) => length > 0,
      )
      assert.deepEqual(await outcome(pieces), await outcome([index]))
    }),
  )
  const endless = Readable.from(Array(100_000).fill(Buffer.alloc(1000, 'a')))
  await assert.rejects(Array.fromAsync(readIndex(endless)), { name: 'RemoteError' })
  assert.ok(!endless.readableEnded)
})
