/** What several processes may do for one address, and what each of them has of it. */
import { UsageError } from '../errors.ts'
import { parseVolume } from '../volume/spec.ts'
import type { ServerSettings } from './start.ts'

/**
 * Returns how many processes answer; throws UsageError for volumes that only one process can look after:
 * it has the lists of what to trash and to pull, and the turns at a disk that serves one at a time.
 */
export function workerSettings(workers: number, volumes: readonly string[]): number {
  const single = workers > 1 ? volumes.find((each) => !isForMany(each)) : undefined
  if (single === undefined) return workers
  throw new UsageError(`--workers ${workers} does not go with ${single}`, {
    hint: 'Volumes that take blocks, or are serialized, are for one process: leave out --workers, or say readonly',
  })
}

/** Returns the part that one of several processes has of what is bounded: at least 1 of each. */
export function shareOf(settings: ServerSettings, workers: number): ServerSettings {
  // 0 is no limit.
  const share = (max: number) => (max === 0 ? 0 : Math.max(1, Math.floor(max / workers)))
  const { maxRequests, maxBlocks, readAhead } = settings
  return {
    ...settings,
    maxRequests: share(maxRequests),
    maxBlocks: share(maxBlocks),
    readAhead: share(readAhead),
  }
}

function isForMany(volume: string): boolean {
  const spec = parseVolume(volume)
  if (spec.kind === 'mapped') return true
  return spec.readOnly && !(spec.kind === 'unix' && spec.serialize)
}
