/** What it costs a service to answer one client: the client's times, the service's CPU and memory. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { cpuOf, descendants, type Measurement, watchMemory } from './measure.ts'
import type { Job, Timings } from './reader.ts'
import { median } from './table.ts'

/**
 * Has a client, a script beside this one, do its job. Returns its times, with the CPU and the memory
 * of the process `pid` and those below it meanwhile. Throws where the client fails.
 */
export async function measureLoad(
  pid: number,
  script: './reader.ts' | './index-reader.ts',
  job: Job | IndexJob,
  signal: AbortSignal,
): Promise<Measurement> {
  const pids = () => [pid, ...descendants(pid)]
  const cpu = () => pids().reduce((sum, each) => sum + cpuOf(each), 0)
  const before = cpu()
  const peak = watchMemory(pids)
  try {
    const { wall, firstBytes, ends } = await runClient(script, job, signal)
    const times = { firstByte: median(firstBytes), slowest: percentile(ends, 0.99) }
    return { wall, cpu: cpu() - before, ...times, ...peak.stop() }
  } finally {
    peak.stop()
  }
}

/** The index is to be read. */
export interface IndexJob {
  port: number
  /** Blocks that there must be. */
  blocks: number
}

/** Returns the client's times. Throws where it ends with an error. */
export async function runClient(
  script: './reader.ts' | './index-reader.ts',
  job: Job | IndexJob,
  signal: AbortSignal,
): Promise<Timings> {
  const file = fileURLToPath(new URL(script, import.meta.url))
  const child = spawn(process.execPath, [file], { signal, stdio: ['pipe', 'pipe', 'pipe'] })
  const exited = once(child, 'exit')
  child.stdin.end(JSON.stringify(job))
  const [answer, complaints, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    exited,
  ])
  if (code !== 0) throw new Error(`the client failed: ${complaints.trim().slice(-2000)}`)
  return JSON.parse(answer)
}

/** Returns the least value that a share of them do not exceed. */
function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.ceil(share * sorted.length) - 1]!
}
