/**
 * Reads XML as it arrives. Just what S3's answers are made of: elements, text, references to
 * characters, CDATA; attributes, comments and instructions are passed over, a DTD is refused. Names
 * are taken without their prefix: namespaces are not resolved. The encoding is UTF-8.
 */
import { keyFromBytes } from '../key.ts'

/** Hears of the elements. What it throws ends the reading. */
export interface XmlReader {
  /** An element opens; the root has depth 1. Returns whether its text is wanted: it must be a leaf then. */
  open(name: string, depth: number): boolean
  /** An element closes. `text` is '' where it was not wanted. */
  close(name: string, depth: number, text: string): void
}

/** What was read is no XML, or not all of it. */
export class MalformedXml extends Error {
  override readonly name = 'MalformedXml'
}

/**
 * Characters of one piece of markup, or of text: whoever sends more is up to something else. It is
 * looked at again whenever more of it comes.
 */
const LONGEST_PIECE = 1 << 16

const [BANG, SLASH, GREATER, QUESTION] = [0x21, 0x2f, 0x3e, 0x3f]

/** The rest of a tag, behind its name: a `>` may be part of an attribute's value. */
const TAG_END = /(?:[^>"']|"[^"]*"|'[^']*')*>/y

/** One document, in pieces that may end anywhere, also within a character. */
export class XmlScanner {
  readonly #reader: XmlReader
  /** Names of the open elements, as they are written. */
  readonly #open: string[] = []
  /** What has arrived of the next text or markup; one character for each byte. */
  #rest = ''
  /** Text so far of the open element; undefined where it is not wanted. */
  #text: string | undefined
  #hasRoot = false

  constructor(reader: XmlReader) {
    this.#reader = reader
  }

  /** Takes the next bytes, and needs them no more when it returns. Throws MalformedXml. */
  write(chunk: Uint8Array): void {
    const { buffer, byteOffset, byteLength } = chunk
    const source = this.#rest + Buffer.from(buffer, byteOffset, byteLength).toString('latin1')
    let at = 0
    for (let start = source.indexOf('<'); start >= 0; start = source.indexOf('<', at)) {
      if (start > at) this.#characters(source.slice(at, start))
      const end = this.#markup(source, start)
      at = end < 0 ? start : end
      if (end < 0) break
    }
    this.#rest = source.slice(at)
    if (this.#rest.length > LONGEST_PIECE) throw new MalformedXml('no XML')
  }

  /** Throws MalformedXml unless the document is complete. */
  end(): void {
    this.#characters(this.#rest)
    if (!this.#hasRoot) throw new MalformedXml('no XML')
    if (this.#open.length > 0) throw new MalformedXml('XML that breaks off')
  }

  #characters(bytes: string): void {
    if (this.#text !== undefined) this.#text += decodeText(bytes)
    else if (this.#open.length === 0 && !IS_BLANK.test(bytes)) throw new MalformedXml('no XML')
  }

  /** Takes the markup at `start`. Returns where it ends, or -1 where that has not arrived. */
  #markup(source: string, start: number): number {
    const first = source.charCodeAt(start + 1)
    if (first === SLASH) return this.#closeTag(source, start + 2)
    if (first === BANG) return this.#declaration(source, start)
    if (first === QUESTION) return behind(source, '?>', start + 2)
    return this.#openTag(source, start + 1)
  }

  #openTag(source: string, start: number): number {
    const named = nameEnd(source, start)
    const end = tagEnd(source, named)
    if (end < 0) return end
    const name = source.slice(start, named)
    if (name === '') throw new MalformedXml('a tag without a name')
    if (this.#text !== undefined) throw new MalformedXml(`<${name}> within a value`)
    if (this.#open.length === 0 && this.#hasRoot) throw new MalformedXml('more than one document')
    this.#hasRoot = true
    const depth = this.#open.push(name)
    if (this.#reader.open(withoutPrefix(name), depth)) this.#text = ''
    if (source.charCodeAt(end - 2) === SLASH) this.#close()
    return end
  }

  #closeTag(source: string, start: number): number {
    const name = this.#open.at(-1) ?? ''
    const named = start + name.length
    const end = tagEnd(source, named)
    if (end < 0) return end
    const isNamed = source.startsWith(name, start) && nameEnd(source, named) === named
    if (name === '' || !isNamed) throw new MalformedXml('a closing tag out of place')
    this.#close()
    return end
  }

  #close(): void {
    const depth = this.#open.length
    const name = withoutPrefix(this.#open.pop()!)
    const text = this.#text ?? ''
    this.#text = undefined
    this.#reader.close(name, depth, text)
  }

  #declaration(source: string, start: number): number {
    if (source.startsWith('<!--', start)) return behind(source, '-->', start + 4)
    if (source.startsWith('<![CDATA[', start)) {
      const end = behind(source, ']]>', start + 9)
      if (end > 0 && this.#text !== undefined) {
        this.#text += decodeUtf8(source.slice(start + 9, end - 3))
      }
      return end
    }
    // It may be the start of one of these.
    if (source.length - start < 9) return -1
    throw new MalformedXml('a document type')
  }
}

/** White space, behind a byte order mark at most. */
const IS_BLANK = /^(?:\xef\xbb\xbf)?\s*$/

/** Returns where a name ends: at white space, `>`, or the `/` of an element without content. */
function nameEnd(source: string, start: number): number {
  let at = start
  for (; at < source.length; at++) {
    const code = source.charCodeAt(at)
    if (code === GREATER || code === SLASH || code <= 0x20) break
  }
  return at
}

/** Returns where the tag ends whose name ends at `named`; -1 where that has not arrived. */
function tagEnd(source: string, named: number): number {
  if (source.charCodeAt(named) === GREATER) return named + 1
  TAG_END.lastIndex = named
  return TAG_END.test(source) ? TAG_END.lastIndex : -1
}

function behind(source: string, end: string, from: number): number {
  const at = source.indexOf(end, from)
  return at < 0 ? -1 : at + end.length
}

function withoutPrefix(name: string): string {
  return name.includes(':') ? name.slice(name.indexOf(':') + 1) : name
}

const BEYOND_ASCII = /[\x80-\xff]/

/** Returns what text stands for. `bytes` has one character for each byte. */
function decodeText(bytes: string): string {
  const text = decodeUtf8(bytes)
  return text.includes('&') ? decodeReferences(text) : text
}

/** What is no UTF-8 becomes as key.ts has it. */
function decodeUtf8(bytes: string): string {
  return BEYOND_ASCII.test(bytes) ? keyFromBytes(Buffer.from(bytes, 'latin1')) : bytes
}

const ENTITIES = new Map(
  Object.entries({ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", '#34': '"' }),
)

function decodeReferences(text: string): string {
  let decoded = ''
  let at = 0
  for (let start = text.indexOf('&'); start >= 0; start = text.indexOf('&', at)) {
    const end = text.indexOf(';', start)
    if (end < 0) throw new MalformedXml('a reference without an end')
    const name = text.slice(start + 1, end)
    decoded += text.slice(at, start) + (ENTITIES.get(name) ?? decodeCharacter(name))
    at = end + 1
  }
  return decoded + text.slice(at)
}

/** `#N` or `#xN`, where N is a code point. */
function decodeCharacter(name: string): string {
  const [, hex, decimal] = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(name) ?? []
  const code = hex === undefined ? Number(decimal ?? Number.NaN) : Number.parseInt(hex, 16)
  if (code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff)) return String.fromCodePoint(code)
  throw new MalformedXml('a reference to no character')
}
