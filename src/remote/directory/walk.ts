/**
 * Walks a tree of files in the byte order of whole paths, as a bucket is listed.
 */
import type { Dirent, OpenDirOptions } from 'node:fs'
import { opendir } from 'node:fs/promises'
import { asDirectory, bytesOf, isAbsence, realpath, reasonOf } from './path.ts'

/** Bytes of the longest key that the catalog can hold. */
const LONGEST_KEY = 1978

/**
 * A path below the root that may be an object, or a directory in which no name matters, or, with a reason,
 * something that cannot be looked into.
 */
export interface Found {
  /** Ends with `/` for a directory; the root itself is the empty path. */
  path: string
  /** A directory had no entry at all, or had vanished: a mount point without its disk looks like that. */
  isEmpty?: true
  /** Why it cannot be looked into: what is there, or below it, is unknown. */
  unlisted?: string
}

/** A directory that is being walked through. */
interface Level {
  directory: string
  names: string[]
  next: number
}

/**
 * Yields the files and symbolic links below `base` (a path with its last `/`) whose paths start
 * with `prefix`, in byte order, and the directories in which there are none, also where they have just
 * vanished. What cannot be read is yielded with its reason. Holds the names of one directory for each
 * level of depth. Throws the signal's reason alone.
 */
export async function* walk(
  base: string,
  prefix: string,
  signal: AbortSignal,
): AsyncGenerator<Found> {
  const levels: Level[] = [{ directory: '', names: [''], next: 0 }]
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.names[level.next++]
    if (name === undefined) {
      levels.pop()
      continue
    }
    signal.throwIfAborted()
    const path = level.directory + name
    const isDirectory = path === '' || path.endsWith('/')
    // Below a directory, a key has one more byte at the least.
    if (path.length + (isDirectory ? 1 : 0) > LONGEST_KEY) {
      yield { path, unlisted: `path longer than ${LONGEST_KEY} bytes` }
    } else if (!isDirectory) {
      yield { path }
    } else {
      const names = await namesIn(base, path, prefix, signal)
      if (names === undefined) yield { path, isEmpty: true }
      else if (!Array.isArray(names)) yield { path, unlisted: names.reason }
      else if (names.length === 0) yield { path }
      else levels.push({ directory: path, names, next: 0 })
    }
  }
}

/**
 * Returns the names in a directory that matter, sorted; undefined where there is no entry at all, or no
 * directory any more; or why it cannot be read.
 */
async function namesIn(
  base: string,
  directory: string,
  prefix: string,
  signal: AbortSignal,
): Promise<string[] | undefined | { reason: string }> {
  const path = base + directory
  let entries: AsyncIterable<Dirent<Buffer>>
  try {
    // A directory that a symbolic link has replaced since its parent was read is not followed.
    if (asDirectory(await realpath(path)) !== path) return []
    entries = await openEntries(path)
  } catch (error) {
    return isAbsence(error) ? undefined : { reason: reasonOf(error) }
  }
  const names: string[] = []
  let isEmpty = true
  try {
    for await (const entry of entries) {
      signal.throwIfAborted()
      isEmpty = false
      const name = nameOf(entry)
      if (name !== undefined && matters(directory + name, prefix)) names.push(name)
    }
  } catch (error) {
    signal.throwIfAborted()
    // Here even ENOENT is no proof that the directory is empty.
    return { reason: reasonOf(error) }
  }
  return isEmpty ? undefined : names.sort()
}

async function openEntries(path: string): Promise<AsyncIterable<Dirent<Buffer>>> {
  // The type declarations know of no Buffer names, which opendir gives all the same.
  const options = { encoding: 'buffer', bufferSize: 256 } as unknown as OpenDirOptions
  return (await opendir(bytesOf(path), options)) as unknown as AsyncIterable<Dirent<Buffer>>
}

/** A directory's name ends with `/`, so that it sorts as the paths below it do. */
function nameOf(entry: Dirent<Buffer>): string | undefined {
  const name = entry.name.toString('latin1')
  if (entry.isDirectory()) return `${name}/`
  return entry.isFile() || entry.isSymbolicLink() ? name : undefined
}

function matters(path: string, prefix: string): boolean {
  return path.startsWith(prefix) || (path.endsWith('/') && prefix.startsWith(path))
}
