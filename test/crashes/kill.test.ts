/**
 * Index runs that are killed at seeded moments (moments.ts): the next plain run must leave the tree
 * and the catalog as if nothing had happened.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { keepgw, keepgwOk } from '../e2e/keepgw.ts'
import { NO_S3, sharedS3 } from '../servers/s3.ts'
import { firstContent, laterContent } from './bucket.ts'
import {
  type Kill,
  killAfter,
  killAtCatalogWrite,
  killAtNewCatalog,
  killAtNewShard,
  killAtProofs,
  killAtRequest,
  killAtRewrite,
  killAtSync,
} from './kill.ts'
import { type Crashed, CrashLab, type Kind } from './lab.ts'
import { announce, seededRandom, share } from './moments.ts'
import { assertSameLines, describeRecords, hashesOf, inspect } from './state.ts'
import { trustingBase } from './trust.ts'

const OBJECTS = 240
/** Each way to kill is tried so often, at another moment each time. */
const ROUNDS = share(1, 4)
/** Kills of the phases below: 100 of all rounds. */
const MOMENTS = 8 + 23 * ROUNDS
const ATTEMPTS = 8
const server = sharedS3()

/** A way to kill; `at`, from 0 to 1, says how far the run should have come. */
type Way = (at: number, kind: Kind) => Kill

describe('kill -9', { skip: server === undefined && NO_S3 }, () => {
  const random = seededRandom()
  let lab: CrashLab
  let first: Kind
  let again: Kind
  let trustingParts: Omit<Kind, 'syncs' | 'milliseconds'>
  let trusting: Kind
  const waiting: Crashed[] = []

  before(async () => {
    announce('kill')
    lab = await CrashLab.open('kill', server!)
  })
  after(() => lab?.close())

  /** Kills a run: earlier in it, where it has come to its end before. */
  async function killed(name: string, way: Way, kind: Kind): Promise<Crashed> {
    let at = random()
    const earlier = kind.base === undefined ? [] : hashesOf(await inspect(kind.base))
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const mapping = lab.newMapping(`${name} ${attempt}`, kind.base)
      if (await way(at, kind)(lab.victim(mapping, kind))) {
        return await lab.crashed(name, mapping, kind, earlier)
      }
      at /= 2
    }
    assert.fail(`${name}: the run was never killed`)
  }

  const sync = (when: 'before' | 'after'): Way => {
    return (at, { syncs }) => killAtSync(1 + Math.floor(at * syncs), when)
  }
  const newShard: Way = (at) => killAtNewShard(1 + Math.floor(at * OBJECTS * 0.4))
  const request: Way = (at) => killAtRequest(2 + Math.floor((at * OBJECTS) / 2), lab.proxy)
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
  const besides: [name: string, way: Way] = ['beside a file', rewrite]
  const rounds = Array.from({ length: ROUNDS }, (_, round) => `round ${round + 1}`)

  describe('in a first run', () => {
    before(async () => {
      const changed = await lab.change(firstContent(OBJECTS, random), 'first')
      first = changed.first
      again = { ...first, base: changed.mapping }
    })

    for (const round of rounds) {
      it(`before it has made its catalog (${round})`, async () => {
        const name = `first run, making the catalog, ${round}`
        const found = await killed(name, () => killAtNewCatalog, first)
        const { code, stderr } = await keepgw(['status', '--mappings', found.mapping], lab.env)
        // The kill may come late enough for a catalog without any object.
        if (code !== 0) assert.match(stderr, /no catalog|out of reach/)
        await lab.finish(found)
      })

      for (const [way, kill] of ways) {
        it(`${way}, and nothing changes before the next run (${round})`, async () => {
          await lab.finish(await killed(`first run, ${way}, ${round}`, kill, first))
        })
      }
    }

    it('to be finished when the bucket has changed', async () => {
      for (const [way, kill] of ways.slice(0, 4)) {
        waiting.push(await killed(`first run left for later, ${way}`, kill, first))
      }
    })

    it('that was to be the base of a run that trusts', async () => {
      trustingParts = await trustingBase(lab)
    })
  })

  describe('in a run over a changed bucket', () => {
    before(async () => {
      await lab.change(laterContent('second', lab.content, random), 'second')
      trusting = (await lab.measure('trusting', trustingParts)).kind
    })

    it('killed in the first run, before the changes', async () => {
      for (const each of waiting.splice(0)) await lab.finish(each)
    })

    for (const round of rounds) {
      for (const [way, kill] of [...ways, besides]) {
        it(`${way} (${round})`, async () => {
          await lab.finish(await killed(`re-index, ${way}, ${round}`, kill, again))
        })
      }
      // In the order in which such a run does these things.
      const trustingWays: typeof ways = [
        ['as it takes the proofs', () => killAtProofs],
        besides,
        ...ways.slice(0, 2),
        ...ways.slice(4),
      ]
      for (const [way, kill] of trustingWays) {
        it(`${way}, with --etag=trust and a journal of proofs (${round})`, async () => {
          await lab.finish(await killed(`trusting, ${way}, ${round}`, kill, trusting))
        })
      }

      it(`and again in the recovery (${round})`, async () => {
        let found = await killed(`re-index, ${round}`, sync('before'), again)
        const { intent, records } = found.state
        for (const when of ['before', 'after'] as const) {
          // The lines that the killed run left may not be on disk: their commit has to wait for a sync.
          assert.ok(await killAtSync(1, when)(lab.victim(found.mapping, again)))
          const name = `recovery, lines ${when === 'after' ? '' : 'not '}synced, ${round}`
          found = await lab.crashed(name, found.mapping, again, found.hashes)
          assert.deepEqual(found.state.intent, intent)
          assert.deepEqual(found.state.records, records)
        }
        await lab.finish(found)
      })
    }

    it('with --etag=trust, ends where a run without any trust does, once all is read', async () => {
      const found = await killed('trusting, to be read', sync('before'), trusting)
      await lab.finish(found)
      await keepgwOk(lab.index(found.mapping), lab.env)
      const [now, plain] = [await inspect(found.mapping), await inspect(lab.newMapping('second'))]
      assertSameLines(now.lines, plain.lines, 'lines')
      const etagsAndHashes = ({ records }: typeof now) =>
        describeRecords(
          new Map([...records].map(([key, record]) => [key, { ...record, lastModified: 0 }])),
        )
      assertSameLines(etagsAndHashes(now), etagsAndHashes(plain), 'records')
    })

    it('to be finished when the bucket has changed again', async () => {
      for (const [way, kill] of [...ways.slice(0, 2), besides]) {
        waiting.push(await killed(`re-index left for later, ${way}`, kill, again))
      }
    })
  })

  describe('in a run before yet another change', () => {
    before(() => lab.change(laterContent('third', lab.content, random), 'third'))

    it('is made good by the run after it', async () => {
      for (const each of waiting.splice(0)) await lab.finish(each)
    })

    it('was tried often enough, also between the lines and the commit', () => {
      assert.ok(lab.crashes >= MOMENTS, `${lab.crashes} crashes`)
      assert.ok(lab.betweenLinesAndCommit >= 4 * ROUNDS)
    })
  })
})
