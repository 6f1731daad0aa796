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

/** Returns the results in the order of the cells. `onResult` hears of each as soon as it is there. */
export async function runCells(
  lab: Lab,
  cells: readonly Cell[],
  { atOnce, onResult }: { atOnce: number; onResult?: (result: Result) => void },
): Promise<Result[]> {
  const results: Result[] = []
  const queue = cells.entries()
  const hands = Array.from({ length: atOnce }, async () => {
    for (const [i, cell] of queue) {
      const result = await runCell(lab, cell)
      results[i] = result
      onResult?.(result)
    }
  })
  await Promise.all(hands)
  return results
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
