import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { Change } from '../../src/mapping/catalog-contents.ts'
import { writeDescription } from '../../src/mapping/description.ts'
import { openForWriting } from '../../src/mapping/open-mapping.ts'
import { formatPlace, MAX_BLOCK } from '../../src/mapping/place-line.ts'
import {
  type CatalogRecord,
  segmentCount,
  withoutSegments,
  withoutTrust,
} from '../../src/mapping/record.ts'
import { Recorder } from '../../src/mapping/recorder.ts'
import { blockFile } from '../../src/mapping/tree.ts'
import { runs } from '../fuzz.ts'
import {
  description,
  hashOf,
  makeMapping,
  makeTree,
  readTree,
  smallRecord,
  type TestMapping,
} from './fixture.ts'
import { arm, type Crash, crashes, Killed } from './killed-batch.ts'
import { assertIs, LostModel, type Model } from './model.ts'

/** What one change of a batch does to an object. */
type Step =
  | { key: string; put: { etag: string; full: number[]; tail: number } }
  | { key: string; trust: number }
  | { key: string; prove: true }
  | { key: string; repair: number[] }
  | { key: string; drop: true }

interface Batch {
  steps: Step[]
  crashes: Crash[]
  /** Whether recover() is called, or left to the next batch. */
  recovers: boolean
}

