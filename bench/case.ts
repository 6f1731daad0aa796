/** What a case is, and how it is run. */
import { join } from 'node:path'
import { type Command, cpuOf, type Measurement, measure } from './measure.ts'

export interface Contender {
  /** Such as `rclone --checkers 8`. */
  name: string
  /** What it runs, as people are told of it: without the paths of this machine. */
  shown: string
  /** How much a run of it does, in the case's unit. */
  amount: number
  /** Does its work once, with what it prints in the file. Throws where that fails. */
  run(stdout: string, signal: AbortSignal): Promise<Measurement>
  /** Is called before each run, outside of what is measured. */
  prepare?(): Promise<void>
  /** Is called once, with the file of what it printed. Throws where that or its work is wrong. */
  check?(stdout: string): Promise<void> | void
}

export interface Case {
  title: string
  /** What CPU time is counted by. */
  unit: 'GB' | 'object' | 'key' | 'request' | 'block'
  contenders: Contender[]
  /** Pairs of contenders: the first is compared with the second. */
  ratios: [Contender, Contender][]
  /** The store's process, where it is known. */
  storePid: number | undefined
  /** Is called at the end. Returns lines to print below the table; throws where something is wrong. */
  conclude?(results: Result[]): Promise<string[]>
  close?(): Promise<void>
}

export interface Run extends Measurement {
  /** CPU time that the store used meanwhile, seconds; undefined where it is not known. */
  storeCpu: number | undefined
}

export interface Result {
  contender: Contender
  runs: Run[]
}

export interface RunOptions {
  /** Runs of each contender that count. */
  runs: number
  /** Directory for what the contenders print. */
  dir: string
  signal: AbortSignal
  /** Is told each step. */
  say(step: string): void
}

/** Returns what a contender runs that is a command, started anew each time. */
export function ofCommand(command: Command): Pick<Contender, 'shown' | 'run'> {
  return {
    shown: command.shown,
    run: (stdout, signal) => measure(command, stdout, signal),
  }
}

/**
 * Runs the contenders in turn, A B A B, so that what changes on the machine meanwhile meets all of
 * them. The first round warms caches and is checked; it does not count. Throws where a run fails or
 * is wrong.
 */
export async function runCase(
  { contenders, storePid }: Case,
  { runs, dir, signal, say }: RunOptions,
): Promise<Result[]> {
  const results = contenders.map((contender): Result => ({ contender, runs: [] }))
  const stdout = join(dir, 'stdout')
  for (let round = 0; round <= runs; round++) {
    for (const { contender, runs: counted } of results) {
      say(`${round === 0 ? 'warm-up' : `run ${round} of ${runs}`}, ${contender.name}`)
      await contender.prepare?.()
      const before = storePid && cpuOf(storePid)
      const measured = await contender.run(stdout, signal)
      const storeCpu = before === undefined ? undefined : cpuOf(storePid!) - before
      if (round === 0) await contender.check?.(stdout)
      else counted.push({ ...measured, storeCpu })
    }
  }
  return results
}
