/** Runs a cell of verifying: whatever a store does, verify says no untrue thing, and drops nothing good. */
import assert from 'node:assert/strict'
import { Bench, type Front, put, type Wire } from './bench.ts'
import type { Cell, CellOptions } from './cell.ts'
import { assertEnds, assertMadeGood } from './indexing.ts'
import type { Lab } from './lab.ts'

export interface VerifyCase extends CellOptions {
  fault: string
  moment: string
  front?: Front
  wires?: Wire[]
  /** What else makes the fault. Returns what then looks at what must hold. */
  arrange?(bench: Bench): Promise<() => unknown>
  flags?: string[]
  code: 0 | 1 | 3
  /** What is said of places to stdout, but for those that are ok. */
  finds: RegExp
  /** What is said to stderr. */
  says?: RegExp
  /** Objects whose places are dropped; none unless told. */
  drops?: string[]
}

const WORDS: Record<VerifyCase['code'], string> = {
  0: 'exit 0: each block has a good place',
  1: 'exit 1: it is proven bad',
  3: 'exit 3: out of reach, which proves nothing',
}

/** Returns the cells of a table. */
export function verifyCells(cases: readonly VerifyCase[]): Cell[] {
  return cases.map((each) => ({
    operation: 'verify',
    fault: each.flags?.includes('--repair') ? `${each.fault} (--repair)` : each.fault,
    moment: each.moment,
    expected: wordsOf(each),
    quick: each.quick === true,
    safeguards: each.safeguards ?? [],
    run: (lab) => runCase(lab, each),
  }))
}

function wordsOf({ code, flags, drops = [] }: VerifyCase): string {
  if (!flags?.includes('--repair')) return WORDS[code]
  return drops.length === 0 ? `${WORDS[code]}; nothing is dropped` : `${WORDS[code]}; it is dropped`
}

async function runCase(lab: Lab, each: VerifyCase): Promise<void> {
  await using bench = await Bench.open(lab, each.front ?? { kind: 'plain' }, { fast: true })
  await bench.copyMapping()
  for (const wire of each.wires ?? []) put(bench.proxy, wire)
  const afterwards = await each.arrange?.(bench)
  const verify = ['verify', '--all', '--mappings', bench.mapping]
  const outcome = await bench.run([...verify, ...(each.flags ?? [])])
  assertEnds(outcome, each.code, each.says)
  assert.match(notOk(outcome.stdout), each.finds)
  const { drops = [] } = each
  await bench.assertKnows((key) => !drops.includes(key))
  await bench.mend()
  await afterwards?.()
  // What was dropped is still in the catalog, as an object to be read anew.
  await assertMadeGood(bench, drops.length)
  assertEnds(await bench.run(verify), 0)
}

function notOk(stdout: string): string {
  return stdout
    .split('\n')
    .filter((line) => !/^\w+ ok /.test(line))
    .join('\n')
}
