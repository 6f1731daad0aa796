/** Cells where the objects themselves change, in a bucket of the cell's own. */
import assert from 'node:assert/strict'
import { md5 } from '../../e2e/keepgw.ts'
import type { SeenRequest } from '../proxy.ts'
import { put } from './bench.ts'
import type { Cell } from './cell.ts'
import { ANSWERS, BREAKS, isReadOf } from './faults.ts'
import { assertEnds } from './indexing.ts'
import { changedCells, NEW, OLD } from './scene.ts'

const FULL_BLOCK = 67_108_864

/** True for a GET of the object's second segment. */
function isSecondSegment(request: SeenRequest): boolean {
  return (
    isReadOf('one')(request) && String(request.headers.range).startsWith(`bytes=${FULL_BLOCK}-`)
  )
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
      const run = () => bucket.put('one', after!)
      put(bench.proxy, { match: isSecondSegment, fault: { kind: 'before', run }, times: 1 })
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
      put(bench.proxy, { match: isSecondSegment, fault: ANSWERS['403 AccessDenied'] })
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
    moment: 'at the start, in all of the run',
    expected: 'verify finds it, repair and index mend it; no client gets it',
    quick: true,
    async run(scene) {
      const { bench, bucket } = scene
      await bucket.put('one', OLD.data)
      put(bench.proxy, { match: isReadOf('one'), fault: BREAKS['a wrong byte'](0) })
      assertEnds(await scene.index(), 0)
      bench.proxy.clear()
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
