/** A cached block's file, open for reading. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { messageOf } from '../../errors.ts'
import type { Sink } from '../../remote/remote.ts'
import { isAbsent } from './directory.ts'
import { MAX_TAIL, PIECE, parseTail, type Tail } from './format.ts'

/** A file that does not hold, or does not give, what was written to it. */
export class BrokenEntry extends Error {
  override readonly name = 'BrokenEntry'
}

/** Safe for concurrent use. It must be closed. */
export class Entry {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #tail: Tail

  /**
   * Opens the file of a block; undefined where there is none. Throws BrokenEntry where it is torn, and
   * the file system's error.
   */
  static async open(path: string, hash: string): Promise<Entry | undefined> {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
    let handle: FileHandle
    try {
      handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw error
    }
    try {
      return new Entry(path, handle, await readTail(handle, path, hash))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  constructor(path: string, handle: FileHandle, tail: Tail) {
    this.#path = path
    this.#handle = handle
    this.#tail = tail
  }

  /** Bytes of the block. */
  get length(): number {
    return this.#tail.length
  }

  /**
   * Delivers the block's bytes from `from` to its end; none that has not the checksum of its piece.
   * Throws BrokenEntry, the sink's error, or the signal's reason.
   */
  async read(from: number, sink: Sink, signal: AbortSignal): Promise<void> {
    const { length, checksums } = this.#tail
    const piece = Buffer.allocUnsafe(Math.min(PIECE, length))
    for (let at = from - (from % PIECE); at < length; at += PIECE) {
      signal.throwIfAborted()
      const size = Math.min(PIECE, length - at)
      const bytes = piece.subarray(0, await this.#readInto(piece.subarray(0, size), at))
      if (bytes.length < size || crc32(bytes) !== checksums[at / PIECE]) {
        throw new BrokenEntry(`${this.#path} has other bytes than were written, behind byte ${at}`)
      }
      await sink(bytes.subarray(Math.max(0, from - at)))
    }
  }

  async #readInto(piece: Buffer, position: number): Promise<number> {
    try {
      return (await this.#handle.read(piece, 0, piece.length, position)).bytesRead
    } catch (error) {
      throw new BrokenEntry(`${this.#path}: ${messageOf(error)}`, { cause: error })
    }
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.#handle.close()
  }
}

async function readTail(handle: FileHandle, path: string, hash: string): Promise<Tail> {
  const { size } = await handle.stat()
  const end = Buffer.alloc(Math.min(size, MAX_TAIL))
  const { bytesRead } = await handle.read(end, 0, end.length, size - end.length)
  const tail = bytesRead === end.length ? parseTail(hash, end, size) : undefined
  if (tail === undefined) throw new BrokenEntry(`${path} is torn, or no file of a cache`)
  return tail
}
