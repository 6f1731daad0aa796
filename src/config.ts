/** Where things are, unless a flag says otherwise. */
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { UsageError } from './errors.ts'
import { stateDir } from './mapping/description.ts'
import type { RemoteSpec } from './remote/remote.ts'

/**
 * Returns the directory of a remote's mapping tree: the flag's; else a directory named for the
 * bucket below $KEEPGW_MAPPINGS, or below ${XDG_STATE_HOME:-~/.local/state}/keepgw.
 */
export function mappingsDir(spec: RemoteSpec, flag?: string): string {
  return flag === undefined ? resolve(mappingsHome(), mappingName(spec)) : resolve(flag)
}

/** Returns the mapping trees with a block in them, in the place where they are by default. */
export function knownMappings(): string[] {
  const home = mappingsHome()
  try {
    const names = readdirSync(home).sort()
    const dirs = names.map((name) => join(home, name)).filter((dir) => existsSync(stateDir(dir)))
    // A mistyped bucket leaves one without a line behind.
    return dirs.filter((dir) => readdirSync(dir).some((name) => /^[0-9a-f]{3}$/.test(name)))
  } catch {
    return []
  }
}

/**
 * Returns the one mapping tree there is, for a command that was given neither bucket nor --mappings.
 * Throws UsageError where there are several, or none.
 */
export function onlyMapping(): string {
  const known = knownMappings()
  if (known.length === 1) return known[0]!
  const which =
    known.length === 0 ? `there is no mapping in ${mappingsHome()}` : 'there are several mappings'
  throw new UsageError(`${which}: name one`, {
    hint: `With --mappings DIR${known.length > 0 ? `, one of: ${known.join(' ')}` : ''}`,
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
