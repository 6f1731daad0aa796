/** What the processes of a running `keepgw serve` hold, as Linux says. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import type { Served } from '../e2e/keepgw.ts'

/** Why tests are skipped where there is no /proc; undefined where there is. */
export const NO_PROC = existsSync('/proc/self/status') ? undefined : 'needs Linux: reads /proc'

/** What one process holds, or several together. */
export interface Holding {
  /** Bytes that are its own: neither files nor memory shared with others. */
  rssAnon: number
  /** All bytes in memory. */
  rss: number
  descriptors: number
}

/** Returns the process that was started, and its workers. */
export function processesOf({ process: { pid } }: Pick<Served, 'process'>): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return [pid!, ...children.split(' ').filter(Boolean).map(Number)]
}

/** Returns what a process holds now. Throws where it has ended. */
export function holdingOf(pid: number): Holding {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const bytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024
  const descriptors = readdirSync(`/proc/${pid}/fd`).length
  return { rssAnon: bytes('RssAnon'), rss: bytes('VmRSS'), descriptors }
}

/** Returns what the processes of a server hold together. */
export function holdingOfAll(served: Pick<Served, 'process'>): Holding {
  const sum: Holding = { rssAnon: 0, rss: 0, descriptors: 0 }
  for (const { rssAnon, rss, descriptors } of processesOf(served).map(holdingOf)) {
    sum.rssAnon += rssAnon
    sum.rss += rss
    sum.descriptors += descriptors
  }
  return sum
}
