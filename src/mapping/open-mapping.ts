/** A mapping opened for writing: described, locked, and mended after a crash. */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { UsageError } from '../errors.ts'
import { askedBy, type RemoteSpec } from '../remote/remote.ts'
import { formatSpec } from '../remote/spec.ts'
import { Catalog } from './catalog.ts'
import {
  findDescription,
  type MappingDescription,
  stateDir,
  writeDescription,
} from './description.ts'
import { acquireLock, type MappingLock } from './lock.ts'
import { Recorder } from './recorder.ts'
import { isShard } from './tree.ts'

/** A mapping whose lock this process holds. */
export interface WritableMapping {
  dir: string
  description: MappingDescription
  catalog: Catalog
  recorder: Recorder
  /** Objects of a crashed run's last batch, which was finished now. */
  recovered: number
  close(): Promise<void>
}

/** How a mapping is opened for writing. */
export interface WritingOptions {
  /** Told to those who find the lock held. */
  command: string
  breakLock?: boolean
  /** Leave a batch that was cut short alone: files that it is about may be bad. */
  leaveBatch?: boolean
}

/**
 * Opens the mapping at `dir`, whose description is there already. Throws KeepgwError where it is
 * locked (exit code 4) or cannot be written.
 */
export async function openForWriting(
  dir: string,
  description: MappingDescription,
  options: WritingOptions,
): Promise<WritableMapping> {
  await Catalog.make(dir)
  const catalog = Catalog.open(dir)
  let lock: MappingLock | undefined
  let recorder: Recorder | undefined
  const close = async (): Promise<void> => {
    await recorder?.close()
    // A full disk must not hide why the run failed; the next one finds this holder dead.
    await lock?.release().catch(() => {})
    await catalog.close()
  }
  try {
    lock = await acquireLock(catalog, options.command, { breakLock: options.breakLock ?? false })
    recorder = new Recorder(dir, catalog, lock.id)
    const recovered = options.leaveBatch ? 0 : await recorder.recover()
    return { dir, description, catalog, recorder, recovered, close }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * Returns the description of the mapping at `dir` for an index of `asked`: what was settled when it
 * was made, with what only says how to get there (region, path style, whether it is signed, who pays)
 * as asked now.
 * Writes it where it is new. Throws UsageError where the mapping is of another remote, MappingUnreachable
 * where it cannot be read, and KeepgwError where it cannot be written.
 */
export async function settleDescription(
  dir: string,
  asked: RemoteSpec,
): Promise<MappingDescription> {
  const found = await findStillTrue(dir, asked)
  const remote = publicPart(reach(found?.remote ?? asked, asked))
  const learnt = found ?? { version: 1, remote, ifMatch: true }
  const description: MappingDescription = { ...learnt, remote }
  if (JSON.stringify(found) !== JSON.stringify(description)) {
    await writeDescription(dir, description)
  }
  return description
}

async function findStillTrue(
  dir: string,
  asked: RemoteSpec,
): Promise<MappingDescription | undefined> {
  const found = await findDescription(dir)
  try {
    if (found !== undefined) assertSame(dir, found.remote, asked)
    return found
  } catch (error) {
    if (await holdsNothing(dir)) return undefined
    throw error
  }
}

/** True where no run has recorded anything: the first one may have named the wrong endpoint. */
async function holdsNothing(dir: string): Promise<boolean> {
  if ((await readdir(dir)).some(isShard)) return false
  if (!existsSync(join(stateDir(dir), 'catalog', 'data.mdb'))) return true
  const catalog = Catalog.open(dir, { readOnly: true })
  try {
    const isTaken = catalog.lockRecord() !== undefined || catalog.intent() !== undefined
    return !isTaken && catalog.stats().objects === 0
  } finally {
    await catalog.close()
  }
}

/** Returns how to reach a described remote: as `asked` says, and where it says nothing, as described. */
export function reach(described: RemoteSpec, asked: RemoteSpec): RemoteSpec {
  if (described.kind !== 's3' || asked.kind !== 's3') return described
  const { kind: _kind, ...how } = asked
  return askedBy({ ...described, ...how }, asked)
}

/** Throws UsageError unless both name the same bucket (or part of it) or directory. */
export function assertSame(dir: string, described: RemoteSpec, asked: RemoteSpec): void {
  const endpoint = asked.kind === 's3' && asked.endpoint !== undefined ? asked.endpoint : undefined
  const known = described.kind === 's3' ? described.endpoint : undefined
  const sameEndpoint = endpoint === undefined || trimmed(endpoint) === trimmed(known ?? '')
  if (formatSpec(described) === formatSpec(asked) && sameEndpoint) return
  // One that was edited by hand may have a password in it.
  const at = (url: string | undefined): string =>
    url === undefined ? '' : ` at ${url.replace(/\/\/.*@/, '//')}`
  throw new UsageError(
    `the mapping ${dir} is of ${formatSpec(described)}${at(known)}, not of ${formatSpec(asked)}${at(endpoint)}`,
    {
      hint:
        isPartOf(described, asked) && sameEndpoint
          ? 'Index a part of it with --prefix, or into a mapping of its own with --mappings DIR'
          : 'Name another one with --mappings DIR; if the store has moved, edit .keepgw/remote.json there',
    },
  )
}

function isPartOf(whole: RemoteSpec, part: RemoteSpec): boolean {
  if (whole.kind !== 's3' || part.kind !== 's3') return false
  return whole.bucket === part.bucket && (part.prefix ?? '').startsWith(whole.prefix ?? '')
}

function trimmed(url: string): string {
  return url.replace(/\/+$/, '')
}

/** Profiles and files of credentials are the caller's own business, and may differ for `serve`. */
function publicPart(spec: RemoteSpec): RemoteSpec {
  if (spec.kind === 'directory') return spec
  const { profile: _profile, credentialsFile: _file, ...rest } = spec
  return rest
}
