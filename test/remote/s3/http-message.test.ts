/** What counts as an HTTP answer, and where its body ends, however it comes in pieces. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  BodyFraming,
  formatRequest,
  MalformedResponse,
  parseHead,
  staysOpen,
} from '../../../src/remote/s3/http-message.ts'
import { runs } from '../../fuzz.ts'

function headOf(...lines: string[]) {
  return parseHead(lines.join('\r\n'))
}

test('a head is a status and headers, whose names are the same in any case', () => {
  const { status, headers } = headOf('HTTP/1.1 206 Partial Content', 'ETag: "x"', 'a:1', 'A:  2 ')
  assert.deepEqual([status, headers.etag, headers.a, headers.none], [206, '"x"', '1, 2', undefined])
})

test('a header may have the name of a property of all objects', () => {
  const { headers } = headOf('HTTP/1.1 200 OK', '__proto__: x')
  assert.deepEqual(Object.entries(headers), [['__proto__', 'x']])
  assert.equal(headOf('HTTP/1.1 200').headers.constructor, undefined)
})

const NO_HEADS: Record<string, string> = {
  'another protocol': 'SSH-2.0-OpenSSH_9.6',
  'another version': 'HTTP/2 200 OK',
  'no status': 'HTTP/1.1 OK',
  'a status beyond those there are': 'HTTP/1.1 600 OK',
  'a line that is no header': 'HTTP/1.1 200 OK\r\nhello',
  'a space before the colon': 'HTTP/1.1 200 OK\r\nContent-Length : 5',
  'a header that goes on in the next line': 'HTTP/1.1 200 OK\r\nA: 1\r\n 2',
  'a bare line feed': 'HTTP/1.1 200 OK\r\nA: 1\nContent-Length: 5',
  'a NUL': 'HTTP/1.1 200 OK\r\nA: 1\0',
}

for (const [name, text] of Object.entries(NO_HEADS)) {
  test(`${name} makes no head`, () => {
    assert.throws(() => parseHead(text), MalformedResponse)
  })
}

test('a connection stays open unless the answer, or its age, says otherwise', () => {
  assert.equal(staysOpen(headOf('HTTP/1.1 200 OK')), true)
  assert.equal(staysOpen(headOf('HTTP/1.1 200 OK', 'Connection: keep-alive')), true)
  assert.equal(staysOpen(headOf('HTTP/1.1 200 OK', 'Connection: Close')), false)
  assert.equal(staysOpen(headOf('HTTP/1.1 200 OK', 'Connection: upgrade, close')), false)
  assert.equal(staysOpen(headOf('HTTP/1.0 200 OK', 'Connection: keep-alive')), false)
})

const NO_BODIES: Record<string, string[]> = {
  'two lengths': ['Content-Length: 5', 'Content-Length: 6'],
  'a negative length': ['Content-Length: -5'],
  'a length beyond all numbers': ['Content-Length: 99999999999999999999'],
  'a length and chunks': ['Content-Length: 5', 'Transfer-Encoding: chunked'],
  'a coding that nobody asked for': ['Transfer-Encoding: gzip, chunked'],
}

for (const [name, headers] of Object.entries(NO_BODIES)) {
  test(`an answer with ${name} is refused`, () => {
    assert.throws(
      () => new BodyFraming('GET', headOf('HTTP/1.1 200 OK', ...headers)),
      MalformedResponse,
    )
  })
}

test('an answer to HEAD, and one that says so by its status, has no body', () => {
  const length = 'Content-Length: 5'
  assert.equal(new BodyFraming('HEAD', headOf('HTTP/1.1 200 OK', length)).done, true)
  assert.equal(new BodyFraming('HEAD', headOf('HTTP/1.1 200 OK')).done, true)
  assert.equal(new BodyFraming('GET', headOf('HTTP/1.1 204 No Content')).done, true)
  assert.equal(new BodyFraming('GET', headOf('HTTP/1.1 304 Not Modified', length)).done, true)
  assert.equal(new BodyFraming('GET', headOf('HTTP/1.1 200 OK', 'Content-Length: 0')).done, true)
})

/** Returns the data of a message that comes in pieces, and how many bytes lay behind its end. */
function unframed(framing: BodyFraming, pieces: Uint8Array[]): { data: Buffer; rest: number } {
  const data: Uint8Array[] = []
  let rest = 0
  for (const piece of pieces) {
    let at = 0
    while (at < piece.length && !framing.done) {
      if (framing.run === 0) {
        at = framing.skim(piece, at)
        continue
      }
      const end = Math.min(piece.length, at + framing.run)
      data.push(piece.subarray(at, end))
      framing.took(end - at)
      at = end
    }
    rest += piece.length - at
  }
  return { data: Buffer.concat(data), rest }
}

function cut(bytes: Buffer, places: number[]): Buffer[] {
  const ends = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b)
  return [0, ...ends].map((start, i) => bytes.subarray(start, ends[i] ?? bytes.length))
}

const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 })
const places = fc.array(fc.nat(), { maxLength: 12 })

