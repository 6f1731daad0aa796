/**
 * The lock of a mapping: one writer at a time. Its record lies in the catalog, where taking it is
 * one transaction, so that of two runs which both find a dead holder only one takes over.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { ExitCode, KeepgwError } from '../errors.ts'
import type { Catalog, LockRecord } from './catalog.ts'

const HEARTBEAT_MS = 15_000

/** A lock that is held. */
export interface MappingLock {
  /** Names this holding of the lock; the catalog checks it at every write. */
  readonly id: string
  /** Gives the lock up. May be called again. */
  release(): Promise<void>
}

/**
 * Takes the mapping's lock, also from a holder that is proven dead; from any other one only with
 * `breakLock`. Throws KeepgwError (exit code 4) that says who holds it.
 */
export async function acquireLock(
  catalog: Catalog,
  command: string,
  options: { breakLock?: boolean } = {},
): Promise<MappingLock> {
  const own = ownRecord(command)
  await catalog.updateLock((held) => {
    if (held === undefined || isProvenDead(held)) return own
    const alive = isProvenAlive(held)
    if (options.breakLock && !alive) return own
    throw new KeepgwError(`the mapping is locked by ${describeHolder(held)}`, {
      exitCode: ExitCode.locked,
      hint: alive
        ? 'It is running: wait for it to end, or stop it'
        : 'Wait for it to end; if it cannot be alive any more, run again with --break-lock',
    })
  })
  const beat = setInterval(() => void heartbeat(catalog, own), HEARTBEAT_MS)
  beat.unref()
  return {
    id: own.id,
    release: async () => {
      clearInterval(beat)
      await catalog.updateLock((held) => (held?.id === own.id ? undefined : held))
    },
  }
}

/** Says in one line who holds a lock. */
export function describeHolder(held: LockRecord): string {
  const age = Math.round((Date.now() - Date.parse(held.heartbeat)) / 1000)
  return `keepgw ${held.command} (pid ${held.pid} on ${held.host}, since ${held.since}, last heard of ${age} s ago)`
}

/** True only where the holder cannot be running: its process, or its machine's boot, is over. */
export function isProvenDead(held: LockRecord): boolean {
  const here = place()
  if (held.machineId === '' || held.machineId !== here.machineId) return false
  if (held.bootId !== here.bootId) return here.bootId !== ''
  // In another container the same number is another process.
  if (held.pidNamespace !== here.pidNamespace || here.pidNamespace === '') return false
  const start = processStart(held.pid)
  // A /proc mounted with hidepid shows no other user's process: its number still answers.
  return start === undefined ? !isTaken(held.pid) : start !== held.processStart
}

/** True where the holder is seen to run, on this machine and in this container. */
function isProvenAlive(held: LockRecord): boolean {
  const here = place()
  const isHere = held.bootId === here.bootId && held.pidNamespace === here.pidNamespace
  return isHere && here.bootId !== '' && processStart(held.pid) === held.processStart
}

async function heartbeat(catalog: Catalog, own: LockRecord): Promise<void> {
  try {
    await catalog.updateLock((held) =>
      held?.id === own.id ? { ...held, heartbeat: new Date().toISOString() } : held,
    )
  } catch {
    // It only says how fresh the lock is; a catalog that cannot be written fails the next batch.
  }
}

function ownRecord(command: string): LockRecord {
  const now = new Date().toISOString()
  const { pid } = process
  const start = processStart(pid) ?? ''
  return {
    id: randomUUID(),
    command,
    ...place(),
    pid,
    processStart: start,
    since: now,
    heartbeat: now,
  }
}

function place(): Pick<LockRecord, 'host' | 'machineId' | 'bootId' | 'pidNamespace'> {
  return {
    host: hostname(),
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
