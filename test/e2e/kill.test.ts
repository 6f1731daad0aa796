/**
 * Index runs that are killed at seeded moments (KEEPGW_TEST_SEED repeats a run's moments): the next
 * plain run must leave the tree and the catalog as if nothing had happened.
 */
import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import {
  assertHonest,
  assertSameLines,
  type Content,
  countSyncs,
  firstContent,
  hasty,
  inspect,
  type Kill,
  killAfter,
  killAtCatalogWrite,
  killAtNewShard,
  killAtRequest,
  killAtRewrite,
  killAtSync,
  laterContent,
  linesAhead,
  recordsAfter,
  type State,
  seededRandom,
  store,
} from './crash.ts'
import { environment, keepgw, keepgwOk, summaryOf, temporary, treeLines } from './keepgw.ts'

const OBJECTS = 240
const MOMENTS = 20
const ATTEMPTS = 8
const seed = Number(process.env.KEEPGW_TEST_SEED ?? randomInt(1_000_000_000))
const server = sharedS3()

/** What an undisturbed run has left. */
interface Reference extends State {
  status: Record<string, unknown>
  syncs: number
  milliseconds: number
}

/** A way to kill; `at`, from 0 to 1, says how far the run should have come. */
type Way = (at: number, reference: Reference) => Kill

/** A mapping whose last run was killed. */
interface Killed {
  mapping: string
  state: State
  /** All hashes that it has ever had lines of. */
  hashes: Set<string>
}

