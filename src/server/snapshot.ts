/** What a server has counted, as plain data: it can go to another process, and adds up. */
import type { BlockCache } from '../volume/cache/cache.ts'
import type { Counters } from './counters.ts'
import { addMetrics, type MetricObject, type Metrics } from './metrics.ts'

/** Numbers by their names, in groups. */
interface Counts {
  [name: string]: number | Counts
}

/** What one server has counted, or several together. */
export interface Snapshot {
  uptimeSeconds: number
  /** Since the start. */
  counts: Counts
  /** Bytes in the cache, which is the same for all servers of an address, and how many it may have. */
  cache?: { bytes: number; maxBytes: number } | undefined
  metrics: MetricObject[]
}

/** What a snapshot is made of. */
export interface SnapshotParts {
  counters: Counters
  metrics: Metrics
  cache: BlockCache | undefined
}

/** Returns what one server has counted up to now. */
export async function takeSnapshot(parts: SnapshotParts): Promise<Snapshot> {
  const { counters, metrics, cache } = parts
  const { uptime, requests, running, statuses, blocks, bytes, errors, failovers, hedges } = counters
  const shared = {
    requests: { total: requests, running, byStatus: { ...statuses } },
    blocks,
    bytes,
    errors: { ...errors },
    failovers: { ...failovers },
    hedges: { ...hedges },
  }
  return {
    uptimeSeconds: uptime,
    counts: cache === undefined ? shared : { ...shared, cache: { ...cache.counts } },
    cache: cache && { bytes: cache.bytes, maxBytes: cache.limit },
    metrics: await metrics.values(),
  }
}

/** Returns what the servers of one address have counted together; there must be at least one. */
export function mergeSnapshots(snapshots: readonly Snapshot[]): Snapshot {
  const caches = snapshots.flatMap(({ cache }) => cache ?? [])
  const [first] = caches
  return {
    uptimeSeconds: Math.max(...snapshots.map(({ uptimeSeconds }) => uptimeSeconds)),
    counts: snapshots.map(({ counts }) => counts).reduce(addUp),
    cache: first && { ...first, bytes: Math.max(...caches.map(({ bytes }) => bytes)) },
    metrics: addMetrics(snapshots.map(({ metrics }) => metrics)),
  }
}

/** Returns what still counts of a server that is no more: not what it was doing just then. */
export function retire({ counts, metrics }: Snapshot): Snapshot {
  const requests = { ...(counts.requests as Counts), running: 0 }
  return {
    uptimeSeconds: 0,
    counts: { ...counts, requests },
    metrics: metrics.filter(({ type }) => type !== 'gauge'),
  }
}

function addUp(a: Counts, b: Counts): Counts {
  const sum: Counts = { ...a }
  for (const [name, value] of Object.entries(b)) {
    const other = sum[name]
    if (typeof value === 'number') sum[name] = value + (typeof other === 'number' ? other : 0)
    else sum[name] = addUp(typeof other === 'object' ? other : {}, value)
  }
  return sum
}
