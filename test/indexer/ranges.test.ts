/** Several ranges of a listing at once: the same keys as one by one, or a failure; never fewer. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { type KeyRange, listRanges, type RangePage } from '../../src/indexer/ranges.ts'
import { splitPoint } from '../../src/indexer/split-point.ts'
import { compareKeys } from '../../src/remote/key.ts'
import { type ListPage, RemoteError, type RemoteStore } from '../../src/remote/remote.ts'
import { openS3 } from '../../src/remote/s3/s3.ts'
import { runs } from '../fuzz.ts'
import { makeBucket, NO_S3, sharedS3 } from '../servers/s3.ts'

/** How a store lists: its order, and whether a key comes behind what `after` names. */
interface Order {
  compare: (a: string, b: string) => number
  isBehind: (key: string, after: string) => boolean
}

const byBytes: Order = {
  compare: compareKeys,
  isBehind: (key, after) => compareKeys(key, after) > 0,
}

/** `a/1` comes before `a-b`, though `-` is less than `/`. */
function compareAsTree(a: string, b: string): number {
  const [x, y] = [a.split('/'), b.split('/')]
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const order = compareKeys(x[i]!, y[i]!)
    if (order !== 0) return order
  }
  return x.length - y.length
}

const asTree: Order = {
  compare: compareAsTree,
  isBehind: (key, after) => compareAsTree(key, after) > 0,
}

/** As asTree, but to start behind the name of a directory is to start behind all that is in it. */
const asTreePassingBy: Order = {
  compare: compareAsTree,
  isBehind: (key, after) => compareAsTree(key, after) > 0 && !key.startsWith(`${after}/`),
}

/** As one that takes `after` for the first key to list. */
const fromAfter: Order = {
  compare: compareKeys,
  isBehind: (key, after) => compareKeys(key, after) >= 0,
}

/** As one that knows no `after`. */
const fromStart: Order = { compare: compareKeys, isBehind: () => true }

interface Store extends RemoteStore {
  /** Pages that were asked for. */
  asked: number
  /** Listings that are under way. */
  open: number
}

interface StoreOptions {
  page?: number
  order?: Order
  /** Turns of the event loop that a page takes. */
  turns?: () => number
  /** Thrown in the place of the page that begins at this key. */
  brokenAt?: { key: string; error: Error }
}

function storeOf(keys: string[], options: StoreOptions = {}): Store {
  const { page = 2, order = byBytes, turns = () => 0, brokenAt } = options
  const sorted = keys.toSorted(order.compare)
  const store: Partial<Store> = {
    asked: 0,
    open: 0,
    async *list({ prefix = '', after, signal } = {}) {
      const isListed = (key: string): boolean =>
        key.startsWith(prefix) && (after === undefined || order.isBehind(key, after))
      const listed = sorted.filter(isListed)
      store.open! += 1
      try {
        for (let at = 0; at === 0 || at < listed.length; at += page) {
          store.asked! += 1
          for (let i = turns(); i > 0; i--) await setImmediate()
          signal?.throwIfAborted()
          const some = listed.slice(at, at + page)
          if (brokenAt !== undefined && some.includes(brokenAt.key)) throw brokenAt.error
          yield pageOf(some)
        }
      } finally {
        store.open! -= 1
      }
    },
  }
  return store as Store
}

function pageOf(keys: string[]): ListPage {
  const common = { size: 1, etag: 'e', lastModified: 1, archived: false }
  return { objects: keys.map((key) => ({ key, ...common })), unlisted: [] }
}

const { signal } = new AbortController()
const unsplit = { concurrency: 1, canSplit: false, mustProve: false, signal }

/** The keys of each range, in the order they came. */
async function listed(pages: AsyncIterable<RangePage>): Promise<Map<KeyRange, string[]>> {
  const all = new Map<KeyRange, string[]>()
  for await (const { range, objects } of pages) {
    const keys = all.get(range) ?? []
    keys.push(...objects.map(({ key }) => key))
    all.set(range, keys)
  }
  return all
}

const parts = ['a', 'b', 'Z', '0', '7', '9', '/', '-', '~', 'é', '🙂', '\uffff', '\u0001']
const keys = fc
  .array(fc.constantFrom(...parts), { minLength: 1, maxLength: 5 })
  .map((some) => some.join(''))
