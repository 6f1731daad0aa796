/** Whether another process has a catalog open that cannot say so itself. */
import { readFileSync, statSync } from 'node:fs'
import { ExitCode, KeepgwError } from '../errors.ts'

/**
 * Throws KeepgwError (exit code 4) where a process of this machine has the catalog of this lock file open:
 * lmdb holds a lock on the file as long. Where the system does not tell of locks (proc(5), /proc/locks),
 * nothing is known.
 */
export function refuseInUse(lockFile: string): void {
  const pid = holderOf(lockFile)
  if (pid === undefined) return
  throw new KeepgwError(`process ${pid} has the damaged catalog open`, {
    hint: 'Wait for it to end, or stop it',
    exitCode: ExitCode.locked,
  })
}

function holderOf(lockFile: string): number | undefined {
  let locks: string
  let inode: number
  try {
    locks = readFileSync('/proc/locks', 'utf8')
    inode = statSync(lockFile).ino
  } catch {
    return undefined
  }
  for (const line of locks.split('\n')) {
    // `1: POSIX ADVISORY READ PID MAJOR:MINOR:INODE START END`
    const [, , , , pid, file] = line.trim().split(/\s+/)
    if (file?.endsWith(`:${inode}`) && Number(pid) !== process.pid) return Number(pid)
  }
  return undefined
}
