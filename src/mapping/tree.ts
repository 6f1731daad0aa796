/**
 * The mapping tree: MAPPINGS/acb/acbd18db…, a text file for each hash with one line a place
 * (place-line.ts). Readers never lock. Writing is in tree-update.ts.
 */
import { closeSync, read as readFile } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { messageOf } from '../errors.ts'
import { readDescription } from './description.ts'
import { isMissing } from './file-errors.ts'
import { type MappedBlock, type MappingReader, MappingUnreachable, type Place } from './mapping.ts'
import { parsePlace } from './place-line.ts'
import { type OpenFile, QuickOpen } from './quick-open.ts'
import { listShards } from './shard-lister.ts'

const SHARD = /^[0-9a-f]{3}$/
/** Most files have a line or two. */
const FIRST_READ = 2048
const READ_SIZE = 65_536

const read = promisify(readFile)

/** True for the name of a directory of hashes' files. */
export function isShard(name: string): boolean {
  return SHARD.test(name)
}

/** Returns the file of a hash in a mapping tree. */
export function blockFile(mappings: string, hash: string): string {
  // Not join(): it costs as much as the rest of what is done to a new hash outside of the kernel's time.
  return `${mappings}/${hash.slice(0, 3)}/${hash}`
}

/** The read half of a mapping tree at `dir`; opens nothing until asked. */
export class MappingTree implements MappingReader {
  readonly dir: string
  readonly #files: QuickOpen

  constructor(dir: string) {
    this.dir = dir
    this.#files = new QuickOpen(dir)
  }

  toString(): string {
    return this.dir
  }

  /** As MappingReader.places. The file stays open until the iteration ends, which may be early. */
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
      closeSync(file.fd)
    }
  }

  /** As MappingReader.blocks, by threads that end with the iteration. */
  async *blocks(prefix = ''): AsyncIterable<MappedBlock> {
    await readDescription(this.dir)
    const start = prefix.slice(0, 3)
    try {
      const names = (await readdir(this.dir)).filter(isShard)
      const shards = names.filter((name) => name.startsWith(start)).sort()
      yield* listShards(this.dir, shards, prefix)
    } catch (error) {
      throw this.#unreachable(error)
    }
    // A disk that went away meanwhile looks like directories that vanished.
    await readDescription(this.dir)
  }

  /** Undefined where the hash has no file, which is only believed of a tree that is there. */
  async #open(hash: string): Promise<OpenFile | undefined> {
    try {
      return await this.#files.open(blockFile(this.dir, hash), FIRST_READ)
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
async function* readLines({ fd, head }: OpenFile): AsyncIterable<string[]> {
  let rest: Buffer = Buffer.alloc(0)
  let size = FIRST_READ
  for (let fresh = head; fresh.length > 0; fresh = await readOn(fd)) {
    const bytes = rest.length === 0 ? fresh : Buffer.concat([rest, fresh])
    const end = bytes.lastIndexOf(0x0a) + 1
    yield completeLines(bytes.subarray(0, end))
    rest = bytes.subarray(end)
    // The next read ends within a line again: only a short file is known to be over.
    if (fresh.length < size && rest.length === 0) return
    size = READ_SIZE
  }
}

async function readOn(fd: number): Promise<Buffer> {
  const { bytesRead, buffer } = await read(fd, Buffer.allocUnsafe(READ_SIZE), 0, READ_SIZE, null)
  return buffer.subarray(0, bytesRead)
}

/** Returns the lines of bytes that end with a line feed (or are empty). */
function completeLines(bytes: Buffer): string[] {
  if (bytes.length === 0) return []
  // Latin-1 would keep bad bytes apart, but a line that is not UTF-8 is bad anyway: U+FFFD names no
  // other object, because its ETag and MD5 are checked like those of any line.
  return bytes.toString('utf8', 0, bytes.length - 1).split('\n')
}
