/** What must be true of a catalog's disk and file before lmdb, which takes no bad news well, sees them. */
import { closeSync, fstatSync, openSync, readSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KeepgwError } from '../errors.ts'

const NETWORK_FILE_SYSTEMS = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x517b, 'SMB'],
])
/**
 * Kept free, more than a batch can need: on a disk that is full, lmdb writes over the end of a buffer
 * of its own, and the process dies.
 */
const SPARE_BYTES = 8 * 1024 * 1024
/**
 * Where lmdb-js 3 keeps what it says of itself, in each of the file's first two pages (MDB_meta), bytes. The
 * page size stands in a field of the first table's root that is of no other use.
 */
export const META = {
  flags: 18,
  magic: 24,
  version: 28,
  mapSize: 40,
  pageSize: 48,
  freeTable: 48,
  mainTable: 96,
  lastPage: 144,
  transaction: 152,
  end: 160,
}
const MAGIC = 0xbeefc0de
const VERSION = 2
const IS_META = 8
/** More than any catalog; the system would refuse to map it, and lmdb takes that badly. */
const MAX_MAP = 2n ** 44n
/** Holds two pages of the largest size there is. */
const HEAD = 131_072

/** Throws CatalogMissing where there is no directory of that name; the system's error where nobody can tell. */
export function refuseNoCatalog(dir: string): void {
  if (statSync(dir, { throwIfNoEntry: false }) === undefined) throw new CatalogMissing(dir)
}

/** Throws KeepgwError where the directory lies on a file system of the network. */
export function refuseNetworkFileSystem(dir: string): void {
  const name = NETWORK_FILE_SYSTEMS.get(statfsSync(dir).type)
  if (name === undefined) return
  throw new CatalogUnusable(`the catalog cannot lie on ${name}: ${dir}`, {
    hint: 'It needs a local disk: name one with --mappings DIR, and copy the tree from there',
  })
}

/** Throws KeepgwError where the disk has no room for a write of the catalog. */
export function refuseFullDisk(dir: string): void {
  const { bavail, bsize } = statfsSync(dir)
  if (bavail * bsize >= SPARE_BYTES) return
  throw new KeepgwError(`the disk of ${dir} is full: ${bavail * bsize} bytes left`, {
    hint: 'Free some space there, then run again: what was recorded so far is kept',
  })
}

/**
 * Throws KeepgwError for a data file that lmdb cannot open: its own error path frees memory that it
 * still uses, and reading behind the end of a file that was cut short is a SIGBUS. A writer is given
 * a missing or an empty file, and fills it. Returns whether the file ends before its last page: lmdb takes
 * pages at the end that it gives up again before they are written, so only a page in use must not lie there.
 */
export function refuseBadFile(dir: string, readOnly: boolean): { isShort: boolean } {
  const lock = join(dir, 'lock.mdb')
  if (statSync(lock, { throwIfNoEntry: false })?.isFile() === false) {
    throw new KeepgwError(`the catalog ${dir} cannot be opened: ${lock} is no file`, {
      hint: 'Remove it, or run keepgw check --repair: it is made anew',
    })
  }
  const data = join(dir, 'data.mdb')
  if (statSync(data, { throwIfNoEntry: false })?.isFile() === false) {
    throw new CatalogDamaged(dir, `${data} is no file`)
  }
  const { head, size } = readHead(data)
  if (size === 0) {
    if (!readOnly) return { isShort: false }
    throw new CatalogMissing(dir)
  }
  const { least, whole } = sizesOf(head)
  if (size < least) throw new CatalogDamaged(dir, 'its file')
  return { isShort: size < whole }
}

/** No catalog, or less of one than a reader could open. */
export class CatalogMissing extends KeepgwError {
  override readonly name = 'CatalogMissing'

  constructor(dir: string) {
    super(`there is no catalog in ${dir}: no run has got as far as making it`, {
      hint: 'Run keepgw index',
    })
  }
}

/** A catalog that may be whole, and cannot be opened here, or by this user. */
export class CatalogUnusable extends KeepgwError {
  override readonly name = 'CatalogUnusable'
}

/** A catalog that lmdb must not see. */
export class CatalogDamaged extends KeepgwError {
  override readonly name = 'CatalogDamaged'

  constructor(dir: string, what: string, options?: ErrorOptions) {
    super(`the catalog ${dir} is damaged: ${what}`, {
      ...options,
      hint: 'Mend it with keepgw check --repair: what the tree holds is not read again',
    })
  }
}

/**
 * Returns the bytes that the file must have, and those that it has with all of its pages, by the newer of its
 * two heads; infinite for a bad head.
 */
function sizesOf(head: Buffer): { least: number; whole: number } {
  const bad = { least: Infinity, whole: Infinity }
  if (head.length < META.end) return bad
  const pageSize = head.readUInt32LE(META.pageSize)
  const isSize = pageSize >= 512 && pageSize <= 65_536 && Number.isInteger(Math.log2(pageSize))
  if (!isSize || pageSize + META.end > head.length) return bad
  const metas = [0, pageSize].map((at) => head.subarray(at, at + META.end))
  if (!metas.every((meta) => isMeta(meta, pageSize))) return bad
  const [first, second] = metas.map((meta) => ({
    transaction: meta.readBigUInt64LE(META.transaction),
    pages: Number(meta.readBigUInt64LE(META.lastPage)) + 1,
  }))
  const { pages } = first!.transaction > second!.transaction ? first! : second!
  return { least: 2 * pageSize, whole: pages * pageSize }
}

function isMeta(meta: Buffer, pageSize: number): boolean {
  return (
    meta.readUInt16LE(META.flags) === IS_META &&
    meta.readUInt32LE(META.magic) === MAGIC &&
    (meta.readUInt32LE(META.version) & 0xffff) === VERSION &&
    meta.readUInt32LE(META.pageSize) === pageSize &&
    meta.readBigUInt64LE(META.mapSize) <= MAX_MAP
  )
}

/** Returns the beginning of a file, and how long it is; nothing of a file that is missing. */
function readHead(file: string): { head: Buffer; size: number } {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return { head: Buffer.alloc(0), size: 0 }
  }
  try {
    const head = Buffer.alloc(HEAD)
    const length = readSync(fd, head)
    return { head: head.subarray(0, length), size: fstatSync(fd).size }
  } finally {
    closeSync(fd)
  }
}
