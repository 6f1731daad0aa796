/** What the catalog knows of one object, and its compact form on disk. Pure. */
import { crc32 } from 'node:zlib'
import { KeepgwError } from '../errors.ts'
import type { Place } from './mapping.ts'
import { MAX_BLOCK } from './place-line.ts'

/** An object as the last index run that read it saw it. */
export interface CatalogRecord {
  etag: string
  /** Bytes. */
  size: number
  /** Milliseconds since 1970. */
  lastModified: number
  /**
   * The MD5 of each 64 MiB segment, 16 bytes each. All zeros stand for a segment whose line a
   * repair has dropped: the next index reads the object anew.
   */
  hashes: Buffer
  /** True where the only hash was taken from the ETag, and no read has proven it since. */
  trusted?: true
}

/** Ends with a checksum; the format before it, 1, does not, and is still read. */
const FORMAT = 2
const UNSEALED = 1
/** Set in the first byte of a trusted record: a keepgw that knows no such mark must not drop it. */
const TRUSTED = 0x80
const HEAD = 19
const CHECKSUM = 4
const HASH_BYTES = 16
const DROPPED = '0'.repeat(32)

/** Returns how many segments an object of `size` bytes has; none for an empty one. */
export function segmentCount(size: number): number {
  return Math.ceil(size / MAX_BLOCK)
}

/** Returns where a segment lies in its object, bytes. */
export function segmentRange(size: number, segment: number): { offset: number; length: number } {
  const offset = segment * MAX_BLOCK
  return { offset, length: Math.min(MAX_BLOCK, size - offset) }
}

/** Returns the hash of a segment, 32 hex digits, or undefined where a repair has dropped it or there is none. */
export function segmentHash(record: CatalogRecord, segment: number): string | undefined {
  const at = segment * HASH_BYTES
  if (at >= record.hashes.length) return undefined
  const hash = record.hashes.toString('hex', at, at + HASH_BYTES)
  return hash === DROPPED ? undefined : hash
}

/** Returns the place of a segment of `key`. */
export function segmentPlace(key: string, record: CatalogRecord, segment: number): Place {
  const place: Place = { ...segmentRange(record.size, segment), key, etag: record.etag }
  if (record.trusted) place.trusted = true
  return place
}

/** Returns the record without its mark: a read has shown what the hashes are, or there are none. */
export function withoutTrust({ trusted: _mark, ...record }: CatalogRecord): CatalogRecord {
  return record
}

/** True where a repair has dropped a segment, so that the object must be read anew. */
export function isDamaged(record: CatalogRecord): boolean {
  return hasDroppedHash(record.hashes, 0, record.hashes.length)
}

/**
 * Returns whether the bytes hold an undamaged record of this ETag and size: the same as comparing
 * with what decodeRecord returns, and cheaper. False for what decodeRecord throws at.
 */
export function isRecordOf(bytes: Buffer, etag: string, size: number): boolean {
  const end = endOfHashes(bytes)
  if (end === undefined) return false
  const start = HEAD + bytes.readUInt16LE(17)
  return (
    bytes.readDoubleLE(1) === size &&
    bytes.toString('utf8', HEAD, start) === etag &&
    end - start === segmentCount(size) * HASH_BYTES &&
    !hasDroppedHash(bytes, start, end)
  )
}

/** True where the record has a checksum, so that what it says is what was written. */
export function isSealed(bytes: Buffer): boolean {
  return bytes.length > 0 && (bytes[0]! & ~TRUSTED) === FORMAT
}

/** Undefined for what is no record, or another one than was written. */
function endOfHashes(bytes: Buffer): number | undefined {
  if (bytes.length < HEAD) return undefined
  const format = bytes[0]! & ~TRUSTED
  if (format === UNSEALED) return bytes.length
  const end = bytes.length - CHECKSUM
  if (format !== FORMAT || end < HEAD) return undefined
  return bytes.readUInt32LE(end) === crc32(bytes.subarray(0, end)) ? end : undefined
}

function hasDroppedHash(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += HASH_BYTES) {
    let byte = at
    while (byte < at + HASH_BYTES && bytes[byte] === 0) byte += 1
    if (byte === at + HASH_BYTES) return true
  }
  return false
}

/** Returns the record without these segments. */
export function withoutSegments(record: CatalogRecord, segments: Iterable<number>): CatalogRecord {
  const hashes = Buffer.from(record.hashes)
  for (const segment of segments) hashes.fill(0, segment * HASH_BYTES, (segment + 1) * HASH_BYTES)
  const left = { ...record, hashes }
  return isDamaged(left) ? withoutTrust(left) : left
}

/** Returns the bytes of a record: version and mark, size, time, length of the ETag, ETag, hashes, CRC-32. */
export function encodeRecord(record: CatalogRecord): Buffer {
  const etag = Buffer.from(record.etag, 'utf8')
  const end = HEAD + etag.length + record.hashes.length
  const bytes = Buffer.allocUnsafe(end + CHECKSUM)
  bytes.writeUInt8(record.trusted ? FORMAT | TRUSTED : FORMAT, 0)
  bytes.writeDoubleLE(record.size, 1)
  bytes.writeDoubleLE(record.lastModified, 9)
  bytes.writeUInt16LE(etag.length, 17)
  etag.copy(bytes, HEAD)
  record.hashes.copy(bytes, HEAD + etag.length)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, end)), end)
  return bytes
}

/** Returns the record that the bytes hold. Throws KeepgwError where they cannot be one. */
export function decodeRecord(bytes: Buffer): CatalogRecord {
  const end = endOfHashes(bytes)
  if (end === undefined) throw damaged('an unknown record')
  const size = bytes.readDoubleLE(1)
  const start = HEAD + bytes.readUInt16LE(17)
  const lastModified = bytes.readDoubleLE(9)
  const hashes = bytes.subarray(start, Math.max(start, end))
  const isPossible = Number.isSafeInteger(size) && size >= 0 && Number.isFinite(lastModified)
  if (!isPossible || start > end || hashes.length !== segmentCount(size) * HASH_BYTES) {
    throw damaged(`a record of ${size} bytes with ${hashes.length} bytes of hashes`)
  }
  const etag = bytes.toString('utf8', HEAD, start)
  const record: CatalogRecord = { etag, size, lastModified, hashes }
  if (bytes[0]! & TRUSTED) record.trusted = true
  return record
}

function damaged(what: string): KeepgwError {
  return new KeepgwError(`the catalog is damaged, or of a newer keepgw: it holds ${what}`, {
    hint: 'Use the newest keepgw; if it is that already, mend the mapping with keepgw check --repair',
  })
}
