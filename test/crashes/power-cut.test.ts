/**
 * Index runs whose machine loses its power at seeded moments (moments.ts). What a run does to its files
 * is recorded once, and a model of disks (disk-model.ts) says what may be left of that: each time the
 * mapping must be honest, and the next plain run must make it as if nothing had happened.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { NO_S3, sharedS3 } from '../servers/s3.ts'
import { firstContent, laterContent } from './bucket.ts'
import { Disk, readTree, type Tree, writeTree } from './disk-model.ts'
import { CrashLab, type Kind } from './lab.ts'
import { announce, pick, seededRandom, share } from './moments.ts'
import { type Operation, record, whyNoRecording } from './recording.ts'
import { hashesOf, inspect } from './state.ts'
import { trustingBase } from './trust.ts'

const OBJECTS = 100
/** Cuts of each recorded run; there are four. */
const CUTS = share(3, 30)
/** Cuts of a disk that lies, of which some must be noticed. */
const LIES = 40
/** Where the mapping lies below the directory that is recorded: two more have to be made for it. */
const MAPPING = join('new', 'mapping')
const CATALOG = join('.keepgw', 'catalog', 'data.mdb')

const server = sharedS3()
const skip = server === undefined ? NO_S3 : (whyNoRecording() ?? false)

/** A run that was recorded. */
interface Recorded {
  kind: Pick<Kind, 'flags' | 'proven'>
  root: string
  before: Tree
  operations: Operation[]
  /** Hashes that it began with. */
  hashes: Set<string>
}

describe('a power cut', { skip }, () => {
  const random = seededRandom()
  let lab: CrashLab
  let roots = 0
  let first: Recorded

  before(async () => {
    announce('power cut')
    lab = await CrashLab.open('power cut', server!)
  })
  after(() => lab?.close())

  async function recorded(
    kind: Pick<Kind, 'flags' | 'base' | 'proven'>,
    env = lab.env,
  ): Promise<Recorded> {
    const root = join(lab.scratch, `disk-${roots++}`)
    mkdirSync(root)
    if (kind.base !== undefined) {
      mkdirSync(join(root, 'new'))
      lab.newMapping(join(root, MAPPING), kind.base)
    }
    const tree = readTree(root)
    const mapping = join(root, MAPPING)
    const hashes = hashesOf(await inspect(mapping))
    const operations = await record(lab.command(mapping, kind), { env, root, scratch: lab.scratch })
    const syncs = operations.filter(({ kind }) => kind === 'sync').length
    console.log(`power cut: recorded ${operations.length} operations, ${syncs} syncs`)
    assertSameFiles(diskOf({ root, before: tree, operations }).end(), readTree(root))
    return { kind, root, before: tree, operations, hashes }
  }

  /** Cuts the power at some moments of the run, and asserts that nothing was lost or made up. */
  async function survives(name: string, run: Recorded): Promise<void> {
    const disk = diskOf(run)
    for (const at of moments(run.operations, CUTS, random)) {
      const tree = disk.afterCut(at, random)
      const root = join(lab.scratch, 'cut')
      writeTree(root, tree)
      const what = `${name}, ${describeMoment(run.operations, at)}`
      try {
        const found = await lab.crashed(what, join(root, MAPPING), run.kind, run.hashes)
        const catalog = tree.get(join(MAPPING, CATALOG))
        assert.ok(transactionOf(catalog) >= committed(run.operations, at), 'a commit was lost')
        await lab.finish(found)
      } catch (error) {
        throw new Error(`${what}: ${error instanceof Error ? error.message : error}`, {
          cause: error,
        })
      }
      rmSync(root, { recursive: true })
    }
  }

  describe('in a first run', () => {
    let mapping: string
    before(async () => {
      const content = new Map(firstContent(OBJECTS, random))
      // Reading it would take most of the time, and order nothing.
      content.delete('large')
      mapping = (await lab.change(content, 'first')).mapping
      first = await recorded({ flags: [] })
    })

    it('loses nothing that was committed, and leaves nothing that is not true', async () => {
      await survives('first run', first)
    })

    it('is noticed by the tests where a disk lies about its syncs', async () => {
      const disk = diskOf(first, ({ path }) => path.endsWith(CATALOG))
      let noticed = 0
      for (const [i, at] of moments(first.operations, LIES, random).entries()) {
        const root = join(lab.scratch, `lie-${i}`)
        writeTree(root, disk.afterCut(at, random))
        await lab.crashed('a lie', join(root, MAPPING), first.kind).catch(() => (noticed += 1))
      }
      console.log(`power cut: noticed ${noticed} of ${LIES} cuts of a disk that lies`)
      assert.ok(noticed > 0)
    })

    it('begins a re-index', async () => {
      const trusting = await trustingBase(lab)
      await lab.change(laterContent('second', lab.content, random), 'second')
      const env = { ...lab.env, PATH: '/nonexistent' }
      await survives('re-index', await recorded({ flags: [], base: mapping }))
      await survives('trusting', await recorded(trusting))
      await survives('re-index without sync -f', await recorded({ flags: [], base: mapping }, env))
    })
  })
})

function diskOf(
  { root, before, operations }: Pick<Recorded, 'root' | 'before' | 'operations'>,
  heeds = (_sync: { path: string }) => true,
): Disk {
  return new Disk(operations, { root, before, heeds, inPlace: (path) => path.endsWith(CATALOG) })
}

/** The table of readers is written by its mapping into memory, which nobody records. */
function assertSameFiles(modelled: Tree, found: Tree): void {
  const described = (tree: Tree) =>
    [...tree]
      .filter(([path]) => !path.endsWith('lock.mdb'))
      .map(([path, bytes]) => `${path} ${bytes?.toString('latin1')}`)
      .sort()
  assert.ok(
    described(modelled).join('\n') === described(found).join('\n'),
    'the recording, played again, makes other files',
  )
}

/** Returns moments of the run: half of them anywhere, half around the syncs of its batches. */
function moments(operations: readonly Operation[], count: number, random: () => number): number[] {
  const syncs = operations.filter(({ kind }) => kind === 'sync')
  return Array.from({ length: count }, (_, i) => {
    if (i % 2 === 0) return pick(operations, random).end
    const { start, end } = pick(syncs, random)
    return pick([start - 1, start, end, end + 1], random)
  })
}

function describeMoment(operations: readonly Operation[], at: number): string {
  const done = operations.filter(({ end }) => end <= at)
  const last = done.at(-1)
  const path = last && ('path' in last ? last.path : last.to)
  return `cut at ${at} behind ${done.length} operations, the last a ${last?.kind} of ${path}`
}

/** Where LMDB has its number of the last transaction, in each of its two first pages (MDB_meta). */
const TRANSACTION = 152
const PAGE = 4096

/** Returns the last transaction that a catalog knows; 0 without one. */
function transactionOf(catalog: Buffer | undefined): number {
  if (catalog === undefined || catalog.length < 2 * PAGE) return 0
  return Math.max(...[0, PAGE].map((page) => Number(catalog.readBigUInt64LE(page + TRANSACTION))))
}

/** Returns the last transaction whose commit had returned by then. */
function committed(operations: readonly Operation[], at: number): number {
  const numbers = operations.map((operation) => {
    if (operation.kind !== 'write' || !operation.lasting || operation.end > at) return 0
    if (!operation.path.endsWith(CATALOG) || operation.offset === 'end') return 0
    const number = TRANSACTION - (operation.offset % PAGE)
    return Number(operation.data.readBigUInt64LE(number))
  })
  return Math.max(0, ...numbers)
}
