/** What a case is, and how it is run. */
import { join } from 'node:path'
import { type Command, cpuOf, type Measurement, measure } from './measure.ts'

export interface Contender {
  /** Such as `rclone --checkers 8`. */
  name: string
  command: Command
  /** How much a run of it does, in the case's unit. */
  amount: number
  /** Is called before each run, outside of what is measured. */
  prepare?(): Promise<void>
  /** Is called once, with the file of what it printed. Throws where that or its work is wrong. */
  check?(stdout: string): Promise<void> | void
}

export interface Case {
  title: string
  /** What CPU time is counted by. */
  unit: 'GB' | 'object' | 'key'
  contenders: Contender[]
  /** Pairs of contenders: the first is compared with the second. */
  ratios: [Contender, Contender][]
  /** The process that serves them, where it is known. */
  serverPid: number | undefined
  /** Is called at the end. Returns lines to print below the table; throws where something is wrong. */
  conclude?(results: Result[]): Promise<string[]>
  close?(): Promise<void>
}

export interface Run extends Measurement {
  /** CPU time that the server used meanwhile, seconds; undefined where it is not known. */
  serverCpu: number | undefined
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

/**
 * Runs the contenders in turn, A B A B, so that what changes on the machine meanwhile meets all of
 * them. The first round warms caches and is checked; it does not count. Throws where a run fails or
 * is wrong.
 */
export async function runCase(
  { contenders, serverPid }: Case,
  { runs, dir, signal, say }: RunOptions,
): Promise<Result[]> {
  const results = contenders.map((contender): Result => ({ contender, runs: [] }))
  const stdout = join(dir, 'stdout')
  for (let round = 0; round <= runs; round++) {
    for (const { contender, runs: counted } of results) {
      say(`${round === 0 ? 'warm-up' : `run ${round} of ${runs}`}, ${contender.name}`)
      await contender.prepare?.()
      const before = serverPid && cpuOf(serverPid)
      const measured = await measure(contender.command, stdout, signal)
      const serverCpu = before === undefined ? undefined : cpuOf(serverPid!) - before
      if (round === 0) await contender.check?.(stdout)
      else counted.push({ ...measured, serverCpu })
    }
  }
  return results
}
