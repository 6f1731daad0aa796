/**
 * Whatever becomes of a bucket and of the runs over it, one plain run that comes to its end leaves the
 * mapping as if it had been the first one.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KeepgwError } from '../../src/errors.ts'
import type { IndexOptions } from '../../src/indexer/index-options.ts'
import { indexRemote } from '../../src/indexer/index-run.ts'
import type { IndexResult } from '../../src/indexer/run-tally.ts'
import { covers, makeScope } from '../../src/indexer/scope.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { Intent } from '../../src/mapping/catalog-contents.ts'
import { findDescription } from '../../src/mapping/description.ts'
import { openForWriting } from '../../src/mapping/open-mapping.ts'
import { ProofJournal } from '../../src/mapping/proofs.ts'
import { segmentCount, segmentHash, segmentPlace } from '../../src/mapping/record.ts'
import { RemoteError } from '../../src/remote/remote.ts'
import { dropPlaces } from '../../src/verifier/repair.ts'
import { runs } from '../fuzz.ts'
import { makeTree, readTree } from '../mapping/fixture.ts'
import { arm, type Crash, Killed } from '../mapping/killed-batch.ts'
import { assertIs, LostModel, type Model } from '../mapping/model.ts'
import { type Behaviour, MemoryBucket } from './memory-bucket.ts'
import { apply, PLAIN, type Run, type Step, step } from './merge-steps.ts'

function optionsOf(dir: string, { scope, maxObjects, trusts, listConcurrency }: Run): IndexOptions {
  return {
    mappings: dir,
    remote: { kind: 's3', bucket: 'b' },
    scope: makeScope(scope),
    concurrency: 8,
    listConcurrency,
    workers: 1,
    trustEtags: trusts ? { sample: 0.1 } : undefined,
    allowDrop: 100,
    limits: { maxObjects },
    breakLock: false,
    dryRun: false,
    signal: new AbortController().signal,
    observer: { progress: () => {}, unreadable: () => {}, notice: () => {} },
  }
}

/** A mapping, and what is expected of it: what the batches that came to their ends have made of it. */
class Watched {
  readonly dir: string
  model: Model = new Map()
  readonly lost = new LostModel()
  /** A batch was cut short when it was last looked at. */
  hasRest = false

  constructor(dir: string) {
    this.dir = dir
  }

  /** Does the work; each batch that is finished meanwhile is carried out on the model, too. */
  async watch<T>(work: () => Promise<T>, crash?: Crash): Promise<T | undefined> {
    const { finish } = Catalog.prototype
    const take = (intent: Intent): void => this.#take(intent)
    Catalog.prototype.finish = async function (this: Catalog, intent, lockId) {
      await finish.call(this, intent, lockId)
      take(intent)
    }
    const disarm = crash && (await arm(this.dir, Catalog.prototype, crash))
    try {
      return await work()
    } catch (error) {
      const isKilled = error instanceof KeepgwError && error.cause instanceof Killed
      const isInjected = error instanceof RemoteError
      assert.ok(isKilled || isInjected, error as Error)
      return undefined
    } finally {
      await disarm?.()
      Catalog.prototype.finish = finish
    }
  }

  /** Returns false where a batch was cut short; without, nothing but what was recorded may be in it. */
  async assertHonest(): Promise<boolean> {
    if (!existsSync(join(this.dir, '.keepgw/catalog/data.mdb'))) return true
    const catalog = Catalog.open(this.dir, { readOnly: true })
    try {
      this.hasRest = catalog.intent() !== undefined
      if (!this.hasRest) await assertIs({ dir: this.dir, catalog }, this.model, this.lost)
      return !this.hasRest
    } finally {
      await catalog.close()
    }
  }

  #take({ changes }: Intent): void {
    const next = new Map(this.model)
    for (const { key, after } of changes) {
      if (after === null) next.delete(key)
      else next.set(key, after)
    }
    this.lost.update(this.model, next)
    this.model = next
  }
}

/** Runs the index, and checks that it went no further than it was told to. */
async function index(mapping: Watched, bucket: MemoryBucket, run: Run): Promise<void> {
  const options = optionsOf(mapping.dir, run)
  const behaviour: Behaviour = {
    ...run.behaviour,
    ...(run.behaviour.order === 'bytes' ? {} : { ranges: 'none' }),
    meanwhile: run.meanwhile && {
      reads: run.meanwhile.reads,
      change: () => apply(run.meanwhile!.change, bucket),
    },
  }
  const before = mapping.model
  const wasTrusting = (await findDescription(mapping.dir))?.etagIsMd5 !== false
  const connect = bucket.connect(behaviour)
  const result = await mapping.watch(() => indexRemote(options, connect), run.crash)
  const isTrusting = (await findDescription(mapping.dir))?.etagIsMd5 !== false
  const wasKilled = result === undefined && run.crash !== undefined
  if (mapping.hasRest || wasKilled || wasTrusting !== isTrusting) return
  assertBounds(before, mapping.model, options, result)
}

function assertBounds(
  before: Model,
  after: Model,
  { scope }: IndexOptions,
  result: IndexResult | undefined,
): void {
  for (const [key, was] of before) {
    const is = after.get(key)
    // A proof takes a mark away wherever it is.
    if (!covers(scope, key)) assert.equal(is?.etag, was.etag, `${key} was not asked for`)
    const isWhole = result !== undefined && result.incomplete === undefined
    if (!isWhole) assert.ok(is !== undefined, `${key} was dropped by a run without an end`)
  }
}

