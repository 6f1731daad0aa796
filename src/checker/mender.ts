/** Makes findings good, many at a time. Each batch is whole or not at all, and may be done again. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { stateDir } from '../mapping/description.ts'
import type { WritableMapping } from '../mapping/open-mapping.ts'
import { parsePlace } from '../mapping/place-line.ts'
import type { BlockChange } from '../mapping/tree-update.ts'
import type { Mend } from './findings.ts'
import { judgePlace } from './judge.ts'
import type { StrayPlace, StrayTable } from './stray-table.ts'
import { linesOf } from './tree-files.ts'

/** What is gathered before it is done. */
const BATCH = 4096

/**
 * Gathers mends, and carries them out in batches. For the holder of the mapping's lock; calls must not
 * overlap.
 */
export class Mender {
  readonly #mapping: WritableMapping
  readonly #strays: StrayTable
  readonly #changes = new Map<string, BlockChange>()
  readonly #forget = new Set<string>()
  /** Keys whose records are gone: what these said of lines counts for nothing. */
  readonly #forgotten = new Set<string>()
  readonly #found = new Set<string>()
  readonly #misplaced: string[] = []
  /** Their lines that the catalog does not have. */
  readonly #carried: StrayPlace[] = []
  #weight = 0

  constructor(mapping: WritableMapping, strays: StrayTable) {
    this.#mapping = mapping
    this.#strays = strays
  }

  /** Takes a mend; what is due is done. Throws KeepgwError, and what the system throws. */
  async add(mend: Mend): Promise<void> {
    switch (mend.do) {
      case 'change':
        this.#change(mend.hash, mend.change)
        break
      case 'doubt':
        this.#forget.add(mend.place.key)
        this.#strays.add(mend)
        break
      case 'forget':
        this.#forget.add(mend.key)
        break
      case 'found':
        this.#found.add(mend.hash)
        break
      case 'clear':
        this.#mapping.recorder.mendCatalog({ unreadable: [mend.entry] })
        break
      case 'move':
        moveAside(this.#mapping.dir, mend.where)
        break
      case 'remove':
        rmSync(join(this.#mapping.dir, mend.where), { recursive: true, force: true })
        break
      case 'place':
        this.#place(mend.hash, mend.where)
        break
      case 'ask':
        this.#strays.add(mend)
        return
    }
    this.#weight += 1
    if (this.#weight >= BATCH) await this.flush()
  }

  /** Does all that was gathered. Throws as add() does. */
  async flush(): Promise<void> {
    const { dir, recorder } = this.#mapping
    // Records before lines: what a bad one says of lines is not to be written.
    if (this.#forget.size + this.#found.size > 0) {
      recorder.mendCatalog({ forget: this.#forget, found: this.#found })
      for (const key of this.#forget) this.#forgotten.add(key)
    }
    for (const change of this.#changes.values()) {
      change.add = change.add.filter(({ key }) => !this.#forgotten.has(key))
    }
    for (const { hash, place } of this.#carried.splice(0)) {
      this.#change(hash, { add: [place], remove: [] })
    }
    await recorder.mend(this.#changes)
    for (const where of this.#misplaced.splice(0)) rmSync(join(dir, where))
    this.#forget.clear()
    this.#found.clear()
    this.#changes.clear()
    this.#weight = 0
  }

  #change(hash: string, { add, remove, dropBadLines }: BlockChange): void {
    const change = this.#changes.get(hash) ?? { add: [], remove: [] }
    change.add.push(...add)
    change.remove.push(...remove)
    if (dropBadLines) change.dropBadLines = true
    this.#changes.set(hash, change)
  }

  #place(hash: string, where: string): void {
    for (const { text, isTorn } of linesOf(join(this.#mapping.dir, where))) {
      const place = isTorn || text === undefined ? undefined : parsePlace(text)
      if (place === undefined) continue
      const { kind } = judgePlace(this.#mapping.catalog, hash, place)
      // What the catalog has is missing in the right place, and written there.
      if (kind !== 'stray' && kind !== 'conflict') continue
      this.#carried.push({ hash, place })
      this.#strays.add({ hash, place })
    }
    this.#misplaced.push(where)
  }
}

/** Moves what cannot be read, and so may hold anything, out of readers' way. Throws the system's errors. */
export function moveAside(mappings: string, where: string): void {
  const dir = join(stateDir(mappings), 'aside')
  mkdirSync(dir, { recursive: true })
  let to = join(dir, basename(where))
  for (let i = 1; existsSync(to); i++) to = join(dir, `${basename(where)}.${i}`)
  renameSync(join(mappings, where), to)
}
