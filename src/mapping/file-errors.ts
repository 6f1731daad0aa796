/** What errors of files, and of lmdb, mean. */

/** lmdb gives the system's numbers. */
const DENIALS = new Set<string | number>(['EACCES', 'EPERM', 'EROFS', 1, 13, 30])

/** What to do where all of a mapping is denied. */
export const DENIED_HINT =
  'Run it as the user that the mapping belongs to, or give it to this one: chown -R USER DIR'

/** True for the errors of a file system that say: nothing of this name is there. */
export function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code
  return code === 'ENOENT' || code === 'ENOTDIR'
}

/** True for the errors that say: this user may not do it. */
export function isDenied(error: unknown): boolean {
  const code = (error as { code?: string | number } | null)?.code
  return code !== undefined && DENIALS.has(code)
}
