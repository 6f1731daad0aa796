/** Cells of indexing where the run is killed, stopped, or not alone: no crash costs what was learnt. */
import assert from 'node:assert/strict'
import { type Kill, killAtRequest, killAtSync } from '../../crashes/kill.ts'
import { assertHonest, inspect } from '../../crashes/state.ts'
import { until } from '../../e2e/keepgw.ts'
import { Bench, keyOfLine, preload, put } from './bench.ts'
import type { Cell, CellOptions } from './cell.ts'
import { ANSWERS, isAbout, isList } from './faults.ts'
import { assertEnds, assertMadeGood, indexArgs } from './indexing.ts'
import type { Lab } from './lab.ts'
import { FIRST, pages } from './listing-cases.ts'

/** What is killed: an index, to which all is new, or a line comes to a file, or goes; or a repair. */
type Work = 'all is new' | 'a line is added' | 'a line is removed' | '--repair of a line'

interface CrashCase extends CellOptions {
  moment: string
  work: Work
  kill: (bench: Bench) => Kill
  /** Whether the catalog has the batch's intent by then. */
  intent: boolean
}

function crashCells(cases: readonly CrashCase[]): Cell[] {
  return cases.map(({ moment, work, kill, intent, quick, safeguards = [] }) => ({
    operation: work === '--repair of a line' ? 'verify' : 'index',
    fault: `kill -9 (${work})`,
    moment,
    expected: intent
      ? 'the next run finishes the batch; nothing is read twice'
      : 'the next run reads all',
    quick: quick === true,
    safeguards,
    run: (lab) => runCrash(lab, work, kill, intent),
  }))
}

async function runCrash(
  lab: Lab,
  work: Work,
  kill: CrashCase['kill'],
  intent: boolean,
): Promise<void> {
  await using bench = await Bench.open(lab, { kind: 'plain' }, { fast: true })
  const { mapping, dir: scratch, env, proxy } = bench
  if (work === 'a line is added') {
    assertEnds(await bench.run(indexArgs(bench, ['--exclude=twin/b'])), 0)
  } else if (work === 'a line is removed') {
    await bench.copyMapping()
    for (const wire of pages({ [FIRST]: { objects: [0, 16], more: false } })(lab)) put(proxy, wire)
  } else if (work === '--repair of a line') {
    await bench.copyMapping()
    put(proxy, { match: isAbout('twin/b'), fault: ANSWERS['404 NoSuchKey'] })
  }
  const args = work === '--repair of a line' ? repairArgs(bench) : indexArgs(bench)
  const died = await kill(bench)({ args, env, mapping, scratch })
  assert.ok(died, 'the run was not killed')
  const state = await inspect(mapping)
  assertHonest(state)
  assert.equal(state.intent !== undefined, intent, 'whether there is an intent')
  await bench.mend()
  // What was repaired has to be read anew.
  await assertMadeGood(bench, work === '--repair of a line' ? 1 : 0)
}

function repairArgs({ mapping }: Bench): string[] {
  return ['verify', '--all', '--repair', '--mappings', mapping]
}

/** Dies by itself, at a call that writes to the tree. */
function killAtCall(call: string): (bench: Bench) => Kill {
  return (bench) => async (victim) => {
    const env = { ...victim.env, KEEPGW_TEST_CRASH: call }
    preload(env, 'crash')
    const child = bench.start(victim.args, env)
    await bench.ended(child)
    return child.signalCode === 'SIGKILL'
  }
}

