/** What one run of a command costs: wall and CPU time of all its processes, and their memory. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'

/** A command line and the whole environment it is to run in. */
export interface Command {
  /** As people are told of it: without the paths of this machine. */
  shown: string
  args: string[]
  env: NodeJS.ProcessEnv
}

export interface Measurement {
  /** From start to end, seconds. */
  wall: number
  /** User and system time of the command and all that it waited for, seconds. */
  cpu: number
  /** The most memory seen that is not backed by files, bytes, all processes together. */
  rssAnon: number
  /** The most resident memory seen, bytes, all processes together. */
  rss: number
  /** From a request to the first byte of the data, the median, seconds. */
  firstByte?: number
  /** From a request to the end of the data, the 99th percentile, seconds. */
  slowest?: number
}

/** The most that was seen of each. */
export type Peak = Pick<Measurement, 'rssAnon' | 'rss'>

/** Often enough to see a peak, seldom enough to cost the two of them nothing. */
const SAMPLE_MS = 20
/** The shell's `time` asks the kernel for the CPU of those it has reaped: exact, and everywhere. */
const TIMED = `TIMEFORMAT='%3R %3U %3S'; { time "$@" 2>&4 3>&- 4>&-; } 4>&2 2>&3`
/** The kernel counts CPU time for others in these; it has been 100 a second on Linux for ever. */
const TICKS_A_SECOND = 100
/** What is shown of a failed command's complaints, characters. */
const COMPLAINT = 2000

/**
 * Runs the command to its end, with its output in the file `stdout`. Throws where it does not end
 * with 0, with the end of what it said. Aborting kills it and what it started.
 */
export async function measure(
  command: Command,
  stdout: string,
  signal: AbortSignal,
): Promise<Measurement> {
  signal.throwIfAborted()
  const output = openSync(stdout, 'w')
  const shell = spawn('bash', ['-c', TIMED, 'bash', ...command.args], {
    env: command.env,
    stdio: ['ignore', output, 'pipe', 'pipe'],
    // A group of its own, so that all of it can be killed.
    detached: true,
  })
  closeSync(output)
  const kill = (): void => void process.kill(-shell.pid!, 'SIGKILL')
  signal.addEventListener('abort', kill)
  // Not the shell itself.
  const peak = watchMemory(() => descendants(shell.pid!))
  try {
    const [complaints, times] = await Promise.all([
      text(shell.stderr!),
      text(shell.stdio[3] as Readable),
      shell.exitCode === null && once(shell, 'exit'),
    ])
    signal.throwIfAborted()
    if (shell.exitCode !== 0) {
      const said = complaints.trimEnd().slice(-COMPLAINT)
      throw new Error(`${command.shown}\nended with ${shell.exitCode}: ${said}`)
    }
    const [wall, user, system] = times.trim().split(' ').map(Number) as [number, number, number]
    return { wall, cpu: user + system, ...peak.stop() }
  } finally {
    peak.stop()
    signal.removeEventListener('abort', kill)
  }
}

/** Returns the CPU time that a running process has used up to now, all its threads, seconds. */
export function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // The name before may hold anything; user and system time are fields 14 and 15 (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND
}

/** Looks at the memory of the processes every 20 ms, until `stop`, which returns the most there was. */
export function watchMemory(pids: () => number[]): { stop(): Peak } {
  const peak: Peak = { rssAnon: 0, rss: 0 }
  const sampler = setInterval(() => sample(pids(), peak), SAMPLE_MS)
  return {
    stop() {
      clearInterval(sampler)
      return peak
    },
  }
}

/** Raises the peaks to what the processes have now. */
function sample(pids: number[], peak: Peak): void {
  let rssAnon = 0
  let rss = 0
  for (const pid of pids) {
    const status = readProc(`/proc/${pid}/status`)
    rssAnon += kilobytes(status, 'RssAnon')
    rss += kilobytes(status, 'VmRSS')
  }
  peak.rssAnon = Math.max(peak.rssAnon, 1024 * rssAnon)
  peak.rss = Math.max(peak.rss, 1024 * rss)
}

/**
 * Returns the processes below this one, as far as their main threads have started them. One that is about to
 * become another program (between fork and exec) is left out: its memory is still its parent's.
 */
export function descendants(pid: number): number[] {
  const children = readProc(`/proc/${pid}/task/${pid}/children`).trim()
  if (children === '') return []
  const commandLine = (of: number | string): string => readProc(`/proc/${of}/cmdline`)
  const own = commandLine(pid)
  return children
    .split(' ')
    .filter((child) => commandLine(child) !== own)
    .flatMap((child) => [Number(child), ...descendants(Number(child))])
}

function kilobytes(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
}

/** Empty for a process that is gone. */
function readProc(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
