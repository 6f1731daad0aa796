/**
 * The file of a cached block: its data, a checksum for each piece of the data, and a footer. Nothing is
 * synced when it is written, so that after a power cut any part of it may be missing or old; the footer
 * comes last, and proves the checksums.
 */
import { crc32 } from 'node:zlib'
import { MAX_BLOCK } from '../../keep/locator.ts'

/** Bytes that share a checksum: they are proven before the first of them is passed on. */
export const PIECE = 262_144
/** Names the format, and its version. */
const MAGIC = Buffer.from('keepgwc1')
/** The magic, the length of the data, and the checksum of all that is behind the data. */
const FOOTER = MAGIC.length + 8
const CHECKSUM = 4

/** Bytes behind the data of the largest block. */
export const MAX_TAIL = Math.ceil(MAX_BLOCK / PIECE) * CHECKSUM + FOOTER

/** What is behind the data of a block. */
export interface Tail {
  /** Bytes of the data. */
  length: number
  /** CRC-32 of each piece. */
  checksums: Uint32Array
}

/** Returns the bytes of a file that holds a block of so many bytes. */
export function fileLength(length: number): number {
  return length + Math.ceil(length / PIECE) * CHECKSUM + FOOTER
}

/** Returns what is to be written behind the data of the block. */
export function formatTail(hash: string, { length, checksums }: Tail): Buffer {
  const tail = Buffer.alloc(checksums.length * CHECKSUM + FOOTER)
  for (const [at, checksum] of checksums.entries()) tail.writeUInt32BE(checksum, at * CHECKSUM)
  const footer = tail.length - FOOTER
  tail.set(MAGIC, footer)
  tail.writeUInt32BE(length, footer + MAGIC.length)
  tail.writeUInt32BE(checksumOf(hash, tail), tail.length - CHECKSUM)
  return tail
}

/**
 * Returns the tail of a block's file; `end` is the end of the file, MAX_TAIL bytes or all there are.
 * Undefined stands for a file that is torn, of another block, or none of ours.
 */
export function parseTail(hash: string, end: Buffer, fileSize: number): Tail | undefined {
  const footer = end.length - FOOTER
  if (footer < 0 || !end.subarray(footer, footer + MAGIC.length).equals(MAGIC)) return undefined
  const length = end.readUInt32BE(footer + MAGIC.length)
  if (length > MAX_BLOCK || fileLength(length) !== fileSize) return undefined
  const tail = end.subarray(end.length - (fileSize - length))
  if (tail.readUInt32BE(tail.length - CHECKSUM) !== checksumOf(hash, tail)) return undefined
  const checksums = new Uint32Array(Math.ceil(length / PIECE))
  for (const at of checksums.keys()) checksums[at] = tail.readUInt32BE(at * CHECKSUM)
  return { length, checksums }
}

/** The hash is in it: a file under another block's name is no file of that block. */
function checksumOf(hash: string, tail: Buffer): number {
  return crc32(tail.subarray(0, -CHECKSUM), crc32(hash))
}
