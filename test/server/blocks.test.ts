import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { describe, test } from 'node:test'
import { KeepVolume } from '../../src/volume/keep/keep.ts'
import type { BlockSource } from '../../src/volume/volume.ts'
import {
  aborted,
  breaking,
  corrupted,
  deliver,
  failing,
  failure,
  makeBlock,
  makeSource,
  makeVolume,
  stalling,
} from '../volume/fakes.ts'
import { Harness, readAnswer } from './harness.ts'

const KIB = 1024
const { data, hash } = makeBlock(300 * KIB)
const path = `/${hash}+${data.length}`
const small = makeBlock(100)

const holding = (...sources: BlockSource[]) => [makeVolume({ blocks: { [hash]: sources } })]

describe('GET of a block', () => {
  test('answers with the data, its length and the headers of a Keep service', async (t) => {
    const h = await Harness.start(t, { volumes: holding(makeSource('a', data)) })
    for (const target of [
      path,
      `/${path}`,
      `/${hash}`,
      `${path}+Z+K@xyzzy`,
      `/${hash}%2B${data.length}`,
    ]) {
      const { status, headers, body } = await h.get(target)
      assert.equal(status, 200, target)
      assert.ok(body.equals(data))
      assert.equal(headers['content-length'], String(data.length))
      assert.equal(headers.vary, 'X-Keep-Signature')
      assert.equal(headers['access-control-allow-origin'], '*')
    }
  })

  test('the empty block is there, whatever the volumes hold', async (t) => {
    const h = await Harness.start(t, {})
    for (const method of ['GET', 'HEAD']) {
      const answer = await h.send(method, '/d41d8cd98f00b204e9800998ecf8427e+0')
      assert.deepEqual([answer.status, answer.headers['content-length']], [200, '0'])
    }
    assert.equal((await h.get('/d41d8cd98f00b204e9800998ecf8427e+1')).status, 404)
  })

  test('bad locators are refused, with one line', async (t) => {
    const h = await Harness.start(t, { volumes: holding(makeSource('a', data)) })
    for (const bad of [
      `${path}+`,
      `${path}++Z`,
      `${path}+3`,
      `${path}+Rzzzzz-0@0`,
      '/xyz',
      '/',
      '/%zz',
    ]) {
      const { status, body, headers } = await h.get(bad)
      assert.equal(status, 400, bad)
      assert.match(body.toString(), /^[^\n]+\n$/)
      assert.match(headers['content-type'] ?? '', /^text\/plain/)
    }
    assert.equal((await h.get('/xyz')).body.toString(), 'Bad Request\n')
  })

  const bad = makeSource('corrupt', corrupted(small.data, 3))
  const gone = failing('gone', small.data, 'gone')
  const out = failing('out', small.data, 'unreachable')
  const failures: [string, BlockSource[], number, string][] = [
    ['unknown', [], 404, 'Not Found\n'],
    ['gone everywhere', [gone, failing('changed', small.data, 'changed')], 404, 'Not Found\n'],
    ['corrupt', [gone, bad], 502, 'checksum mismatch in stored data\n'],
    ['out of reach', [out, bad, gone], 503, 'storage cannot be reached\n'],
  ]
  for (const [name, sources, status, text] of failures) {
    test(`a block that is ${name}: ${status}`, async (t) => {
      const volumes = [makeVolume({ blocks: { [small.hash]: sources } })]
      const h = await Harness.start(t, { volumes })
      const answer = await h.get(`/${small.hash}+100`)
      assert.equal(answer.status, status)
      assert.equal(answer.body.toString(), text)
      assert.equal(answer.headers['content-length'], String(text.length))
    })
  }

  test('another size than the block has: 404', async (t) => {
    const h = await Harness.start(t, { volumes: holding(makeSource('a', data)) })
    assert.equal((await h.get(`/${hash}+5`)).status, 404)
  })

  test('what the keep service behind refuses is refused here: 401, 400', async (t) => {
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const back = await Harness.start(t, { volumes: [makeVolume({})], signing })
    const behind = new KeepVolume({ services: [`http://127.0.0.1:${back.port}`] })
    t.after(() => behind.close())
    const h = await Harness.start(t, { volumes: [behind] })
    for (const [headers, status] of [
      [{}, 401],
      [{ Authorization: 'Bearer x' }, 400],
    ] as const) {
      for (const name of [hash, `${hash}+${data.length}`]) {
        for (const method of ['GET', 'HEAD']) {
          const answer = await h.send(method, `/${name}`, headers)
          assert.equal(answer.status, status, `${method} ${name}`)
        }
      }
    }
  })

  test('a file that was cut short: 502, unless another place has the block; and it is in the log', async (t) => {
    const short = makeSource('short', data.subarray(1), { measured: true })
    const good = makeSource('good', data)
    const h = await Harness.start(t, { volumes: holding(short) })
    for (const method of ['GET', 'HEAD']) assert.equal((await h.send(method, path)).status, 502)
    const line = await h.logLine(({ cause }) => cause === 'corrupt')
    assert.deepEqual([line.level, line.source], ['error', 'short'])
    const both = await Harness.start(t, { volumes: holding(short, good) })
    assert.ok((await both.get(path)).body.equals(data))
  })

  test('other methods: 400', async (t) => {
    const h = await Harness.start(t, { volumes: holding(makeSource('a', data)) })
    assert.equal((await h.send('POST', path)).status, 400)
    assert.equal((await h.send('PROPFIND', '/')).status, 400)
  })
})

