/** Where things are, unless a flag says otherwise. */
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { KeepgwError, UsageError } from './errors.ts'
import { findDescription, stateDir } from './mapping/description.ts'
import { isShard } from './mapping/tree.ts'
import type { RemoteSpec } from './remote/remote.ts'
import { formatSpec, parsePart } from './remote/spec.ts'

/**
 * Returns the directory of a remote's mapping tree: the flag's; else a directory named for the
 * bucket below $KEEPGW_MAPPINGS, or below ${XDG_STATE_HOME:-~/.local/state}/keepgw.
 */
export function mappingsDir(spec: RemoteSpec, flag?: string): string {
  return flag === undefined ? resolve(mappingsHome(), mappingName(spec)) : resolve(flag)
}

/** A mapping, and a part of it. */
export interface MappingPart {
  dir: string
  /** What the keys of the part start with. */
  prefix: string
}

/**
 * Returns the mapping, and the part of it, that `BUCKET[/PREFIX]`, `s3://BUCKET[/PREFIX]` or a
 * directory names: of a directory its own mapping, or that of the nearest one around it. Throws
 * UsageError where the mapping is of another remote, KeepgwError where there is none, and
 * MappingUnreachable.
 */
export async function mappingPart(text: string, flag?: string): Promise<MappingPart> {
  const spec = parsePart(text)
  const isNamed = flag !== undefined || spec.kind === 's3'
  const dir = isNamed ? mappingsDir(spec, flag) : nearestMapping(spec.root)
  const description = await findDescription(dir)
  if (description === undefined) {
    throw new KeepgwError(`${formatSpec(spec)} is not indexed: there is no mapping ${dir}`, {
      hint: 'Run keepgw index first; if it was, mount the disk of its mapping, or name that with --mappings DIR',
    })
  }
  const { remote } = description
  const prefix = prefixIn(remote, spec)
  if (prefix !== undefined) return { dir, prefix }
  throw new UsageError(
    `the mapping ${dir} is of ${formatSpec(remote)}, which does not hold ${formatSpec(spec)}`,
    { hint: 'Name another one with --mappings DIR' },
  )
}

/** Returns the prefix of a part's keys in the whole; undefined where it is none of its parts. */
function prefixIn(whole: RemoteSpec, part: RemoteSpec): string | undefined {
  if (whole.kind === 's3') {
    const isPart = part.kind === 's3' && part.bucket === whole.bucket
    return isPart ? (part.prefix ?? '') : undefined
  }
  if (part.kind === 's3') return undefined
  const below = relative(whole.root, part.root)
  if (below === '..' || below.startsWith('../')) return undefined
  return below === '' ? '' : `${below}/`
}

function nearestMapping(root: string): string {
  for (let around = root; ; around = dirname(around)) {
    const dir = mappingsDir({ kind: 'directory', root: around })
    if (existsSync(stateDir(dir))) return dir
    if (around === dirname(around)) return mappingsDir({ kind: 'directory', root })
  }
}

/**
 * Returns the mapping trees with a block in them, in the place where they are by default; none where that
 * cannot be read.
 */
export function knownMappings(): string[] {
  const home = mappingsHome()
  try {
    const names = readdirSync(home).sort()
    const dirs = names.map((name) => join(home, name)).filter((dir) => existsSync(stateDir(dir)))
    // A mistyped bucket leaves one without a line behind.
    return dirs.filter((dir) => readdirSync(dir).some(isShard))
  } catch {
    return []
  }
}

/**
 * Returns the one mapping tree there is, for a command that was given neither bucket nor directory.
 * Throws UsageError where there are several, or none; it says `how` to name one.
 */
export function onlyMapping(how = 'With --mappings DIR'): string {
  const known = knownMappings()
  if (known.length === 1) return known[0]!
  const which =
    known.length === 0 ? `there is no mapping in ${mappingsHome()}` : 'there are several mappings'
  throw new UsageError(`${which}: name one`, {
    hint: `${how}${known.length > 0 ? `, one of: ${known.join(' ')}` : ''}`,
  })
}

function mappingsHome(): string {
  const { KEEPGW_MAPPINGS, XDG_STATE_HOME } = process.env
  if (KEEPGW_MAPPINGS) return resolve(KEEPGW_MAPPINGS)
  return resolve(XDG_STATE_HOME || join(homedir(), '.local/state'), 'keepgw')
}

function mappingName(spec: RemoteSpec): string {
  if (spec.kind === 's3') return spec.bucket
  return spec.root.replace(/^\/+/, '').replaceAll('/', '_') || '_'
}
