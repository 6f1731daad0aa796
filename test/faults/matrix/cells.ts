/** All cells of the fault matrix. */
import type { Cell } from './cell.ts'
import { changedObjectCells } from './changed.ts'
import { indexCrashCells } from './index-crash.ts'
import { indexListingCells } from './index-listing.ts'
import { indexReadingCells } from './index-reading.ts'
import { serveOneCells } from './serve-one.ts'
import { serveTwoCells } from './serve-two.ts'
import { verifyAllCells } from './verify.ts'

export const CELLS: readonly Cell[] = [
  ...indexListingCells,
  ...indexReadingCells,
  ...indexCrashCells,
  ...serveOneCells,
  ...serveTwoCells,
  ...verifyAllCells,
  ...changedObjectCells,
]
