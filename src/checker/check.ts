/** `keepgw check`: is a mapping whole? And if not, make it so. */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KeepgwError, messageOf } from '../errors.ts'
import { guardShrinking } from '../indexer/drop.ts'
import { Catalog, type CatalogStats } from '../mapping/catalog.ts'
import { CatalogDamaged } from '../mapping/catalog-disk.ts'
import { findDescription, type MappingDescription, stateDir } from '../mapping/description.ts'
import { openForWriting, type WritableMapping } from '../mapping/open-mapping.ts'
import { RemoteError, type RemoteStore } from '../remote/remote.ts'
import { askStore } from './ask-store.ts'
import { type Finding, type Found, Tally } from './findings.ts'
import { refuseInUse } from './in-use.ts'
import { Look } from './look.ts'
import { Mender, moveAside } from './mender.ts'
import { StrayTable } from './stray-table.ts'

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
    add({ kind: 'catalog', where: join('.keepgw', 'catalog'), what: messageOf(error) })
    return { tally, counts: NO_COUNTS }
  }
  try {
    const look = new Look({ ...options, catalog, isAlone: false })
    for await (const found of look.findings()) add(found)
    return { tally, counts: look.counts }
  } finally {
    await catalog.close()
  }
}

export interface RepairOptions extends CheckOptions {
  allowDrop: number
  breakLock: boolean
  /** Opens the mapping's remote, for a listing; called only where lines of unknown objects are found. */
  remote(description: MappingDescription): RemoteStore
  notice(message: string): void
}

/** What a repair has come to. */
export interface RepairResult extends CheckResult {
  /** What was found before. */
  found: Tally
  /** Objects that were taken into the catalog by a listing, and not read. */
  adopted: number
  /** Lines that the listing has proven false. */
  dropped: number
}

/** Checks a mapping and mends it; then checks it again. Throws KeepgwError. */
export async function checkAndRepair(options: RepairOptions): Promise<RepairResult> {
  const { dir, breakLock } = options
  const found = new Tally()
  const add = (one: Found): void => {
    found.add(one)
    options.report(one)
  }
  const description = await findDescribed(dir, add)
  const isNew = await readyCatalog(dir, description, add)
  for (const one of leftoversIn(dir)) add(one)
  const mapping = await openForWriting(dir, description ?? UNKNOWN, {
    command: 'check --repair',
    breakLock,
    leaveBatch: true,
  })
  try {
    return await new Repair(options, { mapping, found, description, isNew }).run()
  } finally {
    await mapping.close()
  }
}

interface RepairParts {
  mapping: WritableMapping
  found: Tally
  description: MappingDescription | undefined
  /** True where the catalog was lost, and this one is empty. */
  isNew: boolean
}

class Repair {
  readonly #options: RepairOptions
  readonly #parts: RepairParts

  constructor(options: RepairOptions, parts: RepairParts) {
    this.#options = options
    this.#parts = parts
  }

