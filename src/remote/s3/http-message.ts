/** HTTP/1.1 messages (RFC 9112): a request's text, an answer's head, and where its body ends. No I/O. */

/** A request, which has no body. */
export interface RequestHead {
  method: 'GET' | 'HEAD'
  /** Sent as it is, with the query. */
  path: string
  /** Besides Host. */
  headers: Record<string, string>
}

/** The first line and the fields of an answer. */
export interface ResponseHead {
  status: number
  /** Names in lower case; the values of a name that comes twice are joined by `, `. */
  headers: Headers
  /** HTTP/1.1, or what comes before. */
  minor: 0 | 1
}

/** Names in lower case. */
export type Headers = Readonly<Record<string, string | undefined>>

/** What came is no answer in HTTP/1.1, or one that cannot be relied on to end where it should. */
export class MalformedResponse extends Error {
  override readonly name = 'MalformedResponse'
}

/** More than any store sends. */
export const MAX_HEAD_BYTES = 64 * 1024
/** A chunk's size may be followed by extensions, which nobody uses. */
const MAX_LINE_BYTES = 4096

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?$/
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** A line ending alone, or a NUL, could mean one thing to a proxy and another to us. */
const FORBIDDEN = /[\r\n\0]/
/** What would end a line of the request, or is none of HTTP's characters. */
const UNFIT = /[^\t\x20-\x7e\x80-\xff]/
const CHUNK_SIZE = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i

/** Returns a request without a body, in latin1. Throws TypeError for what HTTP cannot hold. */
export function formatRequest(host: string, { method, path, headers }: RequestHead): string {
  let text = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n`
  for (const name in headers) {
    const value = headers[name]!
    if (UNFIT.test(value)) throw new TypeError(`the header ${name} holds an odd character`)
    text += `${name}: ${value}\r\n`
  }
  return `${text}\r\n`
}

/** Returns what a head says; `text` has no empty line at its end. Throws MalformedResponse. */
export function parseHead(text: string): ResponseHead {
  const [first = '', ...lines] = text.split('\r\n')
  const [, minor, status] = STATUS_LINE.exec(first) ?? []
  if (status === undefined) throw new MalformedResponse('it does not begin as HTTP does')
  const headers: Record<string, string | undefined> = Object.create(null)
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon)
    const value = line.slice(colon + 1).trim()
    if (colon < 1 || !NAME.test(name) || FORBIDDEN.test(value)) {
      throw new MalformedResponse('a header that is none')
    }
    const key = name.toLowerCase()
    const before = headers[key]
    headers[key] = before === undefined ? value : `${before}, ${value}`
  }
  return { status: Number(status), headers, minor: minor === '1' ? 1 : 0 }
}

/** True where the connection may be used again after this answer. */
export function staysOpen({ minor, headers }: ResponseHead): boolean {
  return minor === 1 && !/(?:^|,)\s*close\s*(?:,|$)/i.test(headers.connection ?? '')
}

/**
 * The body of an answer, taken apart. What comes next is data as long as `run` is not 0, and else
 * framing, which `skim` takes, until it is `done`.
 */
export class BodyFraming {
  /** Bytes of data that come next: infinite where only the connection's end ends the body. */
  run: number
  /** There is nothing more. */
  done: boolean
  readonly #chunked: boolean
  /** What is known of a line of the framing that has not ended. */
  #line = ''
  #expects: 'size' | 'line end' | 'trailer' = 'size'
  #trailerBytes = 0

  /** Of the answer to a request of this method. Throws MalformedResponse. */
  constructor(method: string, { status, headers }: ResponseHead) {
    const coding = headers['transfer-encoding']
    const length = headers['content-length']
    const hasNone = method === 'HEAD' || status === 204 || status === 304
    this.#chunked = !hasNone && coding !== undefined
    if (this.#chunked && coding!.toLowerCase() !== 'chunked') {
      throw new MalformedResponse('a transfer coding that nobody asked for')
    }
    // Whoever believes the one finds another end than who believes the other.
    if (this.#chunked && length !== undefined) {
      throw new MalformedResponse('both chunked and of a given length')
    }
    this.run = hasNone || this.#chunked ? 0 : lengthOf(length)
    this.done = this.run === 0 && !this.#chunked
  }

  /** True where the body is one run of known length. */
  get isPlain(): boolean {
    return !this.#chunked && !this.endsWithConnection
  }

  /** True where the end of the connection is the end of the body. */
  get endsWithConnection(): boolean {
    return this.run === Number.POSITIVE_INFINITY
  }

  /** So many bytes of the run were taken. */
  took(bytes: number): void {
    this.run -= bytes
    if (this.run === 0 && !this.#chunked) this.done = true
  }

  /** Takes framing from `at` on; returns where it ends, or the chunk does. Throws MalformedResponse. */
  skim(chunk: Uint8Array, at: number): number {
    const end = chunk.indexOf(0x0a, at)
    const next = end < 0 ? chunk.length : end + 1
    this.#line += Buffer.from(chunk.buffer, chunk.byteOffset + at, next - at).toString('latin1')
    if (this.#line.length > MAX_LINE_BYTES) throw new MalformedResponse('a chunk without a size')
    if (end < 0) return next
    const line = this.#line
    this.#line = ''
    if (!line.endsWith('\r\n')) throw new MalformedResponse('a chunk with a bare line feed')
    this.#read(line.slice(0, -2))
    return next
  }

  #read(line: string): void {
    if (this.#expects === 'line end') {
      if (line !== '') throw new MalformedResponse('a chunk that is longer than its size')
      this.#expects = 'size'
    } else if (this.#expects === 'size') {
      const [, size] = CHUNK_SIZE.exec(line) ?? []
      if (size === undefined) throw new MalformedResponse('a chunk without a size')
      this.run = Number.parseInt(size, 16)
      this.#expects = this.run === 0 ? 'trailer' : 'line end'
    } else {
      this.done = line === ''
      this.#trailerBytes += line.length
      if (this.#trailerBytes > MAX_HEAD_BYTES) throw new MalformedResponse('an endless trailer')
    }
  }
}

function lengthOf(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY
  const length = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(length)) {
    throw new MalformedResponse('a length that is no number')
  }
  return length
}
