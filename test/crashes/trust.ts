/** What a run with --etag=trust begins with: hashes that were taken from ETags, and proofs of some. */
import assert from 'node:assert/strict'
import { ProofJournal } from '../../src/mapping/proofs.ts'
import { segmentHash, segmentPlace } from '../../src/mapping/record.ts'
import { keepgwOk } from '../e2e/keepgw.ts'
import type { CrashLab, Kind } from './lab.ts'
import { inspect } from './state.ts'

/** So that objects are read here and there in the run, and not only at its begin. */
export const TRUST = ['--etag=trust', '--etag-sample=5']

/** Makes a mapping of the bucket as it is, with a journal that proves every third of its trusted hashes. */
export async function trustingBase(lab: CrashLab): Promise<Omit<Kind, 'syncs' | 'milliseconds'>> {
  const base = lab.newMapping('trusting base')
  await keepgwOk(lab.index(base, TRUST), lab.env)
  const { records } = await inspect(base)
  const trusted = [...records].filter(([, record]) => record.trusted)
  const proven = new Map<string, string>()
  const journal = new ProofJournal(base)
  for (const [key, record] of trusted.filter((_, i) => i % 3 === 0)) {
    journal.note(segmentHash(record, 0)!, segmentPlace(key, record, 0))
    proven.set(key, record.etag)
  }
  await journal.close()
  assert.ok(proven.size > 0)
  return { flags: TRUST, base, proven }
}
