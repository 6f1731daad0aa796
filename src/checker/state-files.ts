/** What lies beside the catalog in keepgw's own directory of a mapping, and the catalog as a file. */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KeepgwError, messageOf } from '../errors.ts'
import { Catalog } from '../mapping/catalog.ts'
import { CatalogDamaged, CatalogMissing, CatalogUnusable } from '../mapping/catalog-disk.ts'
import { findDescription, type MappingDescription, stateDir } from '../mapping/description.ts'
import { isDenied } from '../mapping/file-errors.ts'
import { isShard } from '../mapping/tree.ts'
import type { Finding, Found } from './findings.ts'
import { refuseInUse } from './in-use.ts'
import { moveAside } from './mender.ts'

/** Stands for remote.json in what is left after a repair. */
export const MISSING_DESCRIPTION: Finding = {
  kind: 'description',
  where: join('.keepgw', 'remote.json'),
  what: 'missing or bad',
}
const ASIDE = /^catalog\.damaged/

/** Returns what the mapping is of, or reports why that is not known. Throws KeepgwError where there is none. */
export async function findDescribed(
  dir: string,
  add: (found: Found) => void,
): Promise<MappingDescription | undefined> {
  if (!existsSync(stateDir(dir)) && !hasTree(dir)) {
    throw new KeepgwError(`there is no mapping ${dir}`, {
      hint: 'Is its disk mounted? Name the directory of a mapping, as keepgw status shows it',
    })
  }
  let why = 'missing'
  try {
    const description = await findDescription(dir)
    if (description !== undefined) return description
  } catch (error) {
    if (isDenied((error as Error).cause)) throw error
    why = messageOf(error)
  }
  const what = `${why}; remove it if it is there, and keepgw index BUCKET --mappings ${dir} writes it anew`
  add({ ...MISSING_DESCRIPTION, what })
  return undefined
}

function hasTree(dir: string): boolean {
  try {
    return readdirSync(dir).some(isShard)
  } catch {
    return false
  }
}

/**
 * Yields what runs that were killed have left beside the catalog; the holder of the lock may remove it.
 * Throws the system's errors.
 */
export function* leftoversIn(dir: string): Iterable<Found> {
  const names = existsSync(stateDir(dir)) ? readdirSync(stateDir(dir)).sort() : []
  for (const name of names) {
    const where = join('.keepgw', name)
    if (/^remote\.json\.|^strays$/.test(name)) {
      yield { kind: 'leftover', where, what: 'left by a run that was cut short' }
    }
  }
}

/**
 * Sees to it that there is a catalog to be opened: one that is bad is moved aside. Returns whether it
 * will be a new one, also where an earlier repair has begun it. Throws KeepgwError where there can be none,
 * or another process has the bad one open (exit code 4).
 */
export async function readyCatalog(
  dir: string,
  description: MappingDescription | undefined,
  add: (found: Found) => void,
): Promise<boolean> {
  const catalogDir = join(stateDir(dir), 'catalog')
  const lock = join('.keepgw', 'catalog', 'lock.mdb')
  if (statSync(join(dir, lock), { throwIfNoEntry: false })?.isFile() === false) {
    add({ kind: 'catalog', where: lock, what: 'no file' })
    moveAside(dir, lock)
  }
  try {
    await Catalog.open(dir, { readOnly: true }).close()
    return readdirSync(stateDir(dir)).some((name) => ASIDE.test(name))
  } catch (error) {
    if (error instanceof CatalogUnusable || !isLost(error, catalogDir)) throw error
    add({ kind: 'catalog', where: join('.keepgw', 'catalog'), what: messageOf(error) })
  }
  if (description === undefined) {
    throw new KeepgwError('without remote.json there is no listing to make a catalog from', {
      hint: `It is written by: keepgw index BUCKET --mappings ${dir} --max-objects 1`,
    })
  }
  if (existsSync(catalogDir)) {
    refuseInUse(join(catalogDir, 'lock.mdb'))
    renameSync(catalogDir, `${catalogDir}.damaged-${Date.now()}`)
  }
  return true
}

function isLost(error: unknown, catalogDir: string): boolean {
  return (
    error instanceof CatalogDamaged ||
    error instanceof CatalogMissing ||
    !existsSync(join(catalogDir, 'data.mdb'))
  )
}

/** Removes the catalogs that were moved aside: the new one is whole. */
export function removeAside(dir: string): void {
  for (const name of readdirSync(stateDir(dir))) {
    if (ASIDE.test(name)) rmSync(join(stateDir(dir), name), { recursive: true, force: true })
  }
}
