/** Tells one process from all others, also from those of other machines, containers and boots. */
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** What names a process for ever. Empty texts stand for what this system does not tell. */
export interface ProcessId {
  machineId: string
  bootId: string
  pidNamespace: string
  pid: number
  /** When the process began, in the kernel's clock ticks: tells a reused pid apart. */
  processStart: string
}

/** Returns the name of this process. */
export function ownProcess(): ProcessId {
  const { pid } = process
  return { ...place(), pid, processStart: processStart(pid) ?? '' }
}

/** True only where the process cannot be running: it, or its machine's boot, is over. */
export function isProvenDead(id: ProcessId): boolean {
  const here = place()
  if (id.machineId === '' || id.machineId !== here.machineId) return false
  if (id.bootId !== here.bootId) return here.bootId !== ''
  // In another container the same number is another process.
  if (id.pidNamespace !== here.pidNamespace || here.pidNamespace === '') return false
  const start = processStart(id.pid)
  // A /proc mounted with hidepid shows no other user's process: its number still answers.
  return start === undefined ? !isTaken(id.pid) : start !== id.processStart
}

/** True where the process is seen to run, on this machine and in this container. */
export function isProvenAlive(id: ProcessId): boolean {
  const here = place()
  const isHere = id.bootId === here.bootId && id.pidNamespace === here.pidNamespace
  return isHere && here.bootId !== '' && processStart(id.pid) === id.processStart
}

function place(): Omit<ProcessId, 'pid' | 'processStart'> {
  return {
    machineId: firstLine('/etc/machine-id') || hostname(),
    bootId: firstLine('/proc/sys/kernel/random/boot_id'),
    pidNamespace: orEmpty(() => readlinkSync('/proc/self/ns/pid')),
  }
}

/**
 * Field 22 of /proc/PID/stat (proc(5)); undefined where there is no such process, and 'over' where it
 * has ended and only its parent has not taken notice: that may never happen in a container.
 */
function processStart(pid: number): string | undefined {
  const stat = orEmpty(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  if (stat === '') return undefined
  // The command in field 2 may hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? 'over' : fields[19]
}

/** False where the kernel has no process of this number. */
function isTaken(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

function firstLine(file: string): string {
  return orEmpty(() => readFileSync(file, 'utf8')).split('\n', 1)[0]!
}

function orEmpty(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}
