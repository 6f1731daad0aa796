/** `keepgw check`: is a mapping whole? */
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { Catalog } from '../mapping/catalog.ts'
import { type CatalogStats, NO_STATS } from '../mapping/catalog-contents.ts'
import { CatalogUnusable } from '../mapping/catalog-disk.ts'
import { type Finding, type Found, Tally } from './findings.ts'
import { Look } from './look.ts'
import { findDescribed, leftoversIn } from './state-files.ts'

/** Which mapping is checked, and who hears of it. Aborting ends the check with the signal's reason. */
export interface CheckOptions {
  dir: string
  signal: AbortSignal
  /** Called with each finding as it is made. */
  report(finding: Finding): void
  /** Places of the catalog held at once, where that is not to be the default. */
  placesAtOnce?: number
}

/** What a check has come to. */
export interface CheckResult {
  /** What is so at its end. */
  tally: Tally
  counts: CatalogStats
}

/** Checks a mapping, also while others write to it. Writes nothing. Throws KeepgwError. */
export async function check(options: CheckOptions): Promise<CheckResult> {
  const { dir, report } = options
  const tally = new Tally()
  const add = (found: Found): void => {
    tally.add(found)
    report(found)
  }
  await findDescribed(dir, add)
  for (const found of leftoversIn(dir)) add(found)
  let catalog: Catalog
  try {
    catalog = Catalog.open(dir, { readOnly: true })
  } catch (error) {
    if (error instanceof CatalogUnusable) throw error
    add({ kind: 'catalog', where: join('.keepgw', 'catalog'), what: messageOf(error) })
    return { tally, counts: NO_STATS }
  }
  try {
    const look = new Look({ ...options, catalog, isAlone: false })
    for await (const found of look.findings()) add(found)
    return { tally, counts: look.counts }
  } finally {
    await catalog.close()
  }
}
