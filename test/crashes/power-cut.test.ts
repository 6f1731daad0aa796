/**
 * Index runs whose machine loses its power at seeded moments (moments.ts). What a run does to its files
 * is recorded once, and a model of disks (disk-model.ts) says what may be left of that: each time the
 * mapping must be honest, and the next plain run must make it as if nothing had happened.
 */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { messageOf } from '../../src/errors.ts'
import { NO_S3, sharedS3 } from '../servers/s3.ts'
import { firstContent, laterContent } from './bucket.ts'
import { CrashLab, type Kind } from './lab.ts'
import { announce, seededRandom, share } from './moments.ts'
import { RecordedRun } from './recorded-run.ts'
import { whyNoRecording } from './recording.ts'
import { assertHonest, inspect } from './state.ts'
import { trustingBase } from './trust.ts'

const OBJECTS = 100
/** Cuts of each recorded run that the next one is to mend; there are five. */
const CUTS = share(2, 30)
/** Cuts whose mappings are only looked at. */
const LOOKS = share(20, 200)
/** Cuts of a disk that lies, at the end of a run; some of them must be noticed. */
const LIES = 20

const server = sharedS3()
const skip = server === undefined ? NO_S3 : (whyNoRecording() ?? false)

describe('a power cut', { skip }, () => {
  const random = seededRandom()
  let lab: CrashLab
  let base: string
  let trusting: Omit<Kind, 'syncs' | 'milliseconds'>
  let first: RecordedRun
  let again: RecordedRun

  before(async () => {
    announce('power cut')
    lab = await CrashLab.open('power cut', server!)
    const content = new Map(firstContent(OBJECTS, random))
    // Reading it would take most of the time, and order nothing.
    content.delete('large')
    base = (await lab.change(content, 'first')).mapping
    trusting = await trustingBase(lab)
    first = await RecordedRun.record(lab, { flags: [] })
  })
  after(() => lab?.close())

  /** Cuts the power at a moment, and looks at the mapping that is left: it must be honest, and hold all. */
  async function cut(
    name: string,
    run: RecordedRun,
    at: number,
    look: (mapping: string, what: string) => Promise<void>,
    draw = random,
  ): Promise<void> {
    const what = `${name}, ${run.describe(at)}`
    try {
      const mapping = run.cut(at, root(), draw)
      run.assertCommitted(at, mapping)
      await look(mapping, what)
    } catch (error) {
      throw new Error(`${what}: ${messageOf(error)}`, { cause: error })
    } finally {
      rmSync(root(), { recursive: true, force: true })
    }
  }
  const root = () => join(lab.scratch, 'cut')
  const honest = async (mapping: string) => assertHonest(await inspect(mapping))

  /** Cuts the power at some moments of the run, and asserts that nothing was lost or made up. */
  async function survives(name: string, run: RecordedRun): Promise<void> {
    for (const at of run.moments(LOOKS, random)) await cut(name, run, at, honest)
    for (const at of run.moments(CUTS, random)) {
      await cut(name, run, at, async (mapping, what) => {
        await lab.finish(await lab.crashed(what, mapping, run.kind, run.hashes))
      })
    }
  }

  it('loses no commit, even where nothing is left but what was synced', async () => {
    for (const at of first.commits()) await cut('first run', first, at, honest, () => 0)
  })

  it('in a first run loses nothing that was committed, and leaves nothing that is not true', async () => {
    await survives('first run', first)
  })

  it('is noticed by these tests where a disk lies about its syncs', async () => {
    const { end } = first.operations.at(-1)!
    let noticed = 0
    for (let lie = 0; lie < LIES; lie++) {
      const mapping = first.cut(end, root(), random, { lies: true })
      await honest(mapping).catch((error) => {
        assert.ok(error instanceof assert.AssertionError)
        noticed += 1
      })
      rmSync(root(), { recursive: true })
    }
    console.log(`power cut: ${noticed} of ${LIES} cuts of a disk that lies were noticed`)
    assert.ok(noticed > 0)
  })

  it('in a run over a changed bucket', async () => {
    await lab.change(laterContent('second', lab.content, random), 'second')
    again = await RecordedRun.record(lab, { flags: [], base })
    await survives('re-index', again)
  })

  it('in a run that finishes what a killed one had begun, and not synced', async () => {
    await survives('re-index after a kill', await again.killedAndRunAgain(lab))
  })

  it('in a run that trusts ETags, and takes proofs in', async () => {
    await survives('trusting', await RecordedRun.record(lab, trusting))
  })

  it('in a run that has no sync -f, and syncs file by file', async () => {
    const env = { ...lab.env, PATH: '/nonexistent' }
    const run = await RecordedRun.record(lab, { flags: [], base }, env)
    assert.ok(!run.operations.some((each) => each.kind === 'sync' && each.of === 'all'))
    await survives('re-index, file by file', run)
  })
})
