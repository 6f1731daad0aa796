/** Cells where the objects themselves change, in a bucket of the cell's own. */
import assert from 'node:assert/strict'
import { md5, type Outcome, treeLines } from '../../e2e/keepgw.ts'
import type { Answer } from '../../server/harness.ts'
import { makeBucket, type TestBucket } from '../../servers/s3.ts'
import { makeBlock } from '../../volume/fakes.ts'
import { Bench, keyOfLine, put } from './bench.ts'
import type { Cell, CellOptions, Operation } from './cell.ts'
import { ANSWERS, BREAKS, isReadOf } from './faults.ts'
import { assertEnds } from './indexing.ts'
import { ask } from './serving.ts'

const OLD = makeBlock(300_000, 5)
const NEW = makeBlock(300_000, 6)
const FULL_BLOCK = 67_108_864

/** A bucket that may be changed, and what keepgw makes of it. */
class Scene {
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

interface ChangedCase extends CellOptions {
  fault: string
  moment: string
  expected: string
  run(scene: Scene): Promise<void>
}

function changedCells(operation: Operation, cases: readonly ChangedCase[]): Cell[] {
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

const servedOne = changedCells('serve, one place', [
  {
    fault: 'the object is replaced',
    moment: 'after it was indexed',
    expected: '404, and no byte of the other object is read',

    safeguards: ['If-Match'],
    async run(scene) {
      await scene.indexed('one')
      await scene.bucket.put('one', NEW.data)
      scene.bench.proxy.requests.length = 0
      assert.equal((await scene.get()).status, 404)
      const statuses = scene.bench.proxy.requests
        .filter(isReadOf('one'))
        .map(({ status }) => status)
      assert.deepEqual([...new Set(statuses)], [412])
    },
  },
  {
    fault: 'the object is replaced, and a proxy shows the old ETag',
    moment: 'after it was indexed',
    expected: '404',
    quick: true,
    safeguards: ['If-Match'],
    async run(scene) {
      await scene.indexed('one')
      await scene.bucket.put('one', NEW.data)
      const etag = OLD.hash
      put(scene.bench.proxy, { match: isReadOf('one'), fault: { kind: 'etag', etag } })
      assert.equal((await scene.get()).status, 404)
    },
  },
  {
    fault: 'the object is replaced by a shorter one',
    moment: 'after it was indexed',
    expected: '404',
    async run(scene) {
      await scene.indexed('one')
      await scene.bucket.put('one', OLD.data.subarray(0, 1000))
      assert.equal((await scene.get()).status, 404)
    },
  },
  {
    fault: 'the object is deleted',
    moment: 'after it was indexed',
    expected: '404',
    async run(scene) {
      await scene.indexed('one')
      await scene.bucket.remove('one')
      assert.equal((await scene.get()).status, 404)
    },
  },
  {
    fault: 'the bucket is deleted',
    moment: 'after it was indexed',
    expected: '503: a bucket that is away proves nothing of its objects',

    async run(scene) {
      await scene.indexed('one')
      await scene.bucket.destroy()
      assert.equal((await scene.get()).status, 503)
    },
  },
])

const servedTwo = changedCells('serve, two places', [
  {
    fault: 'the first object is replaced',
    moment: 'after both were indexed',
    expected: '200, whole and right, from the second one',
    async run(scene) {
      await scene.indexed('one', 'two')
      await scene.bucket.put('one', NEW.data)
      assert.ok((await scene.get()).body.equals(OLD.data))
    },
  },
  {
    fault: 'one object is replaced, one is deleted',
    moment: 'after both were indexed',
    expected: '404',
    async run(scene) {
      await scene.indexed('one', 'two')
      await scene.bucket.put('one', NEW.data)
      await scene.bucket.remove('two')
      assert.equal((await scene.get()).status, 404)
    },
  },
])

const indexed = changedCells('index', [
  {
    fault: 'the object is replaced',
    moment: 'between its listing and its reading',
    expected: 'exit 0; the mapping has the new one',
    async run(scene) {
      const { bench, bucket } = scene
      await bucket.put('one', OLD.data)
      const run = () => bucket.put('one', NEW.data)
      put(bench.proxy, { match: isReadOf('one'), fault: { kind: 'before', run }, times: 1 })
      assertEnds(await scene.index(), 0)
      assert.deepEqual(await scene.lines(), [`${NEW.hash} one`])
    },
  },
  {
    fault: 'the object is replaced',
    moment: 'between two of its segments',
    expected: 'exit 0; both segments are of the new one',
    async run(scene) {
      const { bench, bucket } = scene
      const [before, after] = ['a', 'b'].map((fill) => Buffer.alloc(FULL_BLOCK + 1000, fill))
      await bucket.put('one', before!)
      const match = isSegmentOf('one', 1)
      const run = () => bucket.put('one', after!)
      put(bench.proxy, { match, fault: { kind: 'before', run }, times: 1 })
      assertEnds(await scene.index(), 0)
      const hashes = [after!.subarray(0, FULL_BLOCK), after!.subarray(FULL_BLOCK)].map(md5)
      assert.deepEqual(await scene.lines(), hashes.map((hash) => `${hash} one`).sort())
    },
  },
  {
    fault: 'the second segment of two cannot be read',
    moment: 'always',
    expected: 'exit 3; the mapping has no half of an object',
    async run(scene) {
      const { bench, bucket } = scene
      await bucket.put('one', Buffer.alloc(FULL_BLOCK + 1000, 'c'))
      put(bench.proxy, { match: isSegmentOf('one', 1), fault: ANSWERS['403 AccessDenied'] })
      assertEnds(await scene.index(), 3, /not indexed: .*one: AccessDenied/)
      assert.deepEqual(await scene.lines(), [])
    },
  },
  {
    fault: 'the object is deleted',
    moment: 'between its listing and its reading',
    expected: 'exit 0; the mapping has the others',
    async run(scene) {
      const { bench, bucket } = scene
      for (const key of ['one', 'two']) await bucket.put(key, OLD.data)
      const run = () => bucket.remove('one')
      put(bench.proxy, { match: isReadOf('one'), fault: { kind: 'before', run }, times: 1 })
      assertEnds(await scene.index(), 0)
      assert.deepEqual(await scene.lines(), [`${OLD.hash} two`])
    },
  },
  {
    fault: 'the bucket is deleted',
    moment: 'after it was indexed',
    expected: 'exit 1; nothing known is lost',
    async run(scene) {
      await scene.indexed('one', 'two')
      const known = await scene.lines()
      await scene.bucket.destroy()
      assertEnds(await scene.index(), 1, /NoSuchBucket/)
      assert.deepEqual(await scene.lines(), known)
    },
  },
  {
    fault: 'read: a wrong byte, under the right ETag',
    moment: 'at the start, once',
    expected: 'verify finds it, repair and index mend it; no client gets it',
    quick: true,
    async run(scene) {
      const { bench, bucket } = scene
      await bucket.put('one', OLD.data)
      put(bench.proxy, { match: isReadOf('one'), fault: BREAKS['a wrong byte'](0), times: 1 })
      assertEnds(await scene.index(), 0)
      assert.equal((await scene.get()).status, 404, 'nobody knows yet that it is the block')
      const verify = [
        'verify',
        '--all',
        '--mappings',
        bench.mapping,
        '--repair',
        '--allow-drop=100',
      ]
      const verified = await bench.run(verify)
      assertEnds(verified, 1)
      assert.match(verified.stdout, /^\w+ corrupt /)
      assert.deepEqual(await scene.lines(), [])
      assertEnds(await scene.index(), 0)
      assert.ok((await scene.get()).body.equals(OLD.data))
    },
  },
])

function isSegmentOf(
  key: string,
  segment: number,
): (request: Parameters<ReturnType<typeof isReadOf>>[0]) => boolean {
  const range = `bytes=${segment * FULL_BLOCK}-`
  return (request) => isReadOf(key)(request) && String(request.headers.range).startsWith(range)
}

const verified = changedCells('verify', [
  {
    fault: 'the bucket is deleted',
    moment: 'after it was indexed',
    expected: 'exit 3: a bucket that is away proves nothing of its objects',
    async run(scene) {
      const { bench } = scene
      await scene.indexed('one')
      await scene.bucket.destroy()
      assertEnds(await bench.run(['verify', '--all', '--repair', '--mappings', bench.mapping]), 3)
      assert.deepEqual(await scene.lines(), [`${OLD.hash} one`])
    },
  },
])

export const changedObjectCells: Cell[] = [...servedOne, ...servedTwo, ...indexed, ...verified]