  async run(): Promise<RepairResult> {
    const { dir } = this.#options
    const { found } = this.#parts
    // With an empty catalog all lines would be strangers.
    const first = this.#parts.isNew ? undefined : await this.#look(found)
    const toMend = found.total('damage') + found.total('notice') - found.of('foreign')
    if (first !== undefined && toMend === 0) {
      return { tally: found, counts: first.counts, found, adopted: 0, dropped: 0 }
    }
    const strays = new StrayTable(dir)
    let asked = { adopted: 0, dropped: 0 }
    try {
      await this.#mend(strays)
      if (strays.size > 0) asked = await this.#ask(strays)
    } finally {
      await strays.close()
    }
    const tally = new Tally()
    if (found.of('description') > 0) tally.add(MISSING_DESCRIPTION)
    const last = await this.#look(tally, { isLast: true })
    if (this.#parts.isNew) removeAside(dir)
    return { tally, counts: last.counts, found, ...asked }
  }

  /** Counts are set right by the last look. */
  async #look(tally: Tally, { isLast = false } = {}): Promise<Look> {
    const { catalog, recorder } = this.#parts.mapping
    const look = new Look({ ...this.#options, catalog, isAlone: true })
    const moves: string[] = []
    for await (const one of look.findings()) {
      if (isLast && one.kind === 'counts') {
        recorder.mendCatalog({ stats: look.counts })
        continue
      }
      tally.add(one)
      this.#options.report(one)
      if (one.mend?.do === 'move') moves.push(one.mend.where)
    }
    if (isLast) return look
    const { found } = this.#parts
    // What cannot be read counts as what goes: it may be a matter of who reads.
    const count =
      found.of('record') + found.of('conflict') + found.of('stale') + found.of('unreadable')
    const total = look.counts.objects + found.of('record')
    const { allowDrop } = this.#options
    guardShrinking(count, 'objects have records or lines that would go', { allowDrop, total })
    for (const where of moves) moveAside(this.#options.dir, where)
    return look
  }

  async #mend(strays: StrayTable): Promise<void> {
    const { catalog, recorder } = this.#parts.mapping
    const mender = new Mender(this.#parts.mapping, strays)
    for (const entry of catalog.unreadable()) await mender.add({ do: 'clear', entry })
    for (const { mend } of leftoversIn(this.#options.dir)) if (mend) await mender.add(mend)
    const recovered = await recorder.recover()
    if (recovered > 0) {
      this.#options.notice(`finished a batch of ${recovered} objects that was cut short`)
    }
    const look = new Look({ ...this.#options, catalog, isAlone: true })
    for await (const { mend } of look.findings()) if (mend !== undefined) await mender.add(mend)
    await mender.flush()
  }

  async #ask(strays: StrayTable): Promise<{ adopted: number; dropped: number }> {
    const { mapping, description, isNew } = this.#parts
    const { allowDrop, signal, notice } = this.#options
    const many = `${strays.size} lines are of objects that the catalog does not know`
    if (description === undefined) {
      notice(`${many}, and nothing says which bucket to ask about them: they stay`)
      return { adopted: 0, dropped: 0 }
    }
    const remote = this.#options.remote(description)
    try {
      return await askStore(strays, { mapping, remote, allowDrop, signal })
    } catch (error) {
      if (isNew || !(error instanceof RemoteError)) throw error
      notice(`${many}; they stay, as the store could not be asked: ${messageOf(error)}`)
      return { adopted: 0, dropped: 0 }
    } finally {
      await remote.close()
    }
  }
}

const NO_COUNTS: CatalogStats = {
  objects: 0,
  segments: 0,
  bytes: 0,
  blocks: 0,
  blockBytes: 0,
  trusted: 0,
}
/** Stands for a description that was lost: a repair writes none. */
const UNKNOWN: MappingDescription = {
  version: 1,
  remote: { kind: 'directory', root: '/' },
  ifMatch: true,
}
const MISSING_DESCRIPTION: Finding = {
  kind: 'description',
  where: join('.keepgw', 'remote.json'),
  what: 'missing or bad',
}
const ASIDE = /^catalog\.damaged/

async function findDescribed(
  dir: string,
  add: (found: Found) => void,
): Promise<MappingDescription | undefined> {
  if (!existsSync(stateDir(dir)) && !hasTree(dir)) {
    throw new KeepgwError(`there is no mapping ${dir}`, { hint: 'Is its disk mounted?' })
  }
  let why = 'missing'
  try {
    const description = await findDescription(dir)
    if (description !== undefined) return description
  } catch (error) {
    why = messageOf(error)
  }
  const what = `${why}; remove it if it is there, and keepgw index BUCKET --mappings ${dir} writes it anew`
  add({ ...MISSING_DESCRIPTION, what })
  return undefined
}

function hasTree(dir: string): boolean {
  try {
    return readdirSync(dir).some((name) => /^[0-9a-f]{3}$/.test(name))
  } catch {
    return false
  }
}

/** Yields what runs that were killed have left beside the catalog. */
function* leftoversIn(dir: string): Iterable<Found> {
  const names = existsSync(stateDir(dir)) ? readdirSync(stateDir(dir)).sort() : []
  for (const name of names) {
    const where = join('.keepgw', name)
    if (/^remote\.json\./.test(name)) {
      yield {
        kind: 'leftover',
        where,
        what: 'left by a run that was cut short',
        mend: { do: 'remove', where },
      }
    }
  }
}

/**
 * Sees to it that there is a catalog to be opened: one that is bad is moved aside. Returns whether it
 * will be a new one, also where an earlier repair has begun it.
 */
async function readyCatalog(
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
    if (!isLost(error, catalogDir)) throw error
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
    !existsSync(join(catalogDir, 'data.mdb')) ||
    isNoCatalog(error)
  )
}

function isNoCatalog(error: unknown): boolean {
  return error instanceof KeepgwError && /there is no catalog|cut short|EISDIR/.test(error.message)
}

function removeAside(dir: string): void {
  for (const name of readdirSync(stateDir(dir))) {
    if (ASIDE.test(name)) rmSync(join(stateDir(dir), name), { recursive: true, force: true })
  }
}