const keySets = fc.uniqueArray(keys, { maxLength: 120, size: 'max' })
/** Numbers behind a common start, as programs name objects. */
const numbered = fc
  .tuple(fc.constantFrom('', 'data/', 'é/x-'), fc.integer({ min: 1, max: 200 }), fc.nat({ max: 5 }))
  .map(([start, count, width]) =>
    Array.from({ length: count }, (_, i) => start + String(i * 7).padStart(width, '0')),
  )
const turns = fc.infiniteStream(fc.nat({ max: 3 })).map((stream) => () => stream.next().value!)

/** A plan that covers everything, cut at these keys. */
function planOf(cuts: string[]): KeyRange[] {
  const sorted = [...new Set(cuts)].sort(compareKeys)
  return [...sorted, undefined].map((upTo, i) => ({ prefix: '', after: sorted[i - 1], upTo }))
}

test('all ranges together have each key once, each range has its own, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(keySets, numbered),
      fc.array(keys, { maxLength: 5 }),
      fc.integer({ min: 1, max: 6 }),
      fc.boolean(),
      turns,
      async (set, cuts, concurrency, mustProve, turns) => {
        const options = { concurrency, canSplit: true, mustProve, signal }
        const ranges = await listed(listRanges(storeOf(set, { turns }), planOf(cuts), options))
        assert.deepEqual([...ranges.values()].flat().sort(), set.toSorted())
        for (const [{ after, upTo }, found] of ranges) {
          assert.deepEqual(found, found.toSorted(compareKeys))
          for (const key of found) {
            assert.ok(after === undefined || compareKeys(key, after) > 0)
            assert.ok(upTo === undefined || compareKeys(key, upTo) <= 0)
          }
        }
      },
    ),
    runs(300),
  )
})

for (const [name, order] of Object.entries({ asTree, asTreePassingBy, fromAfter, fromStart })) {
  test(`a store in another way (${name}) loses no key: all are listed once, or it fails`, async () => {
    let failed = 0
    const outcome = async (pages: AsyncIterable<RangePage>): Promise<string[] | undefined> => {
      try {
        return [...(await listed(pages)).values()].flat().sort()
      } catch (error) {
        assert.match((error as RemoteError).message, /byte order/)
        failed += 1
        return undefined
      }
    }
    await fc.assert(
      fc.asyncProperty(
        keySets,
        fc.array(keys, { maxLength: 4 }),
        fc.integer({ min: 2, max: 5 }),
        turns,
        async (set, cuts, concurrency, turns) => {
          const options = { concurrency, canSplit: true, mustProve: true, signal }
          const found = await outcome(
            listRanges(storeOf(set, { order, turns }), planOf(cuts), options),
          )
          if (found !== undefined) assert.deepEqual(found, set.toSorted())
        },
      ),
      runs(500),
    )
    assert.ok(failed > 0)
  })
}

test('a listing that is not split may have any order', async () => {
  const set = ['a/1', 'a/2', 'a-b', 'a-c', 'a', 'b/1', 'b-1', 'c', 'd', 'e', 'f/g', 'f-g']
  for (const options of [unsplit, { concurrency: 4, canSplit: false, mustProve: true, signal }]) {
    const ranges = await listed(listRanges(storeOf(set, { order: asTree }), planOf([]), options))
    assert.deepEqual([...ranges.values()], [set.toSorted(compareAsTree)])
  }
})

test('one range that fails ends the listing of all', async () => {
  await fc.assert(
    fc.asyncProperty(numbered, fc.nat(), turns, async (set, which, turns) => {
      const error = new RemoteError('unreachable', 'injected')
      const store = storeOf(set, { turns, brokenAt: { key: set[which % set.length]!, error } })
      const options = { concurrency: 4, canSplit: true, mustProve: false, signal }
      await assert.rejects(listed(listRanges(store, planOf(['1', 'data/3']), options)), error)
      assert.equal(store.open, 0)
    }),
    runs(100),
  )
})

test('who stops in the middle leaves nothing running', async () => {
  const store = storeOf(
    Array.from({ length: 100 }, (_, i) => `k${i}`),
    { turns: () => 2 },
  )
  const options = { concurrency: 4, canSplit: true, mustProve: false, signal }
  for await (const { objects } of listRanges(store, planOf(['k3', 'k5']), options)) {
    if (objects.length > 0) break
  }
  assert.equal(store.open, 0)
})

