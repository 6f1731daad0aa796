/**
 * Prints the fault matrix: `npm run test:faults [-- WORD…]`, with those cells alone that have all the
 * words in their names. The exit code is 1 where a cell is broken.
 */
import { parseArgs } from 'node:util'
import { sharedS3 } from '../../servers/s3.ts'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { nameOf } from './cell.ts'
import { CELLS } from './cells.ts'
import { Lab } from './lab.ts'
import { runCells } from './runner.ts'
import { summary, Table } from './table.ts'

/** Cells that run at once: most of the time they wait. */
const AT_ONCE = 6

const { positionals: words } = parseArgs({ allowPositionals: true })
const cells = CELLS.filter((cell) => words.every((word) => nameOf(cell).includes(word)))
if (cells.length === 0) {
  console.error(`No cell is called ${words.join(' ')}`)
  process.exit(2)
}
const began = performance.now()
const server = sharedS3() ?? (await startSeaweedfs())
try {
  await using lab = await Lab.open(server)
  const table = new Table(cells)
  const results = await runCells(lab, cells, {
    atOnce: AT_ONCE,
    onResult: (result) => console.log(table.line(result)),
  })
  console.log(summary(results, (performance.now() - began) / 1000))
  if (results.some(({ broken }) => broken !== undefined)) process.exitCode = 1
} finally {
  await server.stop()
}