describe('a block whose places fail on the way', () => {
  for (const at of [0, 1, 236 * KIB, 300 * KIB - 1]) {
    test(`at byte ${at}: the next place goes on, and the client sees nothing of it`, async (t) => {
      const next = makeSource('b', data)
      const h = await Harness.start(t, { volumes: holding(breaking('a', data, at), next) })
      const answer = await h.get(path)
      assert.ok(answer.complete && answer.body.equals(data))
      assert.deepEqual(next.reads, [at])
      const line = await h.logLine(({ msg }) => msg === 'failover')
      const { level, cause, source, offset } = line
      assert.deepEqual([level, cause, source, offset], ['warn', 'unreachable', 'a', at])
    })
  }

  test('wrong data ends the answer short of its length, and is an error in the log', async (t) => {
    const h = await Harness.start(t, { volumes: holding(makeSource('bad', corrupted(data, 7))) })
    const answer = await h.get(path)
    assert.equal(answer.status, 200)
    assert.equal(answer.complete, false)
    assert.ok(answer.body.length <= data.length - 64 * KIB)
    assert.equal((await h.logLine(({ cause }) => cause === 'corrupt')).level, 'error')
  })

  test('no place left in the middle: the answer is cut', async (t) => {
    const h = await Harness.start(t, { volumes: holding(breaking('a', data, 100_000)) })
    const answer = await h.get(path)
    assert.deepEqual([answer.status, answer.complete], [200, false])
    assert.ok(answer.body.equals(data.subarray(0, answer.body.length)))
  })

  test('a place that stands still is left after the idle limit', async (t) => {
    const volumes = holding(stalling('a', data, 50_000), makeSource('b', data))
    const h = await Harness.start(t, { volumes, idleLimit: 30 })
    assert.ok((await h.get(path)).body.equals(data))
  })

  test('is read from the next place where one is slow, which is counted and hardly logged', async (t) => {
    const slow = stalling('slow', data, 0)
    const volumes = holding(slow, makeSource('next', data))
    const tokens = { management: 'the-management-token' }
    const h = await Harness.start(t, { volumes, tokens, hedgeAfter: 1 })
    assert.ok((await h.get(path)).body.equals(data))
    const headers = { Authorization: `Bearer ${tokens.management}` }
    const metrics = (await h.get('/metrics', headers)).body.toString()
    assert.match(metrics, /^keepgw_hedges_total\{outcome="won"\} 1$/m)
    assert.match(metrics, /^keepgw_failovers_total\{cause="unreachable"\} 0$/m)
    assert.ok(h.logLines.every(({ level }) => level === 'info'))
  })

  test('many readers at once all get the truth while places fail in turn', async (t) => {
    let request = 0
    const moody = (name: string, turn: number) =>
      makeSource(name, data, {
        async read(from, sink) {
          const mood = (request++ + turn) % 4
          if (mood === 0) throw failure('unreachable')
          if (mood === 1) {
            const at = Math.min(data.length - 1, from + 30_000)
            await deliver(data, from, at, sink)
            throw failure('unreachable', at - from)
          }
          if (mood === 2) throw failure('gone')
          await deliver(data, from, data.length, sink)
        },
      })
    const sources = [moody('a', 0), moody('b', 1), moody('c', 2), makeSource('good', data)]
    const h = await Harness.start(t, { volumes: holding(...sources) })
    const answers = await Promise.all(Array.from({ length: 60 }, () => h.get(path)))
    for (const answer of answers) assert.ok(answer.complete && answer.body.equals(data))
  })
})