test('chunks are put together again, wherever they were cut', () => {
  const frame = fc.record({
    extension: fc.constantFrom('', ';name=value', ' ; a'),
    upper: fc.boolean(),
    trailer: fc.constantFrom('', 'X-Checksum: 1\r\n', 'A: 1\r\nB: 2\r\n'),
    behind: fc.nat({ max: 20 }),
  })
  fc.assert(
    fc.property(pieces, places, frame, (chunks, cuts, { extension, upper, trailer, behind }) => {
      const sizeOf = (chunk: Uint8Array): string => {
        const hex = chunk.length.toString(16)
        return `${upper ? hex.toUpperCase() : hex}${extension}\r\n`
      }
      const framed = chunks.flatMap((each) => [
        Buffer.from(sizeOf(each)),
        each,
        Buffer.from('\r\n'),
      ])
      const end = [Buffer.from(`0\r\n${trailer}\r\n`), Buffer.alloc(behind)]
      const framing = new BodyFraming(
        'GET',
        headOf('HTTP/1.1 200 OK', 'Transfer-Encoding: Chunked'),
      )
      const { data, rest } = unframed(framing, cut(Buffer.concat([...framed, ...end]), cuts))
      assert.ok(data.equals(Buffer.concat(chunks)))
      assert.deepEqual([framing.done, rest], [true, behind])
    }),
  )
})

test('a body of known length ends there', () => {
  fc.assert(
    fc.property(pieces, places, fc.nat({ max: 20 }), (parts, cuts, behind) => {
      const body = Buffer.concat(parts)
      const length = `Content-Length: ${body.length}`
      const framing = new BodyFraming('GET', headOf('HTTP/1.1 200 OK', length))
      const sent = Buffer.concat([body, Buffer.alloc(behind)])
      const { data, rest } = unframed(framing, cut(sent, cuts))
      assert.ok(data.equals(body))
      assert.deepEqual([framing.done, rest], [true, behind])
    }),
  )
})

test('a body without a length goes on to the end of the connection', () => {
  const framing = new BodyFraming('GET', headOf('HTTP/1.1 200 OK'))
  assert.equal(framing.endsWithConnection, true)
  assert.equal(unframed(framing, [Buffer.alloc(1000), Buffer.alloc(7)]).data.length, 1007)
  assert.equal(framing.done, false)
})

const NO_CHUNKS: Record<string, string> = {
  'without a size': 'x\r\n',
  'with a negative size': '-1\r\n',
  'longer than its size': '3\r\nabcd\r\n0\r\n\r\n',
  'with a bare line feed': '3\nabc\r\n0\r\n\r\n',
  'whose size never ends': '1;'.padEnd(5000, 'x'),
  'followed by an endless trailer': `0\r\n${'a: b\r\n'.repeat(20_000)}`,
}

for (const [name, text] of Object.entries(NO_CHUNKS)) {
  test(`a chunk ${name} is refused`, () => {
    const framing = new BodyFraming('GET', headOf('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'))
    assert.throws(() => unframed(framing, [Buffer.from(text)]), MalformedResponse)
  })
}

test('a request is what it says, and no header can become two', () => {
  const request = { method: 'GET' as const, path: '/a%20b?c=d', headers: { range: 'bytes=0-1' } }
  assert.equal(
    formatRequest('example.org:81', request),
    'GET /a%20b?c=d HTTP/1.1\r\nhost: example.org:81\r\nrange: bytes=0-1\r\n\r\n',
  )
  for (const value of ['"x"\r\nhost: y', 'a\nb', 'a\0', 'ü€']) {
    assert.throws(
      () => formatRequest('h', { ...request, headers: { 'if-match': value } }),
      TypeError,
    )
  }
})

test('any text is a head or MalformedResponse, and what it says can be asked for', () => {
  const lines = fc.array(
    fc.oneof(
      fc.string({ unit: 'binary-ascii' }),
      fc.constantFrom('A: 1', 'Content-Length: 5', 'content-length : 5', ' x', ':', '__proto__: 1'),
    ),
  )
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    lines.map((all) => ['HTTP/1.1 200 OK', ...all].join('\r\n')),
  )
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const head = parseHead(text)
        assert.ok(head.status >= 100 && head.status <= 599)
        for (const value of Object.values(head.headers)) assert.doesNotMatch(value!, /[\r\n\0]/)
        staysOpen(head)
        const { run } = new BodyFraming('GET', head)
        assert.ok(run >= 0)
      } catch (error) {
        assert.ok(error instanceof MalformedResponse, String(error))
      }
    }),
    runs(1000),
  )
})

test('what chunks hold, or that they are none, does not depend on the pieces they come in', () => {
  const part = fc.oneof(
    fc.constantFrom(
      '0\r\n\r\n',
      '3\r\nabc\r\n',
      'a',
      '\r\n',
      '\n',
      '1;x\r\n',
      'x',
      '0\r\nA: b\r\n',
    ),
    fc.string({ unit: 'binary-ascii', maxLength: 4 }),
  )
  const texts = fc.array(part).map((parts) => Buffer.from(parts.join(''), 'latin1'))
  const outcome = (pieces: Uint8Array[]): unknown => {
    const framing = new BodyFraming('GET', headOf('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'))
    try {
      const { data, rest } = unframed(framing, pieces)
      return { data: data.toString('latin1'), rest, done: framing.done }
    } catch (error) {
      assert.ok(error instanceof MalformedResponse, String(error))
      return undefined
    }
  }
  fc.assert(
    fc.property(texts, places, (text, cuts) => {
      assert.deepEqual(outcome(cut(text, cuts)), outcome([text]))
    }),
    runs(1000),
  )
})
