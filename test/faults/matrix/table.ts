/** The fault matrix as text, a line a cell. */
import { styleText } from 'node:util'
import type { Cell } from './cell.ts'
import type { Result } from './runner.ts'

/** Characters of what went wrong: a log may be in it. */
const LONGEST = 1000

type Column = 'operation' | 'fault' | 'moment' | 'expected'
const COLUMNS: readonly Column[] = ['fault', 'operation', 'moment', 'expected']

/** Formats lines in columns that are wide enough for all of these cells. */
export class Table {
  readonly #widths: number[]

  constructor(cells: readonly Cell[]) {
    this.#widths = COLUMNS.map((name) => Math.max(...cells.map((cell) => cell[name].length)))
  }

  /** Returns the line of a cell, and below it what went wrong. */
  line({ cell, broken, seconds }: Result): string {
    const columns = COLUMNS.map((name, i) => cell[name].padEnd(this.#widths[i]!))
    const time = `${seconds.toFixed(1)} s`.padStart(6)
    const verdict = broken === undefined ? 'held' : styleText('red', 'BROKEN')
    const why = broken === undefined ? '' : `\n    ${broken.slice(0, LONGEST)}`
    return `${columns.join('  ')}  ${time}  ${verdict}${why}`
  }
}

/** Returns the counts of a run in a line. */
export function summary(results: readonly Result[], seconds: number): string {
  const broken = results.filter((result) => result.broken !== undefined).length
  const time = `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
  return `${results.length} cells: ${results.length - broken} held, ${broken} BROKEN; ${time}`
}
