/**
 * Where Node keeps what it has compiled: without, compiling is a third of what a run costs that finds
 * nothing new.
 */
import { mkdirSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * Returns the directory, made if need be; undefined where there can be none, or the user has named
 * one (NODE_COMPILE_CACHE). Not below /tmp, where Node would put it, nor where another user could have
 * us run what is in it: root may act with the home of somebody else.
 */
export function compileCacheDir(): string | undefined {
  if (process.env.NODE_COMPILE_CACHE) return undefined
  const home = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const dir = join(home, 'keepgw')
  return isMade(home) && isMade(dir) && isOurs(dir) ? dir : undefined
}

function isOurs(dir: string): boolean {
  const { uid, mode } = statSync(dir)
  return uid === process.geteuid?.() && (mode & 0o002) === 0
}

/** Not `recursive`: with that Node 24 never comes back from a place such as /proc. */
function isMade(dir: string): boolean {
  try {
    mkdirSync(dir, { mode: 0o700 })
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EEXIST'
  }
}
