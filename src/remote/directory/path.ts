/**
 * Paths as the file system has them: bytes. They are held as strings of one character a byte
 * (latin1), which are half the size of a Buffer and which JavaScript's `<` and sort() order by
 * their bytes, the very order a listing needs.
 */
import { realpath as realpathOf } from 'node:fs/promises'
import { getSystemErrorMessage } from 'node:util'
import { messageOf } from '../../errors.ts'
import { keyFromBytes, keyToBytes } from '../key.ts'

/** Returns the bytes that fs calls take. */
export function bytesOf(path: string): Buffer {
  return Buffer.from(path, 'latin1')
}

/** Returns the path of any text, also of one that is no key (a prefix, the root). Never throws. */
export function pathFromText(text: string): string {
  return keyToBytes(text).toString('latin1')
}

/**
 * Returns the path of a key below the root, or undefined where no file can have that key: with an
 * empty, `.` or `..` component or a NUL, and where another key is the true name of its bytes.
 */
export function pathFromKey(key: string): string | undefined {
  if (key.includes('\0')) return undefined
  if (key.split('/').some((part) => part === '' || part === '.' || part === '..')) return undefined
  const path = pathFromText(key)
  return key.isWellFormed() || keyFromPath(path) === key ? path : undefined
}

/** Returns the key of a path below the root. Never throws. */
export function keyFromPath(path: string): string {
  return keyFromBytes(bytesOf(path))
}

/** Returns the path free of symbolic links; throws the system's error. */
export async function realpath(path: string): Promise<string> {
  return realpathOf(bytesOf(path), 'latin1')
}

/** Returns a directory's path with the `/` that its files' names follow. */
export function asDirectory(path: string): string {
  return path.endsWith('/') ? path : `${path}/`
}

/** Returns the directory that a path lies in, with its last `/`; '' is the root. Of one that ends with `/`, itself. */
export function directoryOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1)
}

/** True for the errors that say: nothing of this name is there. */
export function isAbsence(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  // A symbolic link that leads in circles (ELOOP) stands for no file.
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP'
}

/** Returns what the system said, without the path: `permission denied (EACCES)`. */
export function reasonOf(error: unknown): string {
  const { code, errno } = error as NodeJS.ErrnoException
  if (code === undefined || errno === undefined) return messageOf(error)
  return `${getSystemErrorMessage(errno)} (${code})`
}
