/** All cells of the fault matrix. */
import type { Cell } from './cell.ts'
import { serveOneCells } from './serve-one.ts'

export const CELLS: readonly Cell[] = [...serveOneCells]
