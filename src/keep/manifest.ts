/**
 * Manifests, the texts of collections (Arvados, "Manifest format"): a line a stream,
 * `STREAM LOCATOR… POSITION:SIZE:NAME…`. They are written as the SDKs normalise them. Pure.
 */
import { createHash } from 'node:crypto'
import { HashFilter } from '../hash-filter.ts'
import { EMPTY_HASH } from './locator.ts'

/** A block of a file. */
export interface FileBlock {
  /** 32 lowercase hex digits. */
  hash: string
  /** Bytes, at least 1. */
  size: number
}

/** A file of a stream. */
export interface ManifestFile {
  /** One part of a path, not escaped: partProblem() has nothing against it. */
  name: string
  /** In the file's order; none for an empty file. */
  blocks: readonly FileBlock[]
}

/** The files of a stream. */
export interface StreamFiles {
  /** Blocks of all files, counted as often as they occur. More are possible, at a price. */
  blocks: number
  /** Yields the files in order of their names' bytes: the same ones at every call. */
  files(): Iterable<ManifestFile>
}

/** Returns the locator of a block, with its hints. */
export type LocatorText = (hash: string, size: number) => string

/** What Python's `\s` matches and escapes do not cover: its SDK takes each for the end of a name. */
const UNICODE_SPACE = /[\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/
const ESCAPED = /[\0-\x20:\\]/g
const EMPTY_LOCATOR = `${EMPTY_HASH}+0`
/** The file that stands for an empty directory: `.`, escaped, as the API server wants it. */
const EMPTY_DIRECTORY = '0:0:\\056'

/**
 * Returns what keeps a part of a path (between its slashes) out of a manifest, in words that go on
 * from "its name", or undefined. One such name makes SDKs refuse the whole manifest, or read other
 * names out of it.
 */
export function partProblem(part: string): string | undefined {
  if (part === '') return 'has an empty part'
  // Also before a line's end: to the API server the name is over there.
  if (/^\.\.?(\n|$)/.test(part)) return `has a part ${JSON.stringify(part)}`
  if (!part.isWellFormed()) return 'is not UTF-8'
  const space = UNICODE_SPACE.exec(part)?.[0]
  if (space === undefined) return undefined
  const code = space.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')
  return `has the space U+${code}, at which the Python SDK ends a name`
}

/** Returns a name as it stands in a manifest. */
export function escapeName(name: string): string {
  return name.replace(ESCAPED, (character) => {
    return `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`
  })
}

/** Returns the locator without a hint: that of a portable manifest. */
export function bareLocator(hash: string, size: number): string {
  return `${hash}+${size}`
}

/** Returns the line of a directory that holds nothing. `stream` is `./PATH`, not escaped. */
export function formatEmptyDirectory(stream: string): string {
  return `${escapeName(stream)} ${EMPTY_LOCATOR} ${EMPTY_DIRECTORY}\n`
}

/**
 * Yields the line of a stream that has a file, in pieces: some of them empty, while it only looks.
 * `stream` is `.` or `./PATH`, not escaped. Asks for the files three times rather than hold them: its
 * memory is two bytes a block, and what it must know of blocks that occur more than once.
 */
export function* formatStream(
  stream: string,
  { blocks, files }: StreamFiles,
  locator: LocatorText,
): Iterable<string> {
  yield escapeName(stream)
  const repeated = new Map<string, number>()
  yield* findRepeated(files(), new HashFilter(blocks), repeated)
  yield* formatLocators(files(), repeated, locator)
  yield* formatFiles(files(), repeated)
  yield '\n'
}

/** Where a repeated block lies in the stream, before that is known. */
const UNPLACED = -1

/** Gathers the blocks that occur more than once, and a few that do not. */
function* findRepeated(
  files: Iterable<ManifestFile>,
  filter: HashFilter,
  repeated: Map<string, number>,
): Iterable<string> {
  for (const { blocks } of files) {
    for (const { hash } of blocks) if (filter.add(hash)) repeated.set(hash, UNPLACED)
    yield ''
  }
}

/** Lists each block once, and notes where the repeated ones lie. */
function* formatLocators(
  files: Iterable<ManifestFile>,
  repeated: Map<string, number>,
  locator: LocatorText,
): Iterable<string> {
  let end = 0
  for (const { blocks } of files) {
    let text = ''
    for (const { hash, size } of blocks) {
      const position = repeated.get(hash)
      if (position !== undefined && position !== UNPLACED) continue
      if (position === UNPLACED) repeated.set(hash, end)
      text += ` ${locator(hash, size)}`
      end += size
    }
    yield text
  }
  if (end === 0) yield ` ${EMPTY_LOCATOR}`
}

function* formatFiles(
  files: Iterable<ManifestFile>,
  repeated: ReadonlyMap<string, number>,
): Iterable<string> {
  /** Where the next block lies that did not occur before. */
  let next = 0
  for (const { name, blocks } of files) {
    const escaped = escapeName(name)
    let text = ''
    let from = 0
    let to = 0
    const span = (): string => ` ${from}:${to - from}:${escaped}`
    for (const { hash, size } of blocks) {
      const position = repeated.get(hash) ?? next
      if (position === next) next += size
      if (to === from) [from, to] = [position, position]
      else if (position !== to) {
        text += span()
        from = position
        to = position
      }
      to += size
    }
    yield blocks.length === 0 ? ` 0:0:${escaped}` : text + span()
  }
}

/** A locator with hints after its size. What precedes a name has no such form. */
const HINTED = /( [0-9a-f]{32}\+\d+)(?:\+[^ +]+)+/g
const HASHED_AT_ONCE = 64 * 1024

/** Computes the portable data hash of a manifest: that of its text without hints. */
export class PortableDataHash {
  readonly #md5 = createHash('md5')
  #text = ''
  #length = 0

  /** Takes the next piece of the text; none may end within a locator. */
  update(piece: string): void {
    this.#text += piece
    if (this.#text.length >= HASHED_AT_ONCE) this.#flush()
  }

  /** Yields the pieces of a text as they are, and takes them. */
  *tee(pieces: Iterable<string>): Iterable<string> {
    for (const piece of pieces) {
      this.update(piece)
      yield piece
    }
  }

  /** Returns `MD5+LENGTH`. To be called once, after the last piece. */
  digest(): string {
    this.#flush()
    return `${this.#md5.digest('hex')}+${this.#length}`
  }

  #flush(): void {
    const bytes = Buffer.from(this.#text.replace(HINTED, '$1'))
    this.#md5.update(bytes)
    this.#length += bytes.length
    this.#text = ''
  }
}