const crashes = crashCells([
  {
    moment: 'at the listing',
    work: 'all is new',
    kill: ({ proxy }) => killAtRequest(1, proxy),
    intent: false,
  },
  {
    moment: 'at the fifth read',
    work: 'all is new',
    kill: ({ proxy }) => killAtRequest(6, proxy),
    intent: false,
  },
  {
    moment: 'before the first line',
    work: 'all is new',
    kill: killAtCall('before writeFileSync 1'),
    intent: true,
    safeguards: ['the lines come before the commit'],
  },
  {
    moment: 'between the lines',
    work: 'all is new',
    kill: killAtCall('before writeFileSync 7'),
    intent: true,
    quick: true,
    safeguards: ['the intent comes first', 'the lines come before the commit'],
  },
  {
    moment: 'in the middle of a line',
    work: 'all is new',
    kill: killAtCall('half writeFileSync 7'),
    intent: true,
    safeguards: ['the intent comes first'],
  },
  {
    moment: 'before the lines are on disk',
    work: 'all is new',
    kill: () => killAtSync(1, 'before'),
    intent: true,
    safeguards: ['the sync comes before the commit'],
  },
  {
    moment: 'between the lines and the commit',
    work: 'all is new',
    kill: () => killAtSync(1, 'after'),
    intent: true,
    quick: true,
    safeguards: ['the intent comes first', 'the sync comes before the commit'],
  },
  {
    moment: 'in the middle of the line',
    work: 'a line is added',
    kill: killAtCall('half appendFileSync 1'),
    intent: true,
    safeguards: ['the intent comes first'],
  },
  {
    moment: 'behind the line',
    work: 'a line is added',
    kill: killAtCall('after appendFileSync 1'),
    intent: true,
    safeguards: ['the intent comes first'],
  },
  {
    moment: 'in the middle of the new file',
    work: 'a line is removed',
    kill: killAtCall('half writeFileSync 1'),
    intent: true,
  },
  {
    moment: 'before the new file takes the old one’s name',
    work: 'a line is removed',
    kill: killAtCall('before renameSync 1'),
    intent: true,
  },
  {
    moment: 'behind that',
    work: 'a line is removed',
    kill: killAtCall('after renameSync 1'),
    intent: true,
    safeguards: ['the intent comes first'],
  },
  {
    moment: 'in the middle of the new file',
    work: '--repair of a line',
    kill: killAtCall('half writeFileSync 1'),
    intent: true,
  },
  {
    moment: 'before the new file takes the old one’s name',
    work: '--repair of a line',
    kill: killAtCall('before renameSync 1'),
    intent: true,
  },
  {
    moment: 'between the line and the commit',
    work: '--repair of a line',
    kill: () => killAtSync(2, 'after'),
    intent: true,
    safeguards: ['the intent comes first'],
  },
])

const stopped: Cell = {
  operation: 'index',
  fault: 'SIGTERM while the store is silent',
  moment: 'in the middle of an object',
  expected: 'exit 130; what was read is kept',
  quick: true,
  safeguards: [],
  async run(lab) {
    await using bench = await Bench.open(lab, { kind: 'plain' })
    const silent = put(bench.proxy, {
      match: isAbout('pieces'),
      fault: { kind: 'stall', at: 1000 },
    })
    const child = bench.start(indexArgs(bench))
    const others = (): number => bench.proxy.requests.filter(({ status }) => status === 206).length
    await until(
      () => (silent.hits > 0 && others() === lab.objects.length) || child.exitCode !== null,
    )
    child.kill('SIGTERM')
    const { code, stderr } = await bench.ended(child)
    assert.equal(code, 130, stderr)
    await bench.mend()
    await assertMadeGood(bench)
  },
}

/** Another command, while a run holds the lock. */
function lockCell(fault: string, other: (bench: Bench) => string[], quick = false): Cell {
  return {
    operation: 'index',
    fault,
    moment: 'in the middle of a run',
    expected: 'exit 4, and the run is unharmed',
    quick,
    safeguards: ['the lock'],
    async run(lab) {
      await using bench = await Bench.open(lab, { kind: 'plain' })
      await bench.copyMapping()
      put(bench.proxy, { match: isAbout('note/03'), fault: ANSWERS['404 NoSuchKey'] })
      const silent = put(bench.proxy, { match: isList, fault: { kind: 'stall' }, times: 1 })
      const first = bench.start(indexArgs(bench))
      await until(() => silent.hits > 0 || first.exitCode !== null)
      const second = await bench.run(other(bench))
      assertEnds(second, 4, new RegExp(`locked by keepgw index \\(pid ${first.pid} `))
      await bench.mend()
      assertEnds(await bench.ended(first), 0)
      await assertMadeGood(bench)
    },
  }
}

export const indexCrashCells: Cell[] = [
  ...crashes,
  stopped,
  lockCell('another index', (bench) => indexArgs(bench), true),
  lockCell('verify --repair of what is gone', ({ lab, mapping }) => {
    const line = lab.reference.lines.find((each) => keyOfLine(each) === 'note/03')!
    return ['verify', line.slice(0, 32), '--repair', '--allow-drop=100', '--mappings', mapping]
  }),
]