describe('HEAD of a block', () => {
  test('tells the length, and reads nothing where a place is unchanged', async (t) => {
    const source = makeSource('a', data)
    const h = await Harness.start(t, { volumes: holding(source) })
    for (const target of [path, `/${hash}`]) {
      const answer = await h.send('HEAD', target)
      assert.equal(answer.status, 200)
      assert.equal(answer.headers['content-length'], String(data.length))
    }
    assert.deepEqual(source.reads, [])
  })

  test('proves the data where only a read can tell', async (t) => {
    const unchanged = async () => false
    const sources = { bad: makeSource('a', corrupted(data, 9)), good: makeSource('a', data) }
    for (const [name, source] of Object.entries(sources)) {
      const h = await Harness.start(t, { volumes: holding({ ...source, unchanged }) })
      const expected = name === 'good' ? 200 : 502
      assert.equal((await h.send('HEAD', path)).status, expected)
    }
  })

  test('has the statuses of GET', async (t) => {
    const h = await Harness.start(t, { volumes: holding(failing('a', data, 'unreachable')) })
    assert.equal((await h.send('HEAD', path)).status, 503)
    assert.equal((await h.send('HEAD', `/${small.hash}`)).status, 404)
    assert.equal((await h.send('HEAD', `${path}++`)).status, 400)
  })
})

