/** Batches that end as a kill or a power cut would end them, wherever that is. */
import { rm, truncate, writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import type { Catalog } from '../../src/mapping/catalog.ts'
import { blockFile } from '../../src/mapping/tree.ts'
import { besideFile } from '../../src/mapping/tree-update.ts'
import { readTree } from './fixture.ts'

/** How a write ends early, and what of its files was on disk then. */
export interface Crash {
  at: 'before begin' | 'before finish' | 'after finish'
  /** Batches that come to their end before. */
  spares?: number
  /** For each file in turn: whether it was written, or how much of it; used again from the start. */
  written: ('all' | 'nothing' | number)[]
}

export const crashes: fc.Arbitrary<Crash> = fc.record({
  at: fc.constantFrom('before begin', 'before finish', 'before finish', 'after finish'),
  written: fc.array(fc.oneof(fc.constantFrom('all', 'nothing'), fc.nat({ max: 99 })), {
    minLength: 1,
    maxLength: 7,
  }) as fc.Arbitrary<Crash['written']>,
})

/** What a killed write throws. */
export class Killed extends Error {}

/** What became of the write. */
export interface Death {
  /** It came to the point of its crash. */
  isDead: boolean
  /** That batch was begun. */
  isBegun: boolean
}

/**
 * Lets a write to the mapping end as in a crash. `catalog` is that of the mapping, or the prototype of
 * all. What is returned makes things as they were, but for what the crash has done.
 */
export async function arm(
  dir: string,
  catalog: Pick<Catalog, 'begin' | 'finish'>,
  { at, spares = 0, written }: Crash,
): Promise<() => Promise<Death>> {
  let old = await readTree(dir)
  const { begin, finish } = catalog
  let left = spares
  let isDead = false
  let isBegun = false
  const kill = (): never => {
    isDead = true
    throw new Killed()
  }
  catalog.begin = async function (this: Catalog, ...args) {
    if (isDead || (at === 'before begin' && left === 0)) kill()
    await begin.apply(this, args)
    isBegun = true
  }
  catalog.finish = async function (this: Catalog, ...args) {
    if (isDead || (at === 'before finish' && left === 0)) kill()
    await finish.apply(this, args)
    if (at === 'after finish' && left === 0) kill()
    // A batch that a recovery finishes had begun before.
    if (isBegun) left -= 1
    isBegun = false
    old = await readTree(dir)
  }
  return async () => {
    Object.assign(catalog, { begin, finish })
    if (isDead && at === 'before finish') await unwrite(dir, old, written)
    return { isDead, isBegun }
  }
}

/** Takes back what a kill between two files, or in one, would have left unwritten. */
async function unwrite(
  dir: string,
  old: Map<string, Buffer>,
  written: Crash['written'],
): Promise<void> {
  const now = await readTree(dir)
  let turn = 0
  for (const hash of new Set([...old.keys(), ...now.keys()])) {
    if (hash.startsWith('.')) continue
    const [was, is] = [old.get(hash), now.get(hash)]
    const much = written[turn++ % written.length]!
    if (much === 'all' || (was !== undefined && is?.equals(was))) continue
    const file = blockFile(dir, hash)
    const grew = is?.subarray(0, was?.length ?? 0).equals(was ?? Buffer.alloc(0))
    if (is !== undefined && grew && much !== 'nothing') {
      const from = was?.length ?? 0
      await truncate(file, from + Math.floor(((is.length - from) * much) / 100))
    } else if (was === undefined) await rm(file)
    else {
      await writeFile(file, was)
      if (is !== undefined && much !== 'nothing') {
        await writeFile(besideFile(file), is.subarray(0, Math.floor((is.length * much) / 100)))
      }
    }
  }
}
