/**
 * Changes to the files of a mapping tree, one hash at a time: first a plan, which reads, then the
 * plan's application, which writes. Applying a change twice is the same as applying it once.
 * Only the holder of the mapping's lock calls this. File calls are synchronous: they go to the page
 * cache, and a thread pool's round trip would cost several times as much.
 */
import { isUtf8 } from 'node:buffer'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { messageOf } from '../errors.ts'
import type { Place } from './mapping.ts'
import { formatPlace, parsePlace } from './place-line.ts'
import { blockFile } from './tree.ts'

const LF = 0x0a
/** With the encoding said, Node opens, writes and closes in one call. */
const EXCLUSIVE = { flag: 'wx', encoding: 'utf8' } as const

/** The places of one hash to add and to remove. A place is named by its key and offset. */
export interface BlockChange {
  add: Place[]
  remove: { key: string; offset: number }[]
  /** Leave out what is no place: without it such lines stay. */
  dropBadLines?: true
}

/** What a change does to the file of its hash. */
export interface BlockPlan {
  file: string
  action: 'none' | 'create' | 'append' | 'rewrite' | 'unlink'
  /** What to write: all of the file, or what to append. */
  content: string | Buffer
  /** Whether the hash has a place before and after. */
  placesBefore: boolean
  placesAfter: boolean
}

/**
 * Returns what has to be done to the tree; reads the hash's file, unless it is known that there is none
 * (`isNew`). Throws the system's errors.
 */
export function planBlock(
  mappings: string,
  hash: string,
  change: BlockChange,
  { isNew = false } = {},
): BlockPlan {
  const file = blockFile(mappings, hash)
  const add = change.add.map((place) => `${formatPlace(place)}\n`)
  // Most are new, and an error for each of them would cost more than the rest.
  const bytes = !isNew && existsSync(file) ? readWhole(file) : undefined
  if (bytes === undefined) {
    const has = add.length > 0
    const action = has ? 'create' : 'none'
    return { file, action, content: add.join(''), placesBefore: false, placesAfter: has }
  }
  return planExisting(file, bytes, change)
}

function planExisting(file: string, bytes: Buffer, change: BlockChange): BlockPlan {
  const wanted = new Map(change.add.map((place) => [placeName(place), formatPlace(place)]))
  const added = new Set(wanted.keys())
  const unwanted = new Set(change.remove.map(placeName))
  const kept: Buffer[] = []
  // Torn by a crash where the last line has no line feed; an empty file is of no use.
  let rewrite = bytes.at(-1) !== LF
  let placesBefore = false
  let placesAfter = wanted.size > 0
  for (const bytesOfLine of completeLines(bytes)) {
    const line = bytesOfLine.toString('utf8', 0, bytesOfLine.length - 1)
    const place = isUtf8(bytesOfLine) ? parsePlace(line) : undefined
    placesBefore ||= place !== undefined
    const name = place && placeName(place)
    if (name !== undefined && wanted.get(name) === line) {
      wanted.delete(name)
    } else if (name === undefined ? change.dropBadLines : added.has(name) || unwanted.has(name)) {
      rewrite = true
      continue
    }
    placesAfter ||= place !== undefined
    kept.push(bytesOfLine)
  }
  const missing = Buffer.from([...wanted.values()].map((line) => `${line}\n`).join(''))
  const plan = { file, placesBefore, placesAfter }
  if (!rewrite && missing.length === 0) return { ...plan, action: 'none', content: '' }
  if (!rewrite) return { ...plan, action: 'append', content: missing }
  const content = Buffer.concat([...kept, missing])
  return { ...plan, action: content.length === 0 ? 'unlink' : 'rewrite', content }
}

/** The system's own error for what is no file does not name it. */
function readWhole(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new Error(`${file}: ${messageOf(error)}`, { cause: error })
  }
}

/** Yields the lines of a file with their line feeds, as they are: bad ones must survive a rewrite. */
function* completeLines(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0, end = 0; ; at = end) {
    end = bytes.indexOf(LF, at) + 1
    if (end === 0) return
    yield bytes.subarray(at, end)
  }
}

function placeName(place: { key: string; offset: number }): string {
  return `${place.offset}:${place.key}`
}

/**
 * Writes beside a file what a rewrite puts in its place. Returns the name of what must be on disk
 * before applyPlan(): it holds other objects' lines, which no intent could bring back after a power
 * cut. Throws the system's errors.
 */
export function prepareRewrite({ file, content }: BlockPlan): string {
  const beside = besideFile(file)
  writeFileSync(beside, content)
  return beside
}

/**
 * Carries a plan out; a rewrite must have been prepared. Readers see the old file or the new one,
 * both whole. Returns the file. Throws the system's errors; the same change may then be planned again.
 */
export function applyPlan({ file, action, content }: BlockPlan): string {
  if (action === 'create') create(file, content)
  else if (action === 'append') appendFileSync(file, content)
  else if (action === 'unlink') unlinkSync(file)
  else if (action === 'rewrite') renameSync(besideFile(file), file)
  return file
}

/** Returns where a rewrite of a hash's file is prepared; a crash may leave it behind. */
export function besideFile(file: string): string {
  return join(dirname(file), `.${file.slice(-32)}.new`)
}

/** Removes what a crash left beside the files of these hashes. Throws the system's errors. */
export function removeLeftovers(mappings: string, hashes: Iterable<string>): void {
  for (const hash of hashes) {
    rmSync(besideFile(blockFile(mappings, hash)), { recursive: true, force: true })
  }
}

function create(file: string, content: string | Buffer): void {
  try {
    writeFileSync(file, content, EXCLUSIVE)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, content, EXCLUSIVE)
  }
}