describe('a client', () => {
  test('that goes away cancels the read behind', async (t) => {
    const { promise: cancelled, resolve } = Promise.withResolvers<void>()
    const slow = makeSource('slow', data, {
      async read(from, sink, signal) {
        await deliver(data, from, 100_000, sink)
        await aborted(signal)
        resolve()
        throw signal.reason
      },
    })
    const next = makeSource('next', data)
    const h = await Harness.start(t, { volumes: holding(slow, next) })
    const socket = await h.connect()
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await once(socket, 'data')
    socket.destroy()
    await cancelled
    const line = await h.logLine(({ msg }) => msg === 'response')
    assert.equal(line.respError, 'the client went away')
    assert.deepEqual(next.reads, [])
  })

  test('that goes away cancels what it had asked for one behind the other', async (t) => {
    const all = Promise.withResolvers<void>()
    const reads = { begun: 0, cancelled: 0 }
    let socket: Socket | undefined
    const source = makeSource('a', data, {
      async read(from, sink, signal) {
        // The second answer waits for the first one, which never ends.
        if (++reads.begun === 2) socket?.destroy()
        await aborted(signal)
        if (++reads.cancelled === 2) all.resolve()
        await deliver(data, from, 1, sink)
      },
    })
    const h = await Harness.start(t, { volumes: holding(source) })
    socket = await h.connect()
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(2))
    await all.promise
  })

  test('that goes away before the first byte gets nothing, and no place is blamed', async (t) => {
    const { promise: asked, resolve } = Promise.withResolvers<void>()
    const silent = makeSource('silent', data, {
      async read(_from, _sink, signal) {
        resolve()
        await aborted(signal)
        throw signal.reason
      },
    })
    const h = await Harness.start(t, { volumes: holding(silent) })
    const socket = await h.connect()
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await asked
    socket.destroy()
    const line = await h.logLine(({ msg }) => msg === 'response')
    assert.equal(line.respStatusCode, 0)
    assert.equal(
      h.logLines.some(({ msg }) => msg === 'failover'),
      false,
    )
  })

  test('that reads slowly holds the reading back', async (t) => {
    const big = makeBlock(32 * KIB * KIB)
    let delivered = 0
    const source = makeSource('a', big.data, {
      async read(from, sink) {
        for (let at = from; at < big.data.length; at += 64 * KIB) {
          await sink(big.data.subarray(at, at + 64 * KIB))
          delivered = at + 64 * KIB
        }
      },
    })
    const volumes = [makeVolume({ blocks: { [big.hash]: [source] } })]
    const h = await Harness.start(t, { volumes })
    const req = get({ port: h.port, host: '127.0.0.1', path: `/${big.hash}`, agent: false })
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    // Another request is answered meanwhile; by its end the first one had its chance to run on.
    for (let i = 0; i < 20; i++) await h.get('/d41d8cd98f00b204e9800998ecf8427e+0')
    assert.ok(delivered < big.data.length, 'kernel buffers hold less than the block')
    assert.ok((await readAnswer(res)).body.equals(big.data))
  })

  test('may send its requests one behind the other on one connection', async (t) => {
    const volumes = [
      makeVolume({
        blocks: { [hash]: [makeSource('a', data)], [small.hash]: [makeSource('b', small.data)] },
      }),
    ]
    const h = await Harness.start(t, { volumes })
    const requests = [
      `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`,
      `GET /${small.hash} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    ]
    const text = await h.sendRaw(requests.join(''))
    const bodies = text.split(/HTTP\/1\.1 200 OK\r\n/).map((part) => part.split('\r\n\r\n'))
    const first = Buffer.from(bodies[1]!.slice(1).join('\r\n\r\n'), 'latin1')
    assert.ok(first.equals(data))
    assert.ok(text.endsWith(small.data.toString('latin1')))
  })
})

describe('what would write', () => {
  test('is refused at once, before its body, and the connection closed', async (t) => {
    const h = await Harness.start(t, {})
    const socket = await h.connect()
    const size = 10 * KIB * KIB
    socket.write(`PUT ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\na part`)
    const [head] = (await once(socket, 'data')) as [Buffer]
    assert.match(head.toString(), /^HTTP\/1\.1 405 Method Not Allowed\r\n/)
    assert.match(head.toString(), /\r\nConnection: close\r\n/)
    // Who sends on before it looks at the answer is not cut off, which could lose that answer.
    socket.resume()
    socket.write(Buffer.alloc(size - 'a part'.length))
    await once(socket, 'end')
  })

  test('is refused without a "100 Continue"', async (t) => {
    const h = await Harness.start(t, {})
    const head = `PUT ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n`
    assert.match(await h.sendRaw(head), /^HTTP\/1\.1 405 /)
  })

  test('may be a DELETE, or a TOUCH that Node does not know', async (t) => {
    const h = await Harness.start(t, {})
    assert.equal((await h.send('DELETE', path)).status, 405)
    const touch = (target: string) => h.sendRaw(`TOUCH ${target} HTTP/1.1\r\nHost: x\r\n\r\n`)
    const answer = await touch(path)
    assert.match(answer, /^HTTP\/1\.1 405 Method Not Allowed\r\n/)
    assert.match(answer, /\r\nAccess-Control-Allow-Origin: \*\r\n/)
    assert.match(await touch('/xyz'), /^HTTP\/1\.1 400 Bad Request\r\n/)
    assert.match(await h.sendRaw('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 .*\r\n\r\nBad Request\n$/s)
  })

  test('behind a block on the same connection puts no byte into its data', async (t) => {
    const { promise: bad, resolve: seen } = Promise.withResolvers<void>()
    const source = makeSource('a', data, {
      async read(from, sink, signal) {
        await deliver(data, from, 100_000, sink)
        seen()
        await aborted(signal)
        throw signal.reason
      },
    })
    const h = await Harness.start(t, { volumes: holding(source) })
    const socket = await h.connect()
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await bad
    socket.write(`TOUCH ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await once(socket, 'close')
    assert.doesNotMatch(Buffer.concat(chunks).toString('latin1'), /405/)
  })
})

describe('HEAD with head=read', () => {
  test('reads and proves all of the block each time', async (t) => {
    const source = makeSource('a', data)
    const h = await Harness.start(t, { volumes: holding(source), head: 'read' })
    const answer = await h.send('HEAD', path)
    assert.deepEqual([answer.status, answer.headers['content-length']], [200, String(data.length)])
    assert.deepEqual(source.reads, [0])
  })

  test('finds wrong data that a place takes for unchanged', async (t) => {
    const volumes = holding(makeSource('a', corrupted(data, 9)))
    const asking = await Harness.start(t, { volumes })
    assert.equal((await asking.send('HEAD', path)).status, 200)
    const reading = await Harness.start(t, { volumes, head: 'read' })
    assert.equal((await reading.send('HEAD', path)).status, 502)
  })
})
