/** Whether another process has a catalog open that cannot say so itself. */
import { readdirSync, readFileSync, type Stats, statSync } from 'node:fs'
import { join } from 'node:path'
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
  let file: Stats
  try {
    locks = readFileSync('/proc/locks', 'utf8')
    file = statSync(lockFile)
  } catch {
    return undefined
  }
  for (const line of locks.split('\n')) {
    // `1: POSIX ADVISORY READ PID MAJOR:MINOR:INODE START END`
    const [, , , , holder, where] = line.trim().split(/\s+/)
    const pid = Number(holder)
    if (where?.endsWith(`:${file.ino}`) && pid !== process.pid && mayHold(pid, file)) return pid
  }
  return undefined
}

/**
 * False where it is another file system's file of that number. The device that is listed is not always
 * that of stat(2), so what the process has open is looked at, where that may be seen.
 */
function mayHold(pid: number, { dev, ino }: Stats): boolean {
  const dir = `/proc/${pid}/fd`
  try {
    return readdirSync(dir).some((name) => {
      const open = statSync(join(dir, name), { throwIfNoEntry: false })
      return open?.dev === dev && open.ino === ino
    })
  } catch {
    return true
  }
}