// All segments of one hash are of one length: 1, 2 and 3 name whole segments, 11, 12 and 13 last ones.
const batches = fc.array(
  fc.record<Batch>({
    steps: fc.array(
      fc
        .tuple(
          fc.constantFrom('a', 'a/b', 'é:%\t', '\udcff', '🙂\n'),
          fc.oneof(
            { weight: 4, arbitrary: putOf() },
            fc.uniqueArray(fc.nat({ max: 3 }), { minLength: 1 }).map((repair) => ({ repair })),
            fc.constant({ drop: true } as const),
            // As the ETag of its MD5: what was trusted before it was read has the hash that is found.
            { weight: 3, arbitrary: fc.constantFrom({ trust: 11 }, { trust: 12 }) },
            { weight: 2, arbitrary: fc.constant({ prove: true } as const) },
          ),
        )
        .map(([key, what]): Step => ({ key, ...what })),
      { minLength: 1, maxLength: 6 },
    ),
    crashes: fc.array(crashes, { maxLength: 2 }),
    recovers: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
)

function putOf() {
  return fc
    .record({
      etag: fc.constantFrom('e1', 'e2'),
      full: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
      tail: fc.constantFrom(0, 11, 12, 13),
    })
    .map((put) => ({ put }))
}

function recordOf({
  etag,
  full,
  tail,
}: {
  etag: string
  full: number[]
  tail: number
}): CatalogRecord {
  const hashes = Buffer.concat(
    [...full, ...(tail === 0 ? [] : [tail])].map((byte) => Buffer.alloc(16, byte)),
  )
  return { etag, size: full.length * MAX_BLOCK + tail, lastModified: 1, hashes }
}

function trustedRecord(tail: number): CatalogRecord {
  return { ...recordOf({ etag: hashOf(tail), full: [], tail }), trusted: true }
}

/** Returns the changes of a batch, and carries them out on the model. */
function changesOf(steps: Step[], model: Model): Change[] {
  return steps.map((step) => {
    const { key } = step
    const before = model.get(key) ?? null
    let after: CatalogRecord | null = null
    if ('put' in step) after = recordOf(step.put)
    else if ('trust' in step) after = trustedRecord(step.trust)
    else if ('prove' in step && before !== null) after = withoutTrust(before)
    else if ('repair' in step && before !== null) {
      after = withoutSegments(
        before,
        step.repair.filter((one) => one < segmentCount(before.size)),
      )
    }
    if (after === null) model.delete(key)
    else model.set(key, after)
    // An object that is listed twice is read twice, and its second change does not know of the first.
    return { key, before: null, after }
  })
}

/** Returns whether a new batch was begun. */
async function dies(
  mapping: TestMapping,
  crash: Crash,
  write: () => Promise<unknown>,
): Promise<boolean> {
  const restore = await arm(mapping.dir, mapping.catalog, crash)
  // A recovery that finds nothing to do never comes to the point of the crash.
  await write().catch((error) => assert.ok(error.cause instanceof Killed, error))
  return (await restore()).isBegun
}

describe('batches of changes', () => {
  it('leave the tree what the catalog says, wherever they are killed', async () => {
    await fc.assert(
      fc.asyncProperty(batches, async (all) => {
        await using mapping = await makeMapping()
        const { dir, catalog, lock } = mapping
        let { recorder } = mapping
        /** What was killed is followed by another process. */
        const renew = () => {
          recorder = new Recorder(dir, catalog, lock.id)
          return recorder
        }
        let model: Model = new Map()
        const lost = new LostModel()
        for (const { steps, crashes, recovers } of all) {
          const next = new Map(model)
          const changes = changesOf(steps, next)
          const [first, ...more] = crashes
          let begun = true
          if (first === undefined) await recorder.record(changes)
          else begun = await dies(mapping, first, () => renew().record(changes))
          for (const crash of more) await dies(mapping, crash, () => renew().recover())
          if (begun) {
            lost.update(model, next)
            model = next
          }
          if (!recovers) continue
          await recorder.recover()
          await assertIs(mapping, model, lost)
        }
        await renew().recover()
        await assertIs(mapping, model, lost)
      }),
      runs(100),
    )
  })

  it('may be larger than what is written in one go', async () => {
    await using mapping = await makeMapping()
    const model: Model = new Map()
    for (let i = 0; i < 1000; i++) {
      const hashes = Buffer.alloc(16)
      hashes.writeUInt32BE(1 + (i % 700))
      model.set(`k${i}`, { etag: 'e', size: 9, lastModified: 1, hashes })
    }
    const lost = new LostModel()
    await mapping.recorder.record(
      Array.from(model, ([key, after]) => ({ key, before: null, after })),
    )
    await assertIs(mapping, model, lost)
    await mapping.recorder.record(
      Array.from(model, ([key, before]) => ({ key, before, after: null })),
    )
    lost.update(model, new Map())
    await assertIs(mapping, new Map(), lost)
  })

  it('refuse a key that the catalog cannot hold before anything is written', async () => {
    await using mapping = await makeMapping()
    const keys = ['a', 'x'.repeat(1979), 'b']
    const changes = keys.map((key) => ({ key, before: null, after: smallRecord(1) }))
    await assert.rejects(mapping.recorder.record(changes), KeepgwError)
    await assertIs(mapping, new Map(), new LostModel())
  })

  it('say what is wrong with a tree that cannot be written', async () => {
    await using mapping = await makeMapping()
    await writeFile(join(mapping.dir, '010'), 'in the way')
    const change = { key: 'a', before: null, after: smallRecord(1) }
    await assert.rejects(mapping.recorder.record([change]), (error) => {
      assert.ok(error instanceof KeepgwError)
      assert.match(error.message, /cannot write to the mapping .*010/)
      assert.ok(error.hint)
      return true
    })
    await rm(join(mapping.dir, '010'))
    assert.equal(await mapping.recorder.recover(), 1)
    assert.deepEqual(mapping.catalog.get('a')?.hashes, smallRecord(1).hashes)
  })
})

describe('places that the catalog does not know', () => {
  it('are removed, and no others', async () => {
    await using mapping = await makeMapping()
    await mapping.recorder.record([{ key: 'a', before: null, after: smallRecord(1) }])
    const stray = { offset: 0, length: 1, key: 'stray' }
    const hashes = [hashOf(1), hashOf(2)]
    await mkdir(join(mapping.dir, hashOf(2).slice(0, 3)))
    for (const hash of hashes) {
      await writeFile(blockFile(mapping.dir, hash), `${formatPlace(stray)}\n`, { flag: 'a' })
    }
    await mapping.recorder.mend(new Map(hashes.map((hash) => [hash, { add: [], remove: [stray] }])))
    await assertIs(mapping, new Map([['a', smallRecord(1)]]), new LostModel())
  })
})

describe('a full disk', () => {
  const run = promisify(execFile)

  /** Runs `use` in a mapping on a small file system of its own; skips where none can be mounted. */
  async function onSmallDisk(
    skip: (why: string) => void,
    use: (dir: string, resize: (size: string) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    await using tree = await makeTree()
    const disk = join(tree.dir, 'disk')
    await mkdir(disk)
    try {
      await run('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', disk])
    } catch {
      skip('a file system of its own can only be mounted by root')
      return
    }
    try {
      const dir = join(disk, 'mapping')
      await writeDescription(dir, description)
      await use(dir, async (size) => {
        await run('mount', ['-o', `remount,size=${size}`, disk])
      })
    } finally {
      await run('umount', [disk])
    }
  }

  function changes(count: number): Change[] {
    return Array.from({ length: count }, (_, i) => {
      const hashes = Buffer.alloc(16, 1)
      hashes.writeUInt32BE(i)
      return { key: `k${i}`, before: null, after: { etag: 'e', size: 5, lastModified: 1, hashes } }
    })
  }

  async function isFull(write: Promise<unknown>): Promise<void> {
    await assert.rejects(write, (error) => {
      assert.ok(error instanceof KeepgwError, String(error))
      assert.match(error.hint ?? '', /run again/)
      return true
    })
  }

  it('stops a batch before anything is written, or in its middle, and is recovered from', async (t) => {
    await onSmallDisk(
      (why) => t.skip(why),
      async (dir, resize) => {
        const all = changes(2000)
        const model: Model = new Map(all.map(({ key, after }) => [key, after!]))
        const mapping = await openForWriting(dir, description, { command: 'test' })
        const { catalog } = mapping

        await resize('10m')
        await isFull(mapping.recorder.record(all))
        assert.equal(catalog.intent(), undefined)

        await resize('40m')
        const { begin } = catalog
        catalog.begin = async (...args) => {
          await begin.apply(catalog, args)
          await fill(dir, 2_000_000)
        }
        await isFull(mapping.recorder.record(all))
        catalog.begin = begin
        assert.ok(catalog.intent())
        assert.ok((await readTree(dir)).size > 0)
        // Nothing is left for the catalog, and the lock, either.
        await fill(dir, 0)
        await isFull(
          catalog.reportRun({
            started: '',
            ended: '',
            outcome: 'failed',
            unreadable: 0,
            archived: 0,
          }),
        )
        await mapping.close()

        await isFull(openForWriting(dir, description, { command: 'test' }))
        await resize('80m')
        // The lock could not be given back; as when the run has ended since, its holder is gone.
        const ended = Catalog.open(dir)
        await ended.updateLock((held) => ({ ...held!, processStart: 'earlier' }))
        await ended.close()
        const again = await openForWriting(dir, description, { command: 'test' })
        assert.equal(again.recovered, all.length)
        await assertIs({ dir, catalog: again.catalog }, model, new LostModel())
        await again.close()
      },
    )
  })

  /** Leaves so many bytes free. */
  async function fill(dir: string, left: number): Promise<void> {
    const { bavail, bsize } = statfsSync(dir)
    const size = bavail * bsize - left
    if (size > 0) await writeFile(join(dir, '.keepgw', `filler${left}`), Buffer.alloc(size))
  }
})
