/**
 * Regular files seen as objects: which files count, their ETags, and opening one without being led
 * out of the tree.
 */
import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, lstat, open, opendir, readlink } from 'node:fs/promises'
import { asDirectory, bytesOf, directoryOf, isAbsence, realpath } from './path.ts'

/** A regular file, and where it really lies. */
export interface File {
  /** Absolute, without symbolic links. */
  realPath: string
  stats: BigIntStats
}

/**
 * Returns what tells one state of a file from another: size, mtime, ctime and inode. It is as fine
 * as the file system's clock: a change of the same length, in place, within one tick of the clock
 * (a few milliseconds on a local disk, up to a second on some network file systems) is not seen.
 */
export function etagOf(stats: BigIntStats): string {
  const { size, mtimeNs, ctimeNs, ino } = stats
  return [size, mtimeNs, ctimeNs, ino].map((part) => part.toString(16)).join('-')
}

/**
 * Returns the part of an ETag that a write changes: size and mtime. Links, chmod, a restore and file systems
 * without lasting inodes change the rest, and not a byte.
 */
export function writtenPartOf(etag: string): string {
  // A time before 1970 has a minus of its own.
  return /^[^-]*--?[^-]*/.exec(etag)?.[0] ?? etag
}

/**
 * Returns the object at `path` below `base`, or undefined where there is none: anything but a
 * regular file, and symbolic links that lead out of the tree or to something else. The directories
 * on the way are taken as they are: isReached checks them. Throws the system's error.
 */
export async function examine(base: string, path: string): Promise<File | undefined> {
  let realPath = base + path
  let stats = await lstat(bytesOf(realPath), { bigint: true })
  if (stats.isSymbolicLink()) {
    realPath = await realpath(realPath)
    if (!realPath.startsWith(base)) return undefined
    stats = await lstat(bytesOf(realPath), { bigint: true })
  }
  return stats.isFile() ? { realPath, stats } : undefined
}

/**
 * True if the directories on the way to `path` are real ones, as the walk takes them: a link among
 * them leads out of the tree, or to a file that has another key. Throws the system's error.
 */
export async function isReached(base: string, path: string): Promise<boolean> {
  const parent = base + directoryOf(path)
  return asDirectory(await realpath(parent)) === parent
}

/**
 * Returns the directory in which `path` lies, or else the nearest one above that is there, if it is empty:
 * a mount point without its disk looks like that, and says nothing of what is missing below it. The root is
 * ''. Throws the system's error.
 */
export async function emptyAround(base: string, path: string): Promise<string | undefined> {
  const directory = directoryOf(path)
  try {
    if (directory === '' || (await isReached(base, directory))) {
      return (await isEmpty(base + directory)) ? directory : undefined
    }
  } catch (error) {
    if (directory === '' || !isAbsence(error)) throw error
  }
  return emptyAround(base, directory.slice(0, -1))
}

async function isEmpty(path: string): Promise<boolean> {
  const directory = await opendir(bytesOf(path))
  try {
    return (await directory.read()) === null
  } finally {
    await directory.close()
  }
}

/**
 * Opens a file that examine returned. Returns undefined where its path leads to another file by
 * now. Throws the system's error. The caller closes the handle.
 */
export async function openFile({ realPath }: File): Promise<FileHandle | undefined> {
  // Opening a fifo that took the file's place would wait for its writer.
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const handle = await open(bytesOf(realPath), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (await isOpenAt(handle, realPath)) return handle
  } catch (error) {
    await handle.close()
    throw error
  }
  await handle.close()
  return undefined
}

/** Checks the descriptor, since a directory may have become a link between the check and the open. */
async function isOpenAt(handle: FileHandle, realPath: string): Promise<boolean> {
  const opened = await readlink(`/proc/self/fd/${handle.fd}`, 'latin1').catch(() => undefined)
  if (opened !== undefined) return opened === realPath
  const [held, there] = await Promise.all([
    handle.stat({ bigint: true }),
    lstat(bytesOf(realPath), { bigint: true }),
  ])
  const isSame = held.dev === there.dev && held.ino === there.ino
  return isSame && (await realpath(realPath)) === realPath
}
