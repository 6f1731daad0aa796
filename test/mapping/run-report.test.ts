import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  asHistory,
  gapsOf,
  type RunHistory,
  type RunReport,
  withRun,
} from '../../src/mapping/run-report.ts'

const COMPLETE = 'complete'
const CUT = 'interrupted'
const A = { prefixes: ['a/'] }
const B = { prefixes: ['b/'] }
const NO_TEMPORARY = { exclude: ['*.tmp'] }

type About = { prefixes?: string[]; include?: string[]; exclude?: string[] }

function run(outcome: RunReport['outcome'], about?: About, more: Partial<RunReport> = {}) {
  const part = about && { prefixes: [], include: [], exclude: [], ...about }
  const moment = '2026-01-01T00:00:00.000Z'
  const report = { started: moment, ended: moment, outcome, unreadable: 0, archived: 0, ...more }
  return part === undefined ? report : { ...report, part }
}

function history(...runs: RunReport[]): RunHistory | undefined {
  return runs.reduce<RunHistory | undefined>((before, each) => withRun(before, each), undefined)
}

describe('what index runs have left open', () => {
  for (const [what, runs, prefix, says] of [
    ['no run', [], '', [/no index run/]],
    ['a run about everything', [run(COMPLETE)], '', []],
    ['one that was cut', [run(CUT)], 'a/', [/interrupted/]],
    ['a run after it', [run(CUT), run(COMPLETE)], '', []],
    ['nothing but a part, to all', [run(COMPLETE, A)], '', [/only parts/]],
    ['nothing but a part, to another one', [run(COMPLETE, A)], 'b/', [/only parts/]],
    ['nothing but a part, to that', [run(COMPLETE, A)], 'a/deep/', []],
    ['a run that left keys out', [run(COMPLETE, NO_TEMPORARY)], '', [/only parts/]],
    ['a part that was cut, after all', [run(COMPLETE), run(CUT, A)], '', [/"a\/" was interrupted/]],
    ['a part that was cut, to another one', [run(COMPLETE), run(CUT, A)], 'b/', []],
    ['another part after it', [run(CUT, A), run(COMPLETE, B)], 'a/', [/"a\/" was interrupted/]],
    ['the same part after it', [run(COMPLETE), run(CUT, A), run(COMPLETE, A)], '', []],
    ['a part after all that was cut', [run(CUT), run(COMPLETE, A)], '', [/run was interrupted/]],
    ['a part after all that was cut, to the part', [run(CUT), run(COMPLETE, A)], 'a/', []],
    ['parts that overlap', [run(CUT, { prefixes: ['a/b/'] }), run(COMPLETE, A)], 'a/', []],
    [
      'a part of a part, after all',
      [run(COMPLETE), run(CUT, { prefixes: ['a/b/'] }), run(COMPLETE, A)],
      '',
      [],
    ],
    [
      'what is unreadable of a run that was cut',
      [run(CUT, undefined, { unreadable: 2 })],
      '',
      [/interrupted/, /could not read 2 /],
    ],
    [
      'what a limit has ended, and is unreadable',
      [run('incomplete', undefined, { unreadable: 1, incomplete: 'max-objects' })],
      '',
      [/incomplete/, /could not read 1 /],
    ],
    ['what a part is in', [run(CUT, { prefixes: ['a/b/'] })], 'a/', [/interrupted/]],
    [
      'what is archived, after a part',
      [run(COMPLETE, undefined, { archived: 3 }), run(COMPLETE, A)],
      '',
      [/3 archived/],
    ],
    [
      'what is unreadable, once and with its number',
      [run('incomplete', undefined, { unreadable: 2 })],
      '',
      [/could not read 2 /],
    ],
  ] as [string, RunReport[], string, RegExp[]][]) {
    it(`is known of ${what}`, () => {
      const gaps = gapsOf(history(...runs), prefix)
      assert.equal(gaps.length, says.length, gaps.join('; '))
      for (const [i, pattern] of says.entries()) assert.match(gaps[i]!, pattern)
    })
  }

  it('is known of a part that was cut, however many others were complete since', () => {
    const parts = Array.from({ length: 300 }, (_, i) => run(COMPLETE, { prefixes: [`${i}/`] }))
    const runs = history(run(COMPLETE), run(CUT, A), ...parts)
    assert.match(gapsOf(runs, 'a/').join(), /"a\/" was interrupted/)
  })

  it('is read from what older ones have stored', () => {
    assert.deepEqual(asHistory({ ...run(COMPLETE), earlier: 'failed' })?.earlier, [])
    assert.equal(asHistory(undefined), undefined)
  })

  it('is known of many parts, and of everything longest', () => {
    const parts = Array.from({ length: 300 }, (_, i) => run(CUT, { prefixes: [`${i}/`] }))
    const runs = history(run(CUT), ...parts)
    assert.ok(runs!.earlier.length <= 100)
    assert.equal(runs!.earlier.at(-1)!.part, undefined)
    assert.match(gapsOf(runs, '299/').join(), /"299\/" was interrupted/)
    assert.match(gapsOf(runs, '0/').join(), /last index run was interrupted/)
  })
})
