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
/** Cuts of each recorded run; there are five. */
const CUTS = share(2, 30)
/** Cuts of a disk that lies, of which some must be noticed. */
const LIES = 40

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

  /** Cuts the power at some moments of the run, and asserts that nothing was lost or made up. */
  async function survives(name: string, run: RecordedRun): Promise<void> {
    const root = join(lab.scratch, 'cut')
    for (const at of run.moments(CUTS, random)) {
      const what = `${name}, ${run.describe(at)}`
      try {
        const mapping = run.cut(at, root, random)
        const found = await lab.crashed(what, mapping, run.kind, run.hashes)
        run.assertCommitted(at, mapping)
        await lab.finish(found)
      } catch (error) {
        throw new Error(`${what}: ${messageOf(error)}`, { cause: error })
      } finally {
        rmSync(root, { recursive: true, force: true })
      }
    }
  }

  it('in a first run loses nothing that was committed, and leaves nothing that is not true', async () => {
    await survives('first run', first)
  })

  it('is noticed by these tests where a disk lies about its syncs', async () => {
    const root = join(lab.scratch, 'lie')
    let noticed = 0
    for (const at of first.moments(LIES, random)) {
      const mapping = first.cut(at, root, random, { lies: true })
      try {
        assertHonest(await inspect(mapping))
      } catch (error) {
        assert.ok(error instanceof assert.AssertionError)
        noticed += 1
      }
      rmSync(root, { recursive: true })
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
