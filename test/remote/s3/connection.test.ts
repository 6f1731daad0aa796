/** How connections are used, used again, and given up; over a server that says what a test wants. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import {
  type Answered,
  HttpClient,
  type HttpLimits,
  TransportError,
} from '../../../src/remote/s3/http.ts'
import { runs } from '../../fuzz.ts'

interface Peer {
  origin: string
  client: HttpClient
  /** All that were ever opened. */
  connections: Socket[]
  /** Sends GET and resolves to the body. */
  get(path?: string, signal?: AbortSignal): Promise<string>
}

/** Plays a server whose `play` is called with each request, by the number of its connection. */
async function serve(
  t: TestContext,
  play: (socket: Socket, connection: number, request: string) => void,
  limits: HttpLimits = {},
): Promise<Peer> {
  const connections: Socket[] = []
  const server = createServer((socket) => {
    const number = connections.push(socket)
    socket.on('error', () => {})
    socket.on('data', (request) => play(socket, number, request.toString('latin1')))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = new HttpClient(limits)
  t.after(() => {
    client.close(new Error('over'))
    server.close()
    for (const socket of connections) socket.destroy()
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const get = async (path = '/', signal?: AbortSignal): Promise<string> => {
    let body = ''
    const take: Answered = () => (chunk) => {
      body += Buffer.from(chunk).toString('latin1')
    }
    await client.request({ origin, method: 'GET', path, headers: {} }, take, signal)
    return body
  }
  return { origin, client, connections, get }
}

function answer(body: string, ...headers: string[]): string {
  return ['HTTP/1.1 200 OK', `Content-Length: ${body.length}`, ...headers, '', body].join('\r\n')
}

async function failsAs(request: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(request, (error) => {
    assert.ok(error instanceof TransportError, String(error))
    assert.equal(error.code, code)
    return true
  })
}

test('requests one after the other share a connection', async (t) => {
  const { get, connections } = await serve(t, (socket) => socket.write(answer('x')))
  for (let i = 0; i < 5; i++) assert.equal(await get(), 'x')
  assert.equal(connections.length, 1)
})

test('requests side by side use no more connections than they may', async (t) => {
  let open = 0
  let most = 0
  const play = (socket: Socket): void => {
    most = Math.max(most, ++open)
    setTimeout(() => {
      open -= 1
      socket.write(answer('x'))
    }, 5)
  }
  const { get, connections } = await serve(t, play, { connections: 3 })
  const bodies = await Promise.all(Array.from({ length: 12 }, () => get()))
  assert.deepEqual(bodies, Array(12).fill('x'))
  assert.deepEqual([connections.length, most], [3, 3])
})

test('a connection that was to be closed is not used again', async (t) => {
  const { get, connections } = await serve(t, (socket) => {
    socket.write(answer('x', 'Connection: close'))
  })
  assert.equal((await get()) + (await get()), 'xx')
  assert.equal(connections.length, 2)
})

test('what the server closes while it is idle is replaced, unnoticed', async (t) => {
  const { get, connections } = await serve(t, (socket, number, request) => {
    // The second request meets a connection that is on its way to be closed, or just reset.
    if (number === 1 && request.includes('/end')) socket.end()
    else if (number === 2 && request.includes('/reset')) socket.resetAndDestroy()
    else socket.write(answer(String(number)))
  })
  assert.equal(await get('/'), '1')
  assert.equal(await get('/end'), '2')
  assert.equal(await get('/reset'), '3')
  assert.equal(connections.length, 3)
})

test('a server that closes every new connection is not asked for ever', async (t) => {
  const { get, connections } = await serve(t, (socket) => socket.end())
  await failsAs(get(), 'HTTP_CLOSED')
  assert.equal(connections.length, 1)
})

test('an answer cut short fails, also on a connection that was used before', async (t) => {
  const { get } = await serve(t, (socket, _number, request) => {
    if (request.includes('/first')) socket.write(answer('x'))
    else socket.end(answer('hello').slice(0, -2))
  })
  await get('/first')
  await failsAs(get(), 'HTTP_CLOSED')
})

test('more than was asked for belongs to nobody', async (t) => {
  const { get, connections } = await serve(t, (socket, number) => {
    socket.write(`${answer(`body ${number}`)}${answer('stray')}`)
  })
  assert.equal(await get(), 'body 1')
  assert.equal(await get(), 'body 2')
  assert.equal(connections.length, 2)
})

/** Sends GET, and returns the first piece of the answer, whose reader is busy with it until `goOn`. */
async function pausedAtFirst(client: HttpClient, origin: string) {
  const { promise: taken, resolve: take } = Promise.withResolvers<Uint8Array>()
  const { promise: pause, resolve: goOn } = Promise.withResolvers<void>()
  const request = client.request(
    { origin, method: 'GET', path: '/', headers: {} },
    () => (chunk) => {
      take(chunk)
      return pause
    },
  )
  return { chunk: await taken, goOn, request }
}

test('more than was asked for does not overwrite a last piece that is still looked at', async (t) => {
  const { origin, client, connections } = await serve(t, (socket) => socket.write(answer('right')))
  const { chunk, goOn, request } = await pausedAtFirst(client, origin)
  const [socket] = connections
  const closed = once(socket!, 'close')
  socket!.write('x'.repeat(10_000))
  await closed
  assert.equal(Buffer.from(chunk).toString('latin1'), 'right')
  goOn()
  await request
})

test('a connection that ends leaves its last piece to the reader that still looks at it', async (t) => {
  const bodies = ['right', 'other', 'third']
  const { origin, client, connections, get } = await serve(t, (socket, number) => {
    socket.write(answer(bodies[number - 1]!))
  })
  const { chunk, goOn, request } = await pausedAtFirst(client, origin)
  connections[0]!.end()
  await once(connections[0]!, 'close')
  await Promise.all([get(), get()])
  assert.equal(Buffer.from(chunk).toString('latin1'), 'right')
  goOn()
  await request
})

test('what comes to an idle connection ends it', async (t) => {
  const { get, connections } = await serve(t, (socket, number) => {
    socket.write(answer(`body ${number}`))
  })
  assert.equal(await get(), 'body 1')
  const [first] = connections
  first!.write(answer('stray'))
  await once(first!, 'close')
  assert.equal(await get(), 'body 2')
})

test('a head may come byte by byte, after others that announce it', async (t) => {
  const text = `HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n${answer('hello')}`
  const { get } = await serve(t, async (socket) => {
    socket.setNoDelay(true)
    for (const byte of Buffer.from(text)) {
      socket.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
  })
  assert.equal(await get(), 'hello')
})

const NO_ANSWERS: Record<string, string> = {
  'no HTTP': 'SSH-2.0-OpenSSH_9.6\r\n\r\n',
  'another protocol': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  'of two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc',
  'headers without an end': `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(20_000)}`,
}

for (const [name, text] of Object.entries(NO_ANSWERS)) {
  test(`an answer that is ${name} fails, and its connection is closed`, async (t) => {
    const { get, connections } = await serve(t, (socket) => socket.write(text))
    await failsAs(get(), 'HTTP_MALFORMED')
    if (!connections[0]!.closed) await once(connections[0]!, 'close')
  })
}

test('no answer in time is told by what was waited for', async (t) => {
  const limits = { timeouts: { headers: 60, idle: 60 } }
  const { get } = await serve(
    t,
    (socket, _number, request) => {
      if (request.includes('/body')) socket.write(answer('hello').slice(0, -2))
    },
    limits,
  )
  await assert.rejects(get('/head'), { code: 'HTTP_TIMEOUT', message: 'no answer within 0.06 s' })
  await assert.rejects(get('/body'), { code: 'HTTP_TIMEOUT', message: 'no byte for 0.06 s' })
})

test('an aborted request closes its connection, and one that still waits needs none', async (t) => {
  const { get, connections } = await serve(t, () => {}, { connections: 1 })
  const [first, second] = [new AbortController(), new AbortController()]
  const asked = get('/', first.signal)
  const waiting = get('/', second.signal)
  second.abort(new Error('no more'))
  await assert.rejects(waiting, /no more/)
  while (connections.length === 0) await new Promise(setImmediate)
  first.abort(new Error('enough'))
  await assert.rejects(asked, /enough/)
  if (!connections[0]!.closed) await once(connections[0]!, 'close')
  assert.equal(connections.length, 1)
})

test('who closes the client ends what is under way, and what comes later', async (t) => {
  const { get, client } = await serve(t, () => {})
  const asked = get()
  client.close(new Error('closed'))
  await assert.rejects(asked, /closed/)
  await assert.rejects(get(), /closed/)
})

test('whatever a server sends, in whatever pieces, an answer is taken whole or the request fails', async (t) => {
  const good = answer('0123456789')
  const chunked = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n`
  const closing = 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789'
  let pieces: Buffer[] = []
  const play = async (socket: Socket): Promise<void> => {
    for (const piece of pieces) {
      socket.write(piece)
      await nextTurn()
    }
    socket.end()
  }
  const { origin } = await serve(t, (socket) => void play(socket))
  const spoilt = fc
    .tuple(
      fc.constantFrom(good, chunked, closing),
      fc.nat(),
      fc.nat({ max: 12 }),
      fc.oneof(
        fc.string({ unit: 'binary-ascii', maxLength: 6 }),
        fc.constantFrom('\r\n', '\r\n\r\n', '0', 'Content-Length: 3\r\n', 'HTTP/1.1 200 OK\r\n'),
      ),
    )
    .map(([text, at, cut, more]) => {
      const from = at % text.length
      return text.slice(0, from) + more + text.slice(from + cut)
    })
  const texts = fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom(good, chunked, closing) },
    { weight: 6, arbitrary: spoilt },
    { weight: 1, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 100 }) },
  )
  await fc.assert(
    fc.asyncProperty(texts, fc.array(fc.nat(), { maxLength: 4 }), async (text, cuts) => {
      const bytes = Buffer.from(text, 'latin1')
      const ends = cuts.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b)
      pieces = [0, ...ends].map((from, i) => bytes.subarray(from, ends[i] ?? bytes.length))
      let body = ''
      const take: Answered = () => (chunk) => {
        body += Buffer.from(chunk).toString('latin1')
      }
      // What a server sends behind its answer would be taken for the next one's.
      const client = new HttpClient({})
      const request = { origin, method: 'GET', path: '/', headers: {} } as const
      const isWhole = await client.request(request, take).then(
        () => true,
        (error) => {
          assert.ok(error instanceof TransportError, String(error))
          return false
        },
      )
      client.close(new Error('over'))
      if (![good, chunked, closing].includes(text)) return
      assert.deepEqual([isWhole, body], [true, '0123456789'])
    }),
    runs(200),
  )
})
