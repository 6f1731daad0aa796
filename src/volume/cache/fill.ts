/**
 * Writes one block to a cache while its client gets it. The client never waits for that: where the disk
 * is slower, and what waits for it would take more memory than there is, the block is not cached.
 */
import { rm } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { BufferPool } from '../../buffer-pool.ts'
import { bytesOnDisk, type CacheDirectory, type TemporaryFile } from './directory.ts'
import { fileLength, formatTail, PIECE } from './format.ts'
import type { Space } from './space.ts'

/** Which block, and what it needs to get into the cache. */
export interface FillParts {
  hash: string
  /** Bytes of the block. */
  length: number
  directory: CacheDirectory
  space: Space
  /** Memory for what waits for the disk; each has PIECE bytes. */
  pieces: BufferPool
}

/** One block on its way into the cache. Either keep() or abandon() must be called in the end. */
export class Fill {
  /** Resolves to true once the block is in the cache, or to false; rejects as the file system does. */
  readonly done: Promise<boolean>
  readonly #parts: FillParts
  readonly #checksums: number[] = []
  /** Pieces that wait for the disk. */
  readonly #full: Buffer[] = []
  #current: Buffer | undefined
  /** Bytes taken. */
  #length = 0
  #state: 'open' | 'proven' | 'abandoned' = 'open'
  #wake = () => {}

  constructor(parts: FillParts) {
    this.#parts = parts
    this.done = this.#write().finally(() => this.#release())
  }

  /** Takes the next bytes of the block; they may be overwritten at once. */
  take(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length && this.#state === 'open'; ) {
      this.#current ??= this.#parts.pieces.take()
      if (this.#current === undefined) {
        this.abandon()
        return
      }
      const start = this.#length % PIECE
      const part = chunk.subarray(at, at + PIECE - start)
      this.#current.set(part, start)
      this.#length += part.length
      at += part.length
      if (start + part.length === PIECE) this.#close(this.#current, PIECE)
    }
  }

  /** The block was taken whole, and its MD5 is right. */
  keep(): void {
    if (this.#state !== 'open') return
    if (this.#current !== undefined) this.#close(this.#current, this.#length % PIECE)
    this.#state = 'proven'
    this.#wake()
  }

  /** Forgets the block, if it is not kept already. */
  abandon(): void {
    if (this.#state === 'proven') return
    this.#state = 'abandoned'
    this.#wake()
  }

  #close(piece: Buffer, length: number): void {
    this.#checksums.push(crc32(piece.subarray(0, length)))
    this.#full.push(piece)
    this.#current = undefined
    this.#wake()
  }

  async #write(): Promise<boolean> {
    const { hash, length, directory, space } = this.#parts
    const claim = await space.claim(bytesOnDisk(fileLength(length)))
    if (claim === undefined) return false
    let kept = false
    try {
      const file = await directory.create()
      try {
        kept = await this.#writeTo(file)
        if (kept) await directory.publish(file, hash)
      } catch (error) {
        kept = false
        throw error
      } finally {
        if (!kept) await rm(file.path, { force: true })
      }
    } finally {
      claim.settle(kept)
    }
    return kept
  }

  /** Returns whether the file is whole. The handle is closed. */
  async #writeTo({ handle }: TemporaryFile): Promise<boolean> {
    const { hash, length } = this.#parts
    try {
      let at = 0
      for (;;) {
        const piece = await this.#next()
        if (piece === undefined) break
        const size = Math.min(PIECE, length - at)
        try {
          await writeAll(handle, piece.subarray(0, size), at)
        } finally {
          this.#parts.pieces.give(piece)
        }
        at += size
      }
      if (this.#state !== 'proven') return false
      const checksums = Uint32Array.from(this.#checksums)
      await writeAll(handle, formatTail(hash, { length, checksums }), at)
      return true
    } finally {
      await handle.close()
    }
  }

  /** Returns the next piece; undefined when there will be none any more. */
  async #next(): Promise<Buffer | undefined> {
    while (this.#full.length === 0 && this.#state === 'open') {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#state === 'abandoned' ? undefined : this.#full.shift()
  }

  #release(): void {
    // Whatever is still to come finds that it is over.
    if (this.#state === 'open') this.#state = 'abandoned'
    const rest = this.#current === undefined ? this.#full : [...this.#full, this.#current]
    for (const piece of rest.splice(0)) this.#parts.pieces.give(piece)
    this.#full.length = 0
    this.#current = undefined
  }
}

async function writeAll(
  handle: TemporaryFile['handle'],
  data: Uint8Array,
  position: number,
): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesWritten } = await handle.write(data, at, data.length - at, position + at)
    at += bytesWritten
  }
}
