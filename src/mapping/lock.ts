/**
 * The lock of a mapping: one writer at a time. Its record lies in the catalog, where taking it is
 * one transaction, so that of two runs which both find a dead holder only one takes over.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { ExitCode, KeepgwError } from '../errors.ts'
import { isProvenAlive, isProvenDead, ownProcess } from '../process-id.ts'
import type { Catalog } from './catalog.ts'
import type { LockRecord } from './catalog-contents.ts'

const HEARTBEAT_MS = 15_000
/** A holder that nobody can look at, on another machine or in another container, is silent from then on. */
const SILENT_MS = 4 * HEARTBEAT_MS

/** A lock that is held. */
export interface MappingLock {
  /** Names this holding of the lock; the catalog checks it at every write. */
  readonly id: string
  /** Gives the lock up. May be called again. Throws KeepgwError where the catalog cannot be written. */
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
    throw new KeepgwError(`the mapping ${catalog.mappings} is locked by ${describeHolder(held)}`, {
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

/** True where a holder has not been heard of for a minute; it may still be alive, and hold the lock. */
export function isSilent({ heartbeat }: LockRecord): boolean {
  return Date.now() - Date.parse(heartbeat) > SILENT_MS
}

/** Says in one line who holds a lock. */
export function describeHolder(held: LockRecord): string {
  const age = Math.round((Date.now() - Date.parse(held.heartbeat)) / 1000)
  return `keepgw ${held.command} (pid ${held.pid} on ${held.host}, since ${held.since}, last heard of ${age} s ago)`
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
  return {
    id: randomUUID(),
    command,
    host: hostname(),
    ...ownProcess(),
    since: now,
    heartbeat: now,
  }
}