/** Takes away some places, as if `verify` had found them bad, be they or not. */
async function repair(mapping: Watched, picks: number[], crash?: Crash): Promise<void> {
  const description = await findDescription(mapping.dir)
  if (description === undefined || mapping.model.size === 0) return
  const places = allPlaces(mapping.model)
  const bad = picks.flatMap((pick) => places[pick % places.length] ?? [])
  await mapping.watch(async () => {
    const opened = await openForWriting(mapping.dir, description, { command: 'test' })
    try {
      await dropPlaces(bad, opened, 100)
    } finally {
      await opened.close()
    }
  }, crash)
}

/** Notes proofs of places, as `serve` does for those that hold what they should. */
async function prove(mapping: Watched, picks: number[], bucket: MemoryBucket): Promise<void> {
  const truth = bucket.records()
  const proven = allPlaces(mapping.model).filter(({ hash, place }) => {
    const object = truth.get(place.key)
    return object?.etag === place.etag && object !== undefined && segmentHash(object, 0) === hash
  })
  const journal = new ProofJournal(mapping.dir)
  for (const pick of picks) {
    const one = proven[pick % proven.length]
    if (one !== undefined) journal.note(one.hash, one.place)
  }
  await journal.close()
}

function allPlaces(model: Model) {
  return Array.from(model).flatMap(([key, record]) => {
    return Array.from({ length: segmentCount(record.size) }, (_, segment) => {
      const hash = segmentHash(record, segment)
      return hash === undefined ? [] : [{ hash, place: segmentPlace(key, record, segment) }]
    }).flat()
  })
}

/** The lines of a tree, file by file, in an order of their own. */
async function linesOf(dir: string): Promise<[string, string[]][]> {
  const files = Array.from(await readTree(dir), ([name, content]): [string, string[]] => [
    name,
    content.toString().split('\n').sort(),
  ])
  return files.sort()
}

async function carryOut(step: Step, mapping: Watched, bucket: MemoryBucket): Promise<void> {
  if ('change' in step) apply(step.change, bucket)
  else if ('run' in step) await index(mapping, bucket, step.run)
  else if ('repair' in step) await repair(mapping, step.repair, step.crash)
  else await prove(mapping, step.prove, bucket)
}

/** Makes what is there before the steps: objects enough that the ETags of some were trusted. */
const beginnings: ((mapping: Watched, bucket: MemoryBucket) => Promise<void>)[] = [
  async () => {},
  async (_mapping, bucket) => apply({ crowd: 'md5', from: 10 }, bucket),
  async (mapping, bucket) => {
    apply({ crowd: 'md5', from: 10 }, bucket)
    await index(mapping, bucket, { ...PLAIN, trusts: true })
  },
  // The bucket's default encryption has changed: all ETags of new objects lie.
  async (mapping, bucket) => {
    apply({ crowd: 'md5', from: 10 }, bucket)
    await index(mapping, bucket, { ...PLAIN, trusts: true })
    apply({ crowd: 'false', from: 12 }, bucket)
    await index(mapping, bucket, { ...PLAIN, trusts: true, maxObjects: 20 })
  },
]

describe('the runs over a bucket', () => {
  it('end in the state of a first run, whatever they were and whatever happened meanwhile', async (t) => {
    const counts = { runs: 0, crashes: 0, trusting: 0, disproved: 0, lost: 0, fresh: 0 }
    let random: Iterator<number>
    t.mock.method(Math, 'random', () => random.next().value)
    const numbers = fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true }))
    const steps = fc.array(step, { minLength: 4, maxLength: 10, size: 'max' })
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...beginnings),
        steps,
        numbers,
        fc.nat({ max: 7 }),
        async (begin, all, stream, also) => {
          random = stream
          await using tree = await makeTree()
          const bucket = new MemoryBucket()
          const mapping = new Watched(tree.dir)
          await begin(mapping, bucket)
          for (const one of all) {
            await carryOut(one, mapping, bucket)
            const isWhole = await mapping.assertHonest()
            counts.runs += Number('run' in one)
            counts.crashes += Number(!isWhole)
            counts.trusting += Number([...mapping.model.values()].some(({ trusted }) => trusted))
          }
          await index(mapping, bucket, PLAIN)
          assert.ok(await mapping.assertHonest())
          assert.deepEqual(sorted(mapping.model), sorted(bucket.records()))
          counts.lost += Number(mapping.lost.lost.size > 0)
          counts.disproved += Number((await findDescription(mapping.dir))?.etagIsMd5 === false)
          if (also > 0) return
          // What the model says of a first run is true of one.
          await using other = await makeTree()
          const fresh = new Watched(other.dir)
          await index(fresh, bucket, PLAIN)
          assert.deepEqual(sorted(mapping.model), sorted(fresh.model))
          assert.deepEqual(await linesOf(mapping.dir), await linesOf(fresh.dir))
          counts.fresh += 1
        },
      ),
      runs(120),
    )
    t.diagnostic(JSON.stringify(counts))
    // What never happens proves nothing.
    for (const [what, count] of Object.entries(counts)) assert.ok(count > 0, `no ${what}`)
  })
})

function sorted(model: Model) {
  return [...model].sort(([a], [b]) => (a < b ? -1 : 1))
}
