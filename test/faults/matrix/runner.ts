/** Runs cells, several at once. */
import { messageOf } from '../../../src/errors.ts'
import type { Cell } from './cell.ts'
import type { Lab } from './lab.ts'

export interface Result {
  cell: Cell
  /** Why the cell is broken; undefined where it held. */
  broken: string | undefined
  /** Seconds that it took. */
  seconds: number
}

/** Returns the results in the order of the cells; `onResult` hears of each in that order, too. */
export async function runCells(
  lab: Lab,
  cells: readonly Cell[],
  { atOnce, onResult }: { atOnce: number; onResult?: (result: Result) => void },
): Promise<Result[]> {
  const results: (Result | undefined)[] = cells.map(() => undefined)
  const queue = cells.entries()
  let told = 0
  const hands = Array.from({ length: atOnce }, async () => {
    for (const [i, cell] of queue) {
      results[i] = await runCell(lab, cell)
      for (; results[told] !== undefined; told++) onResult?.(results[told]!)
    }
  })
  await Promise.all(hands)
  return results as Result[]
}

async function runCell(lab: Lab, cell: Cell): Promise<Result> {
  const began = performance.now()
  let broken: string | undefined
  try {
    await cell.run(lab)
  } catch (error) {
    broken = messageOf(error)
  }
  return { cell, broken, seconds: (performance.now() - began) / 1000 }
}
