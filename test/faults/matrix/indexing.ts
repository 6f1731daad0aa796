/** Runs a cell of indexing: a run meets a fault, and the next one, without it, must make all good. */
import assert from 'node:assert/strict'
import { assertSameLines, recordsAfter } from '../../crashes/state.ts'
import { type Outcome, summaryOf } from '../../e2e/keepgw.ts'
import { Bench, type Front, keyOfLine, put, type Wire } from './bench.ts'
import type { Cell, CellOptions } from './cell.ts'
import type { Lab } from './lab.ts'

/**
 * What the mapping knows after the run: of the bucket's keys all, none, some (what was read in time),
 * or all but these.
 */
export type Knows = 'all' | 'none' | 'some' | { allBut: string[] }

export interface IndexCase extends CellOptions {
  fault: string
  moment: string
  /** The mapping knows all of the bucket already; else it is the first run. */
  again?: boolean
  front?: Front
  wires?: (lab: Lab) => Wire[]
  /** What else makes the fault. Returns what then looks at what must hold, or undoes it. */
  arrange?(bench: Bench): Promise<() => unknown>
  flags?: string[]
  code: 0 | 1 | 3
  /** What it must print to stderr. */
  says?: RegExp
  knows: Knows
  /** Objects that the next run may read although the mapping had them; none unless told. */
  rereads?: number
}

const WORDS: Record<IndexCase['code'], string> = {
  0: 'exit 0',
  1: 'exit 1',
  3: 'exit 3, and the others are indexed',
}

/** Returns the cells of a table. */
export function indexCells(cases: readonly IndexCase[]): Cell[] {
  return cases.map((each) => ({
    operation: 'index',
    fault: each.fault,
    moment: each.again ? `${each.moment}, all known before` : each.moment,
    expected: wordsOf(each),
    quick: each.quick === true,
    safeguards: each.safeguards ?? [],
    run: (lab) => runCase(lab, each),
  }))
}

function wordsOf({ code, knows, again }: IndexCase): string {
  if (knows === 'all' && again) return `${WORDS[code]}; nothing known is lost`
  if (knows === 'all') return `${WORDS[code]}; all is learnt`
  if (knows === 'none') return `${WORDS[code]}; nothing untrue is learnt`
  if (knows === 'some') return `${WORDS[code]}; what was read is kept`
  return `${WORDS[code]}; all but ${knows.allBut.length}`
}

async function runCase(lab: Lab, each: IndexCase): Promise<void> {
  await using bench = await Bench.open(lab, each.front ?? { kind: 'plain' }, { fast: true })
  if (each.again) await bench.copyMapping()
  for (const wire of each.wires?.(lab) ?? []) put(bench.proxy, wire)
  const afterwards = await each.arrange?.(bench)
  const outcome = await bench.run(indexArgs(bench, each.flags))
  assertEnds(outcome, each.code, each.says)
  await assertKnown(bench, each.knows)
  await bench.mend()
  await afterwards?.()
  await assertMadeGood(bench, each.rereads)
}

/** Returns the arguments of an index of the lab's bucket into the bench's mapping. */
export function indexArgs(bench: Bench, flags: string[] = []): string[] {
  return ['index', bench.lab.bucket.name, '--json', '--mappings', bench.mapping, ...flags]
}

/** Throws unless a command has ended with this exit code, in lines that say why. */
export function assertEnds({ code, stderr }: Outcome, expected: number, says?: RegExp): void {
  assert.equal(code, expected, `exit code ${code}, not ${expected}: ${stderr}`)
  if (says !== undefined) assert.match(stderr, says)
  assert.match(stderr, /^(keepgw: [^\n]+\n)*$/, 'not lines of keepgw’s')
}

async function assertKnown(bench: Bench, knows: Knows): Promise<void> {
  if (knows === 'all') return bench.assertKnows()
  if (knows === 'none') return bench.assertKnows(() => false)
  if (knows !== 'some') return bench.assertKnows((key) => !knows.allBut.includes(key))
  const { lines } = await bench.honestState()
  const known = new Set(lines.map(keyOfLine))
  await bench.assertKnows((key) => known.has(key))
}

/** Throws unless one more run makes the mapping what it should be, without reading what it had. */
export async function assertMadeGood(bench: Bench, rereads = 0): Promise<void> {
  const { reference } = bench.lab
  const known = recordsAfter(await bench.honestState())
  const outcome = await bench.run(indexArgs(bench), bench.calmEnv)
  assertEnds(outcome, 0)
  await bench.assertKnows()
  const records = (all: typeof known): string[] => {
    return Array.from(all, ([key, { etag, size, hashes }]) => {
      return `${key} ${etag} ${size} ${hashes.toString('hex')}`
    }).sort()
  }
  const state = await bench.honestState()
  assertSameLines(records(state.records), records(reference.records), 'records of the catalog')
  const missing = [...reference.records.keys()].filter((key) => !known.has(key))
  const { added, changed, unchanged } = summaryOf(outcome)
  const expected = { added: missing.length, changed: rereads, unchanged: known.size - rereads }
  assert.deepEqual({ added, changed, unchanged }, expected, 'objects that the next run has read')
}