describe('kill -9', { skip: server === undefined && NO_S3 }, () => {
  const random = seededRandom(seed)
  let scratch: Awaited<ReturnType<typeof temporary>>
  let bucket: TestBucket
  let proxy: FaultProxy
  let content: Content = new Map()
  let reference: Reference
  const waiting: Killed[] = []
  let kills = 0
  let betweenLinesAndCommit = 0

  const env = () => hasty(environment({ ...server!, endpoint: proxy.endpoint }, scratch.dir))
  const index = (mapping: string) => ['index', bucket.name, '--mappings', mapping, '--json']
  const victim = (mapping: string) => {
    return { args: index(mapping), env: env(), mapping, scratch: scratch.dir }
  }
  const newMapping = (name: string, base?: string) => {
    const mapping = join(scratch.dir, name)
    if (base !== undefined) cpSync(base, mapping, { recursive: true })
    return mapping
  }
  const status = async (mapping: string) => {
    return summaryOf(await keepgwOk(['status', '--mappings', mapping, '--json'], env()))
  }

  before(async () => {
    console.log(`kill: KEEPGW_TEST_SEED=${seed}`)
    scratch = await temporary()
    proxy = await startFaultProxy(server!)
    bucket = await makeBucket(server!)
  })

  after(async () => {
    await bucket?.destroy()
    await proxy?.stop()
    await scratch?.remove()
  })

  /** Changes the bucket, and learns what an undisturbed first run makes of it. */
  async function change(to: Content, name: string): Promise<string> {
    await store(bucket, content, to)
    content = to
    const mapping = newMapping(name)
    const began = Date.now()
    const syncs = await countSyncs(victim(mapping))
    const milliseconds = Date.now() - began
    const state = await inspect(mapping)
    assert.equal(state.records.size, content.size)
    reference = { ...state, status: await status(mapping), syncs, milliseconds }
    console.log(`kill: ${name}: ${content.size} objects, ${syncs} batches, ${milliseconds} ms`)
    return mapping
  }

  /** Kills a run: earlier in it, where it has come to its end before. */
  async function killed(name: string, way: Way, base?: string): Promise<Killed> {
    let at = random()
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const mapping = newMapping(`${name} ${attempt}`.replaceAll(' ', '-'), base)
      if (await way(at, reference)(victim(mapping)))
        return await seen(name, { mapping, hashes: new Set() })
      at /= 2
    }
    assert.fail(`${name}: the run was never killed`)
  }

  async function seen(name: string, victim: Pick<Killed, 'mapping' | 'hashes'>): Promise<Killed> {
    const { mapping } = victim
    const state = await inspect(mapping)
    const ahead = linesAhead(state)
    kills += 1
    if (ahead > 0) betweenLinesAndCommit += 1
    const { lines, strangers, records, intent } = state
    console.log(
      `kill ${kills}: ${name}: ${lines.length} lines, ${records.size} records, ` +
        (intent
          ? `intent of ${intent.changes.length} objects, ${ahead} lines ahead`
          : 'no intent') +
        (strangers.length > 0 ? `, left ${strangers}` : ''),
    )
    assertHonest(state)
    const hashes = new Set(victim.hashes)
    for (const line of lines) hashes.add(line.slice(0, 32))
    for (const record of recordsAfter(state).values()) {
      for (let i = 0; i < record.hashes.length; i += 16) {
        hashes.add(record.hashes.toString('hex', i, i + 16))
      }
    }
    return { mapping, state, hashes }
  }

  /** Runs once more, undisturbed, and compares what is there with the reference. */
  async function finish({ mapping, state, hashes }: Killed): Promise<void> {
    const outcome = await keepgwOk(index(mapping), env())
    const known = recordsAfter(state)
    const expected = new Map(reference.records)
    let unchanged = 0
    for (const [key, { etag, size }] of reference.records) {
      const record = known.get(key)
      if (record?.etag !== etag || record.size !== size) continue
      // Stored anew with the same content, it is not read again and keeps its time.
      expected.set(key, record)
      unchanged += 1
    }
    // What was recorded, or about to be, is not read again.
    const summary = summaryOf(outcome)
    assert.equal(summary.unchanged, unchanged)
    assert.equal(/cut short/.test(outcome.stderr), state.intent !== undefined, outcome.stderr)

    const now = await inspect(mapping)
    assertSameLines(await treeLines(mapping), reference.lines, 'lines')
    assertSameLines(describeRecords(now.records), describeRecords(expected), 'records')
    assert.deepEqual(now.strangers, [])
    assert.equal(now.intent, undefined)
    assertHonest(now)
    const there = new Set(now.lines.map((line) => line.slice(0, 32)))
    const lost = [...hashes].filter((hash) => !there.has(hash)).sort()
    assertSameLines(now.lost, lost, 'lost blocks')
    const { mapping: _, lastRun, ageSeconds, ...counts } = await status(mapping)
    const { mapping: _a, lastRun: _b, ageSeconds: _c, ...same } = reference.status
    assert.deepEqual(counts, { ...same, lost: lost.length })
    assert.equal((lastRun as { outcome: string }).outcome, 'complete')
  }

  const sync = (when: 'before' | 'after'): Way => {
    return (at, { syncs }) => killAtSync(1 + Math.floor(at * syncs), when)
  }
  const newShard: Way = (at) => killAtNewShard(1 + Math.floor(at * OBJECTS * 0.4))
  const request: Way = (at) => killAtRequest(2 + Math.floor((at * OBJECTS) / 2), proxy)
  const catalogWrite: Way = (at, { syncs }) => killAtCatalogWrite(1 + Math.floor(at * 4 * syncs))
  const anyTime: Way = (at, { milliseconds }) => killAfter(milliseconds * (0.2 + 0.7 * at))
  const rewrite: Way = () => killAtRewrite('shared by many: 0')
  const ways: [name: string, way: Way][] = [
    ['lines not synced', sync('before')],
    ['lines synced', sync('after')],
    ['within the lines', newShard],
    ['at a request', request],
    ['at a write to the catalog', catalogWrite],
    ['at any time', anyTime],
  ]

  describe('in a first run', () => {
    before(() => change(firstContent(OBJECTS, random), 'first'))

    it('before it has made its catalog', async () => {
      const found = await killed('first run, making the catalog', () => killAtCatalogWrite(1))
      const { code, stderr } = await keepgw(['status', '--mappings', found.mapping], env())
      // The kill may come late enough for a catalog without any object.
      if (code !== 0) assert.match(stderr, /cannot open the catalog|no catalog|out of reach/)
      await finish(found)
    })

    for (const [way, kill] of ways) {
      it(`${way}, and nothing changes before the next run`, async () => {
        await finish(await killed(`first run, ${way}`, kill))
      })
    }

    it('to be finished when the bucket has changed', async () => {
      for (const [way, kill] of ways.slice(0, 4)) {
        waiting.push(await killed(`first run left for later, ${way}`, kill))
      }
    })
  })

  describe('in a run over a changed bucket', () => {
    const base = () => join(scratch.dir, 'first')
    const hashesOf = ({ lines }: State) => new Set(lines.map((line) => line.slice(0, 32)))
    const killedAgain = async (name: string, kill: Way): Promise<Killed> => {
      const earlier = hashesOf(await inspect(base()))
      const found = await killed(name, kill, base())
      return { ...found, hashes: new Set([...earlier, ...found.hashes]) }
    }
    before(() => change(laterContent('second', content, random), 'second'))

    it('killed in the first run, before the changes', async () => {
      for (const each of waiting.splice(0)) await finish(each)
    })

    for (const [way, kill] of [...ways, ['beside a file', rewrite] as const]) {
      it(way, async () => {
        await finish(await killedAgain(`re-index, ${way}`, kill))
      })
    }

    it('and again in the recovery', async () => {
      let found = await killedAgain('re-index', sync('before'))
      const { intent, records } = found.state
      for (const when of ['before', 'after'] as const) {
        // The lines that the killed run left may not be on disk: their commit has to wait for a sync.
        assert.ok(await killAtSync(1, when)(victim(found.mapping)))
        found = await seen(`recovery, lines ${when === 'after' ? '' : 'not '}synced`, found)
        assert.deepEqual(found.state.intent, intent)
        assert.deepEqual(found.state.records, records)
      }
      await finish(found)
    })

    it('to be finished when the bucket has changed again', async () => {
      for (const [way, kill] of [...ways.slice(0, 2), ['beside a file', rewrite] as const]) {
        waiting.push(await killedAgain(`re-index left for later, ${way}`, kill))
      }
    })
  })

  describe('in a run before yet another change', () => {
    before(() => change(laterContent('third', content, random), 'third'))

    it('is made good by the run after it', async () => {
      for (const each of waiting.splice(0)) await finish(each)
    })

    it('was tried often enough, also between the lines and the commit', () => {
      console.log(`kill: ${kills} kills, ${betweenLinesAndCommit} with lines ahead of the catalog`)
      assert.ok(kills >= MOMENTS)
      assert.ok(betweenLinesAndCommit >= 6)
    })
  })
})

/** Returns the catalog in lines that can be compared. */
function describeRecords(records: State['records']): string[] {
  return Array.from(records, ([key, { etag, size, lastModified, hashes }]) => {
    return `${key} ${etag} ${size} ${lastModified} ${hashes.toString('hex')}`
  }).sort()
}
