/**
 * The files of a cache: `DIR/ab/HASH`, and under way `DIR/tmp/WRITER~NUMBER`. Any number of processes
 * share a directory, and know of each other by what lies in it; there is no index that could be wrong.
 */
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  utimes,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pLimit from 'p-limit'
import { UsageError } from '../../errors.ts'
import { isProvenDead, ownProcess, type ProcessId } from '../../process-id.ts'

/** Milliseconds after which a file under way is nobody's, where its writer cannot be looked at. */
const ABANDONED = 86_400_000
/** Files that are looked at together: few, since whoever reads blocks needs the disk, too. */
const CONCURRENT_STATS = 8
/** Bytes in which file systems give out room. */
const UNIT = 4096

/** The file of a block. */
export interface CachedFile {
  path: string
  /** Bytes that it takes on disk. */
  bytes: number
  /** When the block was last read or written, in milliseconds since 1970: the file's mtime. */
  usedMs: number
}

/** A file under way. The holder closes the handle. */
export interface TemporaryFile {
  handle: FileHandle
  path: string
}

/** Returns the bytes that a file takes on disk. */
export function bytesOnDisk(size: number): number {
  return Math.ceil(size / UNIT) * UNIT
}

/** Safe for concurrent use, also by other processes. What fails throws the file system's error. */
export class CacheDirectory {
  readonly path: string
  readonly #writer = writerName(ownProcess())
  #made = 0

  /** The path is absolute. */
  constructor(path: string) {
    this.path = path
  }

  /** Returns where a block's file is. */
  file(hash: string): string {
    return join(this.path, hash.slice(0, 2), hash)
  }

  /**
   * Makes the directory itself, if it is not there; not the one it lies in. Throws as
   * refuseForeign does.
   */
  async prepare(): Promise<void> {
    await makeDirectory(this.path)
    await refuseForeign(this.path)
    await makeDirectory(this.#temporary)
    await refuseForeign(this.#temporary)
  }

  /** Opens a new file to write a block to. */
  async create(): Promise<TemporaryFile> {
    const path = join(this.#temporary, `${this.#writer}~${this.#made++}`)
    try {
      return { handle: await open(path, 'wx', 0o600), path }
    } catch (error) {
      if (!isAbsent(error)) throw error
      // Somebody has emptied the cache.
      await this.prepare()
      return { handle: await open(path, 'wx', 0o600), path }
    }
  }

  /** Makes a file under way that of the block, in the place of any other one. */
  async publish({ path }: TemporaryFile, hash: string): Promise<void> {
    const file = this.file(hash)
    try {
      await rename(path, file)
    } catch (error) {
      if (!isAbsent(error)) throw error
      await makeDirectory(dirname(file))
      await rename(path, file)
    }
  }

  /** Notes that a block was read just now. */
  async touch(hash: string): Promise<void> {
    const now = new Date()
    try {
      await utimes(this.file(hash), now, now)
    } catch (error) {
      // It had to make room meanwhile.
      if (!isAbsent(error)) throw error
    }
  }

  /** Deletes the file of a block. */
  async remove(hash: string): Promise<void> {
    await rm(this.file(hash), { force: true })
  }

  /** Deletes a file, unless it was used since it was listed; false where it stays. */
  async evict({ path, usedMs }: CachedFile): Promise<boolean> {
    const now = await lookAt(path)
    if (now !== undefined && now.usedMs !== usedMs) return false
    await rm(path, { force: true })
    return true
  }

  /** Yields the blocks' files, those of one subdirectory after the other. */
  async *files(): AsyncGenerator<CachedFile> {
    for (const shard of await namesIn(this.path)) {
      if (!/^[0-9a-f]{2}$/.test(shard) || !(await isDirectory(join(this.path, shard)))) continue
      const dir = join(this.path, shard)
      const isBlock = (name: string) => /^[0-9a-f]{32}$/.test(name) && name.startsWith(shard)
      const limit = pLimit(CONCURRENT_STATS)
      const names = (await namesIn(dir)).filter(isBlock)
      const found = await limit.map(names, (name) => lookAt(join(dir, name)))
      for (const file of found) if (file !== undefined) yield file
    }
  }

  /** Deletes what dead writers have left; returns the bytes of what other ones have under way. */
  async clearTemporary(): Promise<number> {
    let bytes = 0
    for (const name of await namesIn(this.#temporary)) {
      const writer = /^(.*)~\d+$/.exec(name)?.[1]
      if (writer === undefined || writer === this.#writer) continue
      const file = await lookAt(join(this.#temporary, name))
      if (file === undefined) continue
      const id = parseWriterName(writer)
      const isOld = Date.now() - file.usedMs > ABANDONED
      if (isOld || (id !== undefined && isProvenDead(id))) await rm(file.path, { force: true })
      else bytes += file.bytes
    }
    return bytes
  }

  get #temporary(): string {
    return join(this.path, 'tmp')
  }
}

/** True for the error of a file that is not there. */
export function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

async function lookAt(path: string): Promise<CachedFile | undefined> {
  try {
    const stats = await lstat(path)
    if (!stats.isFile()) return undefined
    return { path, bytes: bytesOnDisk(stats.size), usedMs: stats.mtimeMs }
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
}

/** False for a link, which could lead to anybody's files. */
async function isDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true
}

/**
 * Throws UsageError for a directory that belongs to another user than this one or root, or that
 * everybody may write to: they could have us delete and replace other files. One that is not there is
 * left to whoever makes it.
 */
export async function refuseForeign(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return
  const isOurs = found.uid === 0 || found.uid === process.geteuid?.()
  if (isOurs && (found.mode & 0o002) === 0) return
  const whose = isOurs ? 'everybody may write to it' : `it belongs to another user (${found.uid})`
  throw new UsageError(`${path} is no safe place for a cache: ${whose}`, {
    hint: 'Name a directory that belongs to the user of keepgw',
  })
}

/** Nobody else is to read what clients need a signature for. */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

function writerName({ machineId, bootId, pidNamespace, pid, processStart }: ProcessId): string {
  return [machineId, bootId, pidNamespace, pid, processStart].map(encodeURIComponent).join('~')
}

function parseWriterName(name: string): ProcessId | undefined {
  const parts = name.split('~')
  if (parts.length !== 5) return undefined
  try {
    const [machineId = '', bootId = '', pidNamespace = '', pid, processStart = ''] =
      parts.map(decodeURIComponent)
    return { machineId, bootId, pidNamespace, pid: Number(pid), processStart }
  } catch {
    return undefined
  }
}
