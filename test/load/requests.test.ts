/** Requests of every bad shape, many of each at once: they are refused, and good readers notice nothing. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { md5, type Served, serve } from '../e2e/keepgw.ts'
import { NO_S3, sharedS3 } from '../servers/s3.ts'
import { holdingOfAll, NO_PROC } from './processes.ts'
import { descriptorsAreBack, IndexedBucket, MemoryWatch, open, received } from './service.ts'

const MIB = 2 ** 20
const AT_ONCE = 10
const server = sharedS3()
const skip = NO_PROC ?? (server === undefined && NO_S3)

/** What is sent, and what must come back before the connection ends: the block itself, or a text. */
type Shape = [name: string, sent: string | Buffer, answer: 'block' | RegExp]

const NOTHING = /^$/
/** Refused, or not even that. */
const BAD = /^(HTTP\/1\.1 400 Bad Request\r\n|$)/
const TOO_LONG = /^(HTTP\/1\.1 431 |$)/
const READ_ONLY = /^HTTP\/1\.1 405 /
const READ_ONLY_OR_NOTHING = /^(HTTP\/1\.1 405 |$)/

const head = (target: string, more = '', method = 'GET') =>
  `${method} ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${more}\r\n`

function shapesOf(hash: string): Shape[] {
  const get = (more: string, body = '') => head(`/${hash}`, more) + body
  const put = (more: string, body = '') => head(`/${hash}`, more, 'PUT') + body
  const encoded = [...hash].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('')
  return [
    ['garbage', randomBytes(2000), BAD],
    ['NUL bytes', Buffer.alloc(2000), BAD],
    ['TLS', Buffer.from(`160301020001000001fc0303${'00'.repeat(512)}`, 'hex'), BAD],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', BAD],
    ['HTTP/0.9', `GET /${hash}\r\n\r\n`, BAD],
    ['HTTP/2.0 in a line of HTTP/1', `GET /${hash} HTTP/2.0\r\nHost: x\r\n\r\n`, BAD],
    ['HTTP/9.9', `GET /${hash} HTTP/9.9\r\nHost: x\r\n\r\n`, BAD],
    ['HTTP/1.0', `GET /${hash} HTTP/1.0\r\n\r\n`, 'block'],
    ['no Host', `GET /${hash} HTTP/1.1\r\n\r\n`, BAD],
    ['line feeds alone', `GET /${hash} HTTP/1.1\nHost: x\n\n`, BAD],
    ['a method in small letters', head(`/${hash}`, '', 'get'), BAD],
    ['an unknown method', head(`/${hash}`, '', 'BREW'), BAD],
    ['a method for other things', head(`/${hash}`, '', 'PROPFIND'), BAD],
    ['CONNECT', head('example.org:443', '', 'CONNECT'), NOTHING],
    ['a NUL in the target', head(`/${hash}\0`), BAD],
    ['a NUL in a header', get('X: a\0b\r\n'), BAD],
    ['a header without a colon', get('nonsense\r\n'), BAD],
    ['a header with a space before its colon', get('Content-Length : 5\r\n'), BAD],
    ['a folded header', get('X: a\r\n b\r\n'), /^HTTP\/1\.1 (200|400) /],
    ['a header that is too long', get(`X: ${'x'.repeat(100_000)}\r\n`), TOO_LONG],
    ['too many headers', get('a: b\r\n'.repeat(50_000)), TOO_LONG],
    ['a URL of 10 MB', head(`/${hash}?${'x'.repeat(10_000_000)}`), TOO_LONG],
    ['a query that means nothing', head(`/${hash}?${'x'.repeat(10_000)}`), 'block'],
    ['Content-Length that is no number', get('Content-Length: abc\r\n'), BAD],
    ['Content-Length below 0', get('Content-Length: -1\r\n'), BAD],
    ['Content-Length with a sign', get('Content-Length: +1\r\n'), BAD],
    ['Content-Length twice', get('Content-Length: 1\r\nContent-Length: 2\r\n', 'ab'), BAD],
    ['Content-Length as a list', get('Content-Length: 1, 1\r\n', 'a'), BAD],
    ['a Content-Length beyond all numbers', get(`Content-Length: ${'9'.repeat(40)}\r\n`), BAD],
    [
      'Content-Length and Transfer-Encoding',
      get('Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      BAD,
    ],
    ['an unknown Transfer-Encoding', get('Transfer-Encoding: gzip\r\n', 'x'), BAD],
    ['chunked, and then something else', get('Transfer-Encoding: chunked, gzip\r\n', 'x'), BAD],
    ['bad chunks', put('Transfer-Encoding: chunked\r\n', 'zz\r\nxx\r\n'), READ_ONLY_OR_NOTHING],
    [
      'a chunk beyond all numbers',
      put('Transfer-Encoding: chunked\r\n', `${'f'.repeat(30)}\r\nx`),
      READ_ONLY_OR_NOTHING,
    ],
    ['a body that never comes', put('Content-Length: 1000\r\n'), READ_ONLY],
    ['a body that stops half-way', put('Content-Length: 1000\r\n', 'x'.repeat(500)), READ_ONLY],
    [
      'a body that waits to be asked for',
      put('Content-Length: 9\r\nExpect: 100-continue\r\n'),
      READ_ONLY,
    ],
    ['an expectation of something else', get('Expect: tea\r\n'), /^HTTP\/1\.1 417 /],
    ['a GET that waits to be asked', get('Expect: 100-continue\r\n'), 'block'],
    ['a GET with a body', `${get('Content-Length: 5\r\n')}hello`, 'block'],
    ['an Upgrade', get('Upgrade: websocket\r\nConnection: upgrade\r\n'), 'block'],
    ['a Range', get('Range: bytes=5-9\r\n'), 'block'],
    ['If-None-Match', get('If-None-Match: *\r\n'), 'block'],
    ['a whole URL', head(`http://elsewhere.example/${hash}`), 'block'],
    ['a whole URL of another kind', head(`ftp://elsewhere.example/${hash}`), BAD],
    ['an encoded hash', head(`/${encoded}`), 'block'],
    ['a hash that is encoded twice', head(`/${encoded.replaceAll('%', '%25')}`), BAD],
    ['a hash in capitals', head(`/${hash.toUpperCase()}`), BAD],
    ['.. before the hash', head(`/../${hash}`), BAD],
    ['.. behind the hash', head(`/${hash}/../${hash}`), BAD],
    ['.. in a hint', head(`/${hash}+../../${hash}`), BAD],
    ['%2e%2e', head(`/%2e%2e/${hash}`), BAD],
    ['%252e%252e', head(`/%252e%252e/${hash}`), BAD],
    ['%2f', head(`/%2f%2f${hash}`), BAD],
    ['%00', head(`/${hash}%00`), BAD],
    ['half an escape', head(`/${hash}%`), BAD],
    ['an escape that is no UTF-8', head(`/${hash}%ff`), BAD],
    ['a backslash', head(`\\${hash}`), BAD],
    ['no target', 'GET  HTTP/1.1\r\nHost: x\r\n\r\n', BAD],
    ['TOUCH', head(`/${hash}`, '', 'TOUCH'), READ_ONLY],
    ['DELETE', head(`/${hash}`, '', 'DELETE'), READ_ONLY],
    ['OPTIONS of all', head('*', '', 'OPTIONS'), /^HTTP\/1\.1 200 /],
  ]
}

describe('serve, asked badly', { skip, concurrency: true, timeout: 240_000 }, () => {
  let bucket: IndexedBucket

  before(async () => {
    bucket = await IndexedBucket.make(server!)
  })
  after(() => bucket?.destroy())

  /** Reads good blocks until it is disposed of; what went wrong with that is thrown then. */
  function goodReaders(served: Served): AsyncDisposable {
    let isOver = false
    const hashes = [...bucket.small.keys()]
    const readers = Array.from({ length: 4 }, async (_, at) => {
      for (let next = at; !isOver; next++) await bucket.read(served, hashes[next % hashes.length]!)
    })
    const all = Promise.all(readers)
    all.catch(() => {})
    return {
      async [Symbol.asyncDispose]() {
        isOver = true
        await all
      },
    }
  }

  /** Sends bytes as they are, and returns all that comes until the connection ends. */
  async function send(served: Served, bytes: string | Buffer): Promise<Buffer> {
    const socket = await open(served)
    socket.write(bytes)
    return received(socket)
  }

  async function watched(t: TestContext, flags: string[], work: (served: Served) => Promise<void>) {
    const served = await bucket.serve(t, flags)
    const before = holdingOfAll(served)
    await bucket.readAll(served)
    const warm = holdingOfAll(served)
    using memory = new MemoryWatch(served)
    {
      await using _ = goodReaders(served)
      await work(served)
    }
    await descriptorsAreBack(served, before)
    const grown = Math.round((memory.most - warm.rssAnon) / MIB)
    t.diagnostic(`RssAnon grew by ${grown} MiB at most`)
    assert.ok(grown < 300, `RssAnon grew by ${grown} MiB`)
    await bucket.readAll(served)
    assert.equal(await served.stop(), 0)
    const errors = served
      .log()
      .filter(({ msg }) => msg === 'internal error' || msg === 'worker ended')
    assert.deepEqual(errors, [])
  }

  for (const flags of [[], ['--workers=2']]) {
    it(`answers each shape as it should, and goes on (${flags.join() || 'one process'})`, async (t) => {
      await watched(t, flags, async (served) => {
        const [hash = '', data] = [...bucket.small].at(-1)!
        const failures: string[] = []
        await Promise.all(
          shapesOf(hash).map(async ([name, sent, expected]) => {
            const answers = await Promise.all(
              Array.from({ length: AT_ONCE }, () => send(served, sent)),
            )
            for (const answer of answers) {
              const isRight =
                expected === 'block'
                  ? isAnswerWith(answer, data)
                  : expected.test(answer.toString('latin1'))
              if (isRight) continue
              failures.push(`${name}: ${JSON.stringify(answer.toString('latin1', 0, 60))}`)
              return
            }
          }),
        )
        assert.deepEqual(failures, [])
      })
    })
  }

  it('is not held up by requests that come slowly or never, nor by those who only connect', async (t) => {
    await watched(t, [], async (served) => {
      const sockets = await Promise.all(Array.from({ length: 300 }, () => open(served)))
      const texts = [
        '',
        'GET /',
        'GET / HTTP/1.1\r\nHost: x\r\n',
        `PUT /${'0'.repeat(32)} HTTP/1.1\r\n`,
      ]
      for (const [at, socket] of sockets.entries()) socket.write(texts[at % texts.length]!)
      for (let turn = 0; turn < 30; turn++) {
        for (const [at, socket] of sockets.entries())
          if (at % texts.length > 1) socket.write('a: b\r\n')
        await delay(100)
      }
      assert.ok(sockets.every((socket) => !socket.closed))
      for (const socket of sockets) socket.destroy()
    })
  })

  it('answers pipelined requests in order, and not without end', async (t) => {
    await watched(t, [], async (served) => {
      const [hash = '', data] = [...bucket.small].at(-1)!
      const keep = `GET /${hash} HTTP/1.1\r\nHost: x\r\n\r\n`
      const read = async () => {
        let rest = await send(served, keep.repeat(19) + head(`/${hash}`))
        for (let at = 0; at < 20; at++) {
          const begin = rest.indexOf('\r\n\r\n') + 4
          assert.ok(rest.subarray(begin, begin + data.length).equals(data))
          rest = rest.subarray(begin + data.length)
        }
        assert.equal(rest.length, 0)
      }
      const flood = async () => {
        const socket = await open(served)
        const closed = new Promise((resolve) => socket.once('close', resolve))
        for (let at = 0; at < 100 && !socket.destroyed; at++) socket.write(keep.repeat(1000))
        socket.resume()
        await closed
      }
      await Promise.all([...Array.from({ length: 10 }, read), ...Array.from({ length: 20 }, flood)])
    })
  })

  it('stores no block of a body that is not whole, and frees its memory', async (t) => {
    const root = join(bucket.dir, `root-${randomBytes(4).toString('hex')}`)
    await mkdir(root)
    const served = await serve([`unix:${root}`], bucket.env, ['--write-buffers=4'])
    t.after(() => served.process.kill('SIGKILL'))
    const data = randomBytes(100_000)
    const before = holdingOfAll(served)
    const put = (more: string, body: string | Buffer = '') =>
      Buffer.concat([Buffer.from(head(`/${md5(data)}`, more, 'PUT')), Buffer.from(body)])
    const sized = (length: number | string) => `Content-Length: ${length}\r\n`
    const chunked = 'Transfer-Encoding: chunked\r\n'
    const shapes: [name: string, sent: Buffer, answer: RegExp][] = [
      ['a body of other bytes', put(sized(5), 'hello'), /^HTTP\/1\.1 422 /],
      ['more than 64 MiB', put(sized(67_108_865)), /^HTTP\/1\.1 413 /],
      ['Content-Length and Transfer-Encoding', put(sized(4) + chunked, '0\r\n\r\n'), BAD],
      ['no length', put(''), /^HTTP\/1\.1 422 /],
      ['bad chunks', put(chunked, 'zz\r\nxx\r\n'), NOTHING],
      ['chunks that break off', put(chunked, 'ffff\r\nxx'), NOTHING],
      ['a body that breaks off', put(sized(data.length), data.subarray(1)), NOTHING],
    ]
    for (const [name, sent, expected] of shapes) {
      const socket = await open(served)
      socket.end(sent)
      assert.match((await received(socket)).toString('latin1'), expected, name)
    }
    // As many as there are buffers, whose bodies never come; they leave before anybody loses patience.
    const waiting = await Promise.all(Array.from({ length: 4 }, () => open(served)))
    for (const socket of waiting) socket.write(put(sized(data.length), data.subarray(1)))
    const store = () => send(served, put(sized(data.length), data))
    let answer = await store()
    while (!/^HTTP\/1\.1 503 /.test(answer.toString('latin1'))) answer = await store()
    for (const socket of waiting) socket.destroy()
    while (/^HTTP\/1\.1 503 /.test(answer.toString('latin1'))) answer = await store()
    assert.match(answer.toString('latin1'), /^HTTP\/1\.1 200 /)
    await descriptorsAreBack(served, before)
    const files = await readdir(root, { recursive: true, withFileTypes: true })
    const found = files.filter((file) => file.isFile())
    assert.deepEqual(
      found.map(({ name }) => name),
      [md5(data)],
    )
    assert.ok((await readFile(join(found[0]!.parentPath, found[0]!.name))).equals(data))
    assert.equal(await served.stop(), 0)
  })
})

/** True for a whole answer with status 200 and this body, maybe behind a "100 Continue". */
function isAnswerWith(answer: Buffer, data: Buffer | undefined): boolean {
  const text = answer.toString('latin1', 0, 2000).replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, '')
  return (
    data !== undefined &&
    text.startsWith('HTTP/1.1 200 ') &&
    answer.subarray(-data.length).equals(data)
  )
}
