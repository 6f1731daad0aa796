/** The files of a mapping tree, and their lines, as they lie on disk: whatever is wrong with them. */
import { isUtf8 } from 'node:buffer'
import { closeSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { isMissing } from '../mapping/file-errors.ts'
import { isShard } from '../mapping/tree.ts'

/** Directories of a tree: the first three digits of the hashes in them. */
export const SHARDS = 4096
const HASH = /^[0-9a-f]{32}$/
const LEFTOVER = /^\.[0-9a-f]{32}\.new$/
const CHUNK = Buffer.allocUnsafe(65_536)
const LF = 0x0a

/** What lies in a tree. */
export type TreeEntry =
  | { kind: 'file'; hash: string }
  | { kind: 'misplaced'; hash: string; where: string }
  | { kind: 'leftover'; where: string }
  | { kind: 'foreign'; where: string }
  | { kind: 'unreadable'; where: string; what: string }

/** A line of a file, without its line feed. */
export interface Line {
  /** Undefined where its bytes are not UTF-8. */
  text: string | undefined
  isTorn: boolean
}

/** Yields what lies at the top of a mapping and is none of its directories. Throws the system's errors. */
export function* strangersAt(mappings: string): Iterable<string> {
  for (const name of readdirSync(mappings).sort()) {
    if (!isShard(name) && name !== '.keepgw') yield name
  }
}

/** Yields what lies in the directory of this number, in order. None where it is not there. */
export function* entriesOf(mappings: string, shard: number): Iterable<TreeEntry> {
  const dir = shardName(shard)
  let names: string[]
  try {
    names = readdirSync(join(mappings, dir)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    yield { kind: 'unreadable', where: dir, what: messageOf(error) }
    return
  }
  for (const name of names) {
    const where = join(dir, name)
    if (!HASH.test(name)) yield { kind: LEFTOVER.test(name) ? 'leftover' : 'foreign', where }
    else if (name.startsWith(dir)) yield { kind: 'file', hash: name }
    else yield { kind: 'misplaced', hash: name, where }
  }
}

/** Returns the name of the directory of this number. */
export function shardName(shard: number): string {
  return shard.toString(16).padStart(3, '0')
}

/**
 * Yields the lines of a file, some at a time; none where it is not there. Memory is bounded but for a
 * line. Throws the system's errors.
 */
export function* linesOf(file: string): Generator<Line, void> {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if (isMissing(error)) return
    throw error
  }
  try {
    let rest: Buffer = Buffer.alloc(0)
    for (;;) {
      const length = readSync(fd, CHUNK, 0, CHUNK.length, null)
      if (length === 0) break
      const fresh = CHUNK.subarray(0, length)
      const bytes = rest.length === 0 ? fresh : Buffer.concat([rest, fresh])
      let start = 0
      const lines: Line[] = []
      for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, start)) {
        lines.push({ text: textOf(bytes.subarray(start, end)), isTorn: false })
        start = end + 1
      }
      // The buffer is used again, perhaps while the lines are gone through.
      rest = Buffer.from(bytes.subarray(start))
      yield* lines
      if (length < CHUNK.length) break
    }
    if (rest.length > 0) yield { text: textOf(rest), isTorn: true }
  } finally {
    closeSync(fd)
  }
}

function textOf(bytes: Buffer): string | undefined {
  return isUtf8(bytes) ? bytes.toString('utf8') : undefined
}
