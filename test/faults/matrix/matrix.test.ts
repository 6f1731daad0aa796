/** The quick part of the fault matrix; `npm run test:faults` has all of it. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { NO_S3, sharedS3 } from '../../servers/s3.ts'
import { nameOf } from './cell.ts'
import { CELLS } from './cells.ts'
import { Lab } from './lab.ts'
import { REMOVALS, without } from './removals.ts'

const ROOT = new URL('../../../', import.meta.url)
const server = sharedS3()

describe('the fault matrix', { skip: server === undefined && NO_S3, concurrency: 4 }, () => {
  let lab: Lab
  before(async () => {
    lab = await Lab.open(server!)
  })
  after(() => lab?.[Symbol.asyncDispose]())

  for (const cell of CELLS.filter(({ quick }) => quick)) {
    it(`${nameOf(cell)}: ${cell.expected}`, () => cell.run(lab))
  }
})

describe('the list of cells', () => {
  it('has no cell twice', () => {
    const names = CELLS.map(nameOf)
    assert.deepEqual(
      names.filter((name, i) => names.indexOf(name) !== i),
      [],
    )
  })

  it('has some for each safeguard, which is in the sources just once', async () => {
    for (const [name, removal] of Object.entries(REMOVALS)) {
      assert.ok(
        CELLS.some(({ safeguards }) => (safeguards as string[]).includes(name)),
        name,
      )
      const source = await readFile(new URL(removal.file, ROOT), 'utf8')
      assert.notEqual(without(removal, source), source)
    }
  })
})
