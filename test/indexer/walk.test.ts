import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { vanishedKeys } from '../../src/indexer/drop.ts'
import { makeScope, type Scope } from '../../src/indexer/scope.ts'
import { type Task, walk } from '../../src/indexer/walk.ts'
import { type CatalogRecord, withoutSegments } from '../../src/mapping/record.ts'
import { compareKeys, keyToBytes } from '../../src/remote/key.ts'
import {
  type RangeSupport,
  RemoteError,
  type RemoteObject,
  type RemoteStore,
  type Unlisted,
} from '../../src/remote/remote.ts'
import { runs } from '../fuzz.ts'
import { makeMapping, smallRecord, type TestMapping } from '../mapping/fixture.ts'

const signal = new AbortController().signal
const NO_DELTA = { objects: 0, segments: 0, bytes: 0, blocks: 0, blockBytes: 0, trusted: 0 }
const everything = makeScope({})

/** A remote whose listing is these objects in this order; an error in it is thrown there. */
function remoteOf(
  listing: (RemoteObject | Error)[],
  unlisted: Unlisted[] = [],
  { page = 3, ranges = 'none' as RangeSupport, empty = [] as string[] } = {},
): RemoteStore {
  const store: Partial<RemoteStore> = {
    ranges: async () => ranges,
    async *list({ prefix = '', after = '' } = {}) {
      const within = listing.filter(
        (one) =>
          one instanceof Error ||
          (one.key.startsWith(prefix) && (after === '' || compareKeys(one.key, after) > 0)),
      )
      for (let at = 0; at < within.length; at += page) {
        const objects: RemoteObject[] = []
        for (const one of within.slice(at, at + page)) {
          if (one instanceof Error) throw one
          objects.push(one)
        }
        yield { objects, unlisted: [] }
      }
      yield { objects: [], unlisted, empty }
    },
  }
  return store as RemoteStore
}

function object(key: string, version = 1, archived = false): RemoteObject {
  return { key, size: version, etag: `etag-${version}`, lastModified: 1, archived }
}

async function setRecords(
  { catalog, lock }: TestMapping,
  records: Iterable<[string, CatalogRecord | null]>,
): Promise<void> {
  const changes = Array.from(records, ([key, after]) => ({ key, before: null, after }))
  await catalog.finish({ changes, delta: NO_DELTA, lost: [], found: [] }, lock.id)
}

/** What a walk came to. */
interface Outcome {
  tasks: Task[]
  unchanged: number
  archived: number
  unlisted: Unlisted[]
  unreadable: { key: string; reason: string }[]
  vanished: string[]
}

/** Walks; what is to be read is recorded after each page, where that is asked for. */
async function outcomeOf(
  remote: RemoteStore,
  mapping: TestMapping,
  scope: Scope,
  { records = false, listConcurrency = 1, allowDrop = 20 } = {},
): Promise<Outcome> {
  const options = { signal, allowDrop, listConcurrency }
  const none = { tasks: [], unlisted: [], unreadable: [], vanished: [] }
  const all: Outcome = { ...none, unchanged: 0, archived: 0 }
  for await (const page of walk(remote, mapping.catalog, scope, options)) {
    all.tasks.push(...page.tasks)
    all.unchanged += page.unchanged
    all.archived += page.archived
    all.unlisted.push(...page.unlisted)
    all.unreadable.push(...page.unreadable)
    if (!records) continue
    await setRecords(
      mapping,
      page.tasks.map(({ object: { key, size } }) => [key, smallRecord(size)]),
    )
  }
  const unlisted = new Set(all.unlisted.map(({ key }) => key))
  all.vanished = [...vanishedKeys(mapping.catalog, unlisted)]
  return all
}

function isBefore(a: RemoteObject, b: RemoteObject): boolean {
  return compareKeys(a.key, b.key) < 0
}

/** As a store that keeps directories lists them: `a/1` before `a-b`, though `-` is less than `/`. */
function compareAsDirectories(a: string, b: string): number {
  const [x, y] = [a.split('/'), b.split('/')]
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    const order = compareKeys(x[i]!, y[i]!)
    if (order !== 0) return order
  }
  return x.length - y.length
}

const keys = fc
  .array(fc.constantFrom('a', 'b', '/', '-', 'é', '🙂', '\uffff', '\udcff'), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join(''))

const scopes = fc.record({
  prefixes: fc.array(fc.constantFrom('a', 'a/', 'b', 'é', '🙂'), { maxLength: 3 }),
  include: fc.array(fc.constantFrom('*b', 'a/**', '?', '**'), { maxLength: 2 }),
  exclude: fc.array(fc.constantFrom('a*', '**/b', '-*'), { maxLength: 2 }),
})

