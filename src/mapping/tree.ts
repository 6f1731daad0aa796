/**
 * The mapping tree: MAPPINGS/acb/acbd18db…, a text file for each hash with one line a place
 * (place-line.ts). Readers never lock. Writing is in tree-update.ts.
 */
import { closeSync, open as openFile, read as readFile } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../errors.ts'
import { readDescription } from './description.ts'
import { type MappedBlock, type MappingReader, MappingUnreachable, type Place } from './mapping.ts'
import { isMissing } from './missing.ts'
import { parsePlace } from './place-line.ts'
import { listShards } from './shard-lister.ts'

const SHARD = /^[0-9a-f]{3}$/
/** Most files have a line or two. */
const FIRST_READ = 2048
const READ_SIZE = 65_536

// A FileHandle costs more, and each block that is served pays for it.
const open = promisify(openFile)
const read = promisify(readFile)

/** Returns the file of a hash in a mapping tree. */
export function blockFile(mappings: string, hash: string): string {
  return join(mappings, hash.slice(0, 3), hash)
}

/** The read half of a mapping tree at `dir`; opens nothing until asked. */
export class MappingTree implements MappingReader {
  readonly dir: string

  constructor(dir: string) {
    this.dir = dir
  }

  toString(): string {
    return this.dir
  }

  async *places(hash: string): AsyncIterable<Place> {
    const file = await this.#open(hash)
    if (file === undefined) return
    try {
      for await (const lines of readLines(file)) {
        for (const line of lines) {
          const place = parsePlace(line)
          if (place !== undefined) yield place
        }
      }
    } catch (error) {
      throw this.#unreachable(error)
    } finally {
      // Nothing was written: there is nothing that it could wait for.
      closeSync(file)
    }
  }

  async *blocks(prefix = ''): AsyncIterable<MappedBlock> {
    await readDescription(this.dir)
    const start = prefix.slice(0, 3)
    try {
      const names = (await readdir(this.dir)).filter((name) => SHARD.test(name))
      const shards = names.filter((name) => name.startsWith(start)).sort()
      yield* listShards(this.dir, shards, prefix)
    } catch (error) {
      throw this.#unreachable(error)
    }
    // A disk that went away meanwhile looks like directories that vanished.
    await readDescription(this.dir)
  }

  /** Undefined where the hash has no file, which is only believed of a tree that is there. */
  async #open(hash: string): Promise<number | undefined> {
    try {
      return await open(blockFile(this.dir, hash), 'r')
    } catch (error) {
      if (!isMissing(error)) throw this.#unreachable(error)
      await readDescription(this.dir)
      return undefined
    }
  }

  #unreachable(error: unknown): MappingUnreachable {
    if (error instanceof MappingUnreachable) return error
    return new MappingUnreachable(`mapping ${this.dir} cannot be read: ${messageOf(error)}`, {
      cause: error,
      hint: 'Check its disk and its permissions',
    })
  }
}

/** Yields a file's complete lines, some at a time. A last one without its line feed is torn: left out. */
async function* readLines(file: number): AsyncIterable<string[]> {
  let rest: Buffer = Buffer.alloc(0)
  for (let size = FIRST_READ; ; size = READ_SIZE) {
    const { bytesRead, buffer } = await read(file, Buffer.allocUnsafe(size), 0, size, null)
    if (bytesRead === 0) return
    const fresh = buffer.subarray(0, bytesRead)
    const bytes = rest.length === 0 ? fresh : Buffer.concat([rest, fresh])
    const end = bytes.lastIndexOf(0x0a) + 1
    yield completeLines(bytes.subarray(0, end))
    rest = bytes.subarray(end)
    // The next read ends within a line again: only a short file is known to be over.
    if (bytesRead < size && rest.length === 0) return
  }
}

/** Returns the lines of bytes that end with a line feed (or are empty). */
function completeLines(bytes: Buffer): string[] {
  if (bytes.length === 0) return []
  // Latin-1 would keep bad bytes apart, but a line that is not UTF-8 is bad anyway: U+FFFD names no
  // other object, because its ETag and MD5 are checked like those of any line.
  return bytes.toString('utf8', 0, bytes.length - 1).split('\n')
}
