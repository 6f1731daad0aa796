/** For cells where the objects themselves change: a bucket of the cell's own. */
import assert from 'node:assert/strict'
import { type Outcome, treeLines } from '../../e2e/keepgw.ts'
import type { Answer } from '../../server/harness.ts'
import { makeBucket, type TestBucket } from '../../servers/s3.ts'
import { makeBlock } from '../../volume/fakes.ts'
import { Bench, keyOfLine } from './bench.ts'
import type { Cell, CellOptions, Operation } from './cell.ts'
import { assertEnds } from './indexing.ts'
import { ask } from './serving.ts'

/** What objects are at first, and what they are replaced by; each is a block. */
export const OLD = makeBlock(300_000, 5)
export const NEW = makeBlock(300_000, 6)

/** A bucket that may be changed, and what keepgw makes of it. */
export class Scene {
  readonly bench: Bench
  readonly bucket: TestBucket

  constructor(bench: Bench, bucket: TestBucket) {
    this.bench = bench
    this.bucket = bucket
  }

  /** Stores these keys and indexes them. */
  async indexed(...keys: string[]): Promise<void> {
    for (const key of keys) await this.bucket.put(key, OLD.data)
    assertEnds(await this.index(), 0)
  }

  /** Indexes the bucket. */
  index(): Promise<Outcome> {
    const { mapping } = this.bench
    return this.bench.run(['index', this.bucket.name, '--mappings', mapping])
  }

  /** Returns what a client gets who asks for the old block. */
  async get(): Promise<Answer> {
    const served = await this.bench.serve([this.bench.mapping], [], this.bucket.name)
    const answer = await ask(served, `/${OLD.hash}+${OLD.data.length}`)
    assert.equal(await served.stop(), 0)
    const isWrong = answer.status === 200 && answer.complete && !answer.body.equals(OLD.data)
    assert.ok(!isWrong, 'wrong bytes were delivered as right')
    return answer
  }

  /** Returns `HASH KEY` of each line of the mapping. */
  async lines(): Promise<string[]> {
    const lines = await treeLines(this.bench.mapping)
    return lines.map((line) => `${line.slice(0, 32)} ${keyOfLine(line)}`)
  }
}

/** What happens to the objects, and what must come of it. */
export interface ChangedCase extends CellOptions {
  fault: string
  moment: string
  expected: string
  run(scene: Scene): Promise<void>
}

/** Returns the cells of a table. */
export function changedCells(operation: Operation, cases: readonly ChangedCase[]): Cell[] {
  return cases.map(({ run, quick, safeguards = [], ...names }) => ({
    operation,
    ...names,
    quick: quick === true,
    safeguards,
    async run(lab) {
      await using bench = await Bench.open(lab, { kind: 'plain' })
      const bucket = await makeBucket(lab.server)
      try {
        await run(new Scene(bench, bucket))
      } finally {
        await bucket.destroy().catch(() => {})
      }
    },
  }))
}
