/** `keepgw check --repair`: looks, mends, and looks again. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { guardShrinking } from '../indexer/drop.ts'
import type { MappingDescription } from '../mapping/description.ts'
import { openForWriting, type WritableMapping } from '../mapping/open-mapping.ts'
import { RemoteError, type RemoteStore } from '../remote/remote.ts'
import { type Asked, askStore } from './ask-store.ts'
import type { CheckOptions, CheckResult } from './check.ts'
import { type Found, Tally } from './findings.ts'
import { Look } from './look.ts'
import { Mender, moveAside } from './mender.ts'
import {
  findDescribed,
  leftoversIn,
  MISSING_DESCRIPTION,
  readyCatalog,
  removeAside,
} from './state-files.ts'
import { StrayTable } from './stray-table.ts'

/** What a repair may do, and what it asks of whoever has started it. */
export interface RepairOptions extends CheckOptions {
  /** The share of the objects that may go, in percent. */
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
    const { found, isNew, description } = this.#parts
    // With an empty catalog all lines would be strangers.
    const first = isNew ? undefined : await this.#look(found)
    const toMend = found.total('damage') + found.total('notice') - found.of('foreign')
    if (first !== undefined && toMend === 0) {
      return { tally: found, counts: first.counts, found, adopted: 0, dropped: 0 }
    }
    for (const { where } of leftoversIn(dir))
      rmSync(join(dir, where), { recursive: true, force: true })
    const strays = new StrayTable(dir)
    let asked = { adopted: 0, dropped: 0 }
    try {
      await this.#mend(strays)
      if (strays.size > 0) asked = await this.#ask(strays)
    } finally {
      await strays.close()
    }
    const tally = new Tally()
    if (description === undefined) tally.add(MISSING_DESCRIPTION)
    const last = await this.#look(tally, { isLast: true })
    if (isNew && description !== undefined) removeAside(dir)
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
    const recovered = await recorder.recover()
    if (recovered > 0) {
      this.#options.notice(`finished a batch of ${recovered} objects that was cut short`)
    }
    const look = new Look({ ...this.#options, catalog, isAlone: true })
    for await (const { mend } of look.findings()) if (mend !== undefined) await mender.add(mend)
    await mender.flush()
  }

  async #ask(strays: StrayTable): Promise<Asked> {
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

/** Stands for a description that was lost: a repair writes none. */
const UNKNOWN: MappingDescription = {
  version: 1,
  remote: { kind: 'directory', root: '/' },
  ifMatch: true,
}