test('a caller that is busy holds the listing up', async () => {
  const store = storeOf(Array.from({ length: 1000 }, (_, i) => `k${String(i).padStart(3, '0')}`))
  const options = { concurrency: 3, canSplit: true, mustProve: false, signal }
  const pages = listRanges(store, planOf(['k3', 'k6']), options)[Symbol.asyncIterator]()
  for (let taken = 1; taken < 50; taken++) {
    await pages.next()
    for (let i = 0; i < 20; i++) await setImmediate()
    assert.ok(store.asked <= taken + options.concurrency)
  }
  await pages.return?.()
})

test('a small bucket is asked for once', async () => {
  const options = { concurrency: 8, canSplit: true, mustProve: true, signal }
  for (const [count, pages] of [
    [0, 1],
    [10, 1],
    [20, 2],
  ] as const) {
    const store = storeOf(
      Array.from({ length: count }, (_, i) => `k${i}`),
      { page: 10 },
    )
    await listed(listRanges(store, planOf([]), options))
    assert.equal(store.asked, pages)
  }
})

test('a big listing is shared out, at few pages more', async () => {
  for (const nameOf of [
    (i: number) => `data/run-7/${String(i).padStart(8, '0')}.bam`,
    (i: number) => `${(i * 2654435761).toString(16).slice(-8)}-x`,
    (i: number) => `project-${i % 13}/sample ${i}/reads`,
  ]) {
    const set = Array.from({ length: 4000 }, (_, i) => nameOf(i))
    const store = storeOf(set, { page: 10, turns: () => 1 })
    const options = { concurrency: 4, canSplit: true, mustProve: false, signal }
    const ranges = await listed(listRanges(store, planOf([]), options))
    assert.equal([...ranges.values()].flat().length, set.length)
    const longest = Math.max(...Array.from(ranges.values(), (keys) => keys.length))
    assert.ok(longest < set.length / 2, `one range has ${longest} keys`)
    assert.ok(store.asked < 400 * 1.5, `${store.asked} pages`)
  }
})

test('a range is split behind what was seen and before its end, where text can be', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(keys, { minLength: 3, maxLength: 3 }),
      fc.boolean(),
      (some, open) => {
        const [first, last, end] = some.sort(compareKeys) as [string, string, string]
        const point = splitPoint(first, last, open ? undefined : end)
        if (point === undefined) return
        assert.ok(compareKeys(last, point) < 0)
        assert.ok(open || compareKeys(point, end) < 0)
        assert.ok(point.isWellFormed())
      },
    ),
  )
})

test('a split is fair to names as they are', () => {
  const cases: [first: string, last: string, end: string | undefined, point: string][] = [
    ['data/0000', 'data/2999', undefined, 'data/6'],
    ['data/6x', 'data/89', undefined, 'data/9'],
    ['data/8x', 'data/99', undefined, 'data/:'],
    ['a/1', 'c/1', undefined, 'o'],
    ['a/1', 'c/1', 'o', 'i'],
    ['A1', 'A2', 'A3', 'A2-'],
    ['é/1', 'é/3', undefined, 'é/7'],
  ]
  for (const [first, last, end, point] of cases) {
    assert.equal(splitPoint(first, last, end), point)
  }
  assert.equal(splitPoint('a', 'a', 'a\u0001'), undefined)
})

test('a real server in ranges has all keys, or proves to have another order', async (t) => {
  const server = sharedS3()
  if (server === undefined) return t.skip(NO_S3)
  process.env.AWS_ACCESS_KEY_ID = server.accessKeyId
  process.env.AWS_SECRET_ACCESS_KEY = server.secretAccessKey
  const { endpoint, region } = server
  const options = { concurrency: 3, canSplit: true, mustProve: true, signal }
  const flat = Array.from({ length: 40 }, (_, i) => `f ${i}+é`)
  const nested = ['a/1', 'a/2', 'a-b', 'a-c', 'b/1', 'b-1', 'b0', 'c', 'd/e/f', 'd/e-f']
  for (const keys of [flat, nested]) {
    const bucket = await makeBucket(server)
    for (const key of keys) await bucket.put(key, key)
    const store = openS3({ kind: 's3', bucket: bucket.name, endpoint, region })
    t.after(() => store.close())
    for (const cuts of [['f 2', 'f 31+é'], ['a', 'd/e'], ['a-b'], ['a/1', 'b/']]) {
      try {
        const ranges = await listed(listRanges(store, planOf(cuts), options))
        assert.deepEqual([...ranges.values()].flat().sort(), keys.toSorted())
      } catch (error) {
        assert.match((error as Error).message, /byte order/)
        assert.notEqual(keys, flat)
      }
    }
  }
})