const listings = fc
  .tuple(
    fc.uniqueArray(keys, { maxLength: 25 }),
    fc.infiniteStream(fc.integer({ min: 1, max: 3 })),
    fc.constantFrom('sorted', 'as directories', 'shuffled'),
    fc.infiniteStream(fc.nat()),
    fc.nat({ max: 4 }),
  )
  .map(([unsorted, versions, order, random, doubled]) => {
    const next = (): number => random.next().value!
    const places = new Map(unsorted.map((key) => [key, next()]))
    const compare = {
      sorted: compareKeys,
      'as directories': compareAsDirectories,
      shuffled: (a: string, b: string) => places.get(a)! - places.get(b)!,
    }[order]!
    const listing = unsorted
      .sort(compare)
      .map((key) => object(key, versions.next().value!, next() % 10 === 0))
    for (let i = 0; i < doubled && listing.length > 0; i++) {
      const copy = listing[next() % listing.length]!
      listing.splice(next() % (listing.length + 1), 0, copy)
    }
    return listing
  })

describe('a walk', () => {
  it('tells the same as sets do, in whatever order the store lists', async () => {
    await using mapping = await makeMapping()
    const { catalog } = mapping
    await fc.assert(
      fc.asyncProperty(
        listings,
        fc.dictionary(keys, fc.constantFrom('v1', 'v2', 'damaged'), {
          maxKeys: 25,
          noNullPrototype: true,
        }),
        fc.array(fc.nat({ max: 24 }), { maxLength: 15 }),
        scopes,
        fc.boolean(),
        fc.array(keys, { maxLength: 2 }),
        async (listing, states, common, asked, records, lost) => {
          // Some of the listed keys are known, and some of the known ones are listed.
          const known = new Map<string, CatalogRecord>()
          for (const [key, state] of Object.entries(states)) {
            const record = smallRecord(state === 'v2' ? 2 : 1)
            known.set(key, state === 'damaged' ? withoutSegments(record, [0]) : record)
          }
          for (const i of common) if (listing[i]) known.set(listing[i].key, smallRecord(1))
          await setRecords(
            mapping,
            Array.from(catalog.entries(), ({ key }) => [key, null]),
          )
          await setRecords(mapping, known)
          const scope = makeScope(asked)
          const covers = (key: string): boolean =>
            scope.prefixes.some((prefix) => key.startsWith(prefix)) && scope.matches(key)

          const unlisted = lost.map((key) => ({ key, reason: 'no permission' }))
          // A listing that is in order is listed in several ranges, too short for some of them.
          const inOrder = listing.every((one, i) => i === 0 || isBefore(listing[i - 1]!, one))
          const remote = inOrder
            ? remoteOf(listing, unlisted, { page: 1, ranges: 'likely' })
            : remoteOf(listing, unlisted)
          const listConcurrency = inOrder ? 4 : 1
          const outcome = await outcomeOf(remote, mapping, scope, { records, listConcurrency })

          const objects = new Map(
            listing.filter(({ key }) => covers(key)).map((one) => [one.key, one]),
          )
          const expected = { tasks: new Set<string>(), unchanged: 0, archived: 0 }
          for (const { key, etag, archived } of objects.values()) {
            const before = known.get(key)
            if (before?.etag === etag && !before.hashes.equals(Buffer.alloc(16)))
              expected.unchanged += 1
            else if (archived) expected.archived += 1
            else expected.tasks.add(key)
          }
          assert.deepEqual(new Set(outcome.tasks.map((task) => task.object.key)), expected.tasks)
          for (const task of outcome.tasks) {
            if (!records) assert.deepEqual(task.before, known.get(task.object.key))
          }
          if (listing.length === new Set(listing).size) {
            assert.equal(outcome.tasks.length, expected.tasks.size)
            assert.equal(outcome.unchanged, expected.unchanged)
            assert.equal(outcome.archived, expected.archived)
          }
          const hidden = (key: string): boolean =>
            lost.some((one) => key === one || (one.endsWith('/') && key.startsWith(one)))
          assert.deepEqual(
            outcome.vanished,
            [...known.keys()]
              .filter((key) => covers(key) && !objects.has(key) && !hidden(key))
              .sort(compareKeys),
          )
        },
      ),
      runs(500),
    )
  })

  it('finds none vanished of many keys that are listed backwards', async () => {
    await using mapping = await makeMapping()
    const names = Array.from({ length: 10_000 }, (_, i) => `k${String(i).padStart(5, '0')}`)
    await setRecords(
      mapping,
      names.map((key) => [key, smallRecord(1)]),
    )
    const listing = names
      .filter((key) => !key.endsWith('77'))
      .map((key) => object(key))
      .reverse()
    const outcome = await outcomeOf(remoteOf(listing, [], { page: 1000 }), mapping, everything)
    assert.equal(outcome.unchanged, listing.length)
    assert.deepEqual(outcome.tasks, [])
    assert.deepEqual(
      outcome.vanished,
      names.filter((key) => key.endsWith('77')),
    )
  })

  it('is cut up where the catalog has many keys, and comes to the same', async () => {
    await using mapping = await makeMapping()
    const names = Array.from({ length: 25_000 }, (_, i) => `k${String(i).padStart(5, '0')}`)
    await setRecords(
      mapping,
      names.map((key) => [key, smallRecord(1)]),
    )
    const isGone = (key: string): boolean => key.endsWith('77') || key.startsWith('k099')
    const listing = [...names.filter((key) => !isGone(key)), 'k10000x', 'z'].map((key) =>
      object(key, key.endsWith('55') ? 2 : 1),
    )
    listing.sort((a, b) => compareKeys(a.key, b.key))
    const remote = remoteOf(listing, [], { page: 1000, ranges: 'sure' })
    const begun: (string | undefined)[] = []
    const { list } = remote
    remote.list = (options) => {
      begun.push(options?.after)
      return list(options)
    }
    const outcome = await outcomeOf(remote, mapping, everything, { listConcurrency: 4 })
    assert.deepEqual(begun.slice(0, 3), [undefined, names[9_999], names[19_999]])
    assert.deepEqual(
      new Set(outcome.tasks.map((task) => task.object.key)),
      new Set([...names.filter((key) => key.endsWith('55') && !isGone(key)), 'k10000x', 'z']),
    )
    assert.equal(outcome.unchanged, listing.length - outcome.tasks.length)
    assert.deepEqual(outcome.vanished, names.filter(isGone))
  })

  it('counts an object once that is at the end of one page and the start of the next', async () => {
    await using mapping = await makeMapping()
    await setRecords(mapping, [['b', smallRecord(1)]])
    const listing = ['a', 'a', 'b', 'b'].map((key) => object(key))
    const { tasks, unchanged } = await outcomeOf(
      remoteOf(listing, [], { page: 1 }),
      mapping,
      everything,
    )
    assert.equal(tasks.length, 1)
    assert.equal(unchanged, 1)
  })

  it('throws where the listing does, and forgets the next time what it had noted', async () => {
    await using mapping = await makeMapping()
    await setRecords(
      mapping,
      ['a', 'b', 'c'].map((key) => [key, smallRecord(1)]),
    )
    const failure = new RemoteError('unreachable', 'injected')
    const broken = remoteOf([object('b'), failure], [], { page: 1 })
    await assert.rejects(outcomeOf(broken, mapping, everything), failure)
    const outcome = await outcomeOf(
      remoteOf(['a', 'c'].map((key) => object(key))),
      mapping,
      everything,
    )
    assert.deepEqual(outcome.vanished, ['b'])
  })

  it('does not take for deleted what was in a directory that is empty, unless all may go', async () => {
    await using mapping = await makeMapping()
    const names = ['disk1/a', 'disk2/a', 'disk2/b/c', 'disk20', 'disk3', 'gone/a']
    await setRecords(
      mapping,
      names.map((key) => [key, smallRecord(1)]),
    )
    const empty = ['disk1/new/', 'disk2/', 'disk3/', 'never/']
    const remote = remoteOf([object('disk1/a')], [], { empty })
    const outcome = await outcomeOf(remote, mapping, everything)
    assert.deepEqual(
      outcome.unlisted.map(({ key }) => key),
      ['disk2/'],
    )
    assert.match(outcome.unlisted[0]!.reason, /is its disk mounted\?.*--allow-drop 100/)
    assert.deepEqual(outcome.vanished, ['disk20', 'disk3', 'gone/a'])

    const part = makeScope({ prefixes: ['disk2/b/'] })
    assert.deepEqual((await outcomeOf(remote, mapping, part)).vanished, [])
    const other = makeScope({ include: ['**/a'] })
    const { unlisted, vanished } = await outcomeOf(remote, mapping, other, { allowDrop: 100 })
    assert.deepEqual([unlisted, vanished], [[], ['disk2/a', 'gone/a']])
  })

  it('names what the listing shows too little of, and takes none of it for vanished', async () => {
    await using mapping = await makeMapping()
    await setRecords(
      mapping,
      ['a', 'dir/', 'dir/gone', 'z'].map((key) => [key, smallRecord(1)]),
    )
    const bad = (key: string): RemoteObject => ({ ...object(key), etag: '', unreadable: 'no ETag' })
    const listing = [bad('z'), object('a', 2), bad('dir/'), bad('new'), bad('left-out')]
    const outcome = await outcomeOf(remoteOf(listing), mapping, makeScope({ exclude: ['left-*'] }))
    assert.deepEqual(
      outcome.tasks.map((task) => task.object.key),
      ['a'],
    )
    assert.deepEqual(
      outcome.unreadable,
      ['z', 'dir/', 'new'].map((key) => ({ key, reason: 'no ETag' })),
    )
    assert.deepEqual(outcome.vanished, ['dir/gone'])
  })

  it('cannot index a key that is longer than the catalog takes, and says so', async () => {
    await using mapping = await makeMapping()
    const long = `a/${'é'.repeat(1000)}`
    assert.ok(keyToBytes(long).length > 1978)
    const listing = ['a', long, 'b'].map((key) => object(key))
    const { tasks, unlisted } = await outcomeOf(remoteOf(listing), mapping, everything)
    assert.deepEqual(
      tasks.map((task) => task.object.key),
      ['a', 'b'],
    )
    assert.deepEqual(
      unlisted.map(({ key }) => key),
      [long],
    )
    assert.match(unlisted[0]!.reason, /1978 bytes/)
  })
})
