/** What a run of `keepgw index` is asked to do, and what it refuses. */
import { relative } from 'node:path'
import { UsageError } from '../errors.ts'
import { showKey } from '../remote/key.ts'
import type { RemoteSpec } from '../remote/remote.ts'
import { formatSpec } from '../remote/spec.ts'
import type { RunLimits } from './budget.ts'
import type { IndexObserver } from './run-tally.ts'
import type { Scope } from './scope.ts'

/** What one run is to do, and who hears of it. */
export interface IndexOptions {
  /** Directory of the mapping tree. */
  mappings: string
  remote: RemoteSpec
  scope: Scope
  /** Segments read at once. */
  concurrency: number
  /** Ranges of keys that are listed at once; by default what is safe with the store. */
  listConcurrency?: number | undefined
  /** Threads that read and hash. */
  workers: number
  /**
   * Takes hashes from ETags where they are MD5s, all but those of a sample (a share, 0 to 1).
   * Otherwise, what earlier runs took so is read.
   */
  trustEtags?: { sample: number } | undefined
  /** Percent of the objects in question that may be dropped. */
  allowDrop: number
  /** Where the run ends early; a limited run drops nothing, and a dry one takes no notice. */
  limits: RunLimits
  /** Bytes of objects that are read in a second, by all threads. */
  bandwidthLimit?: number | undefined
  breakLock: boolean
  /** Only say what would be done: no object is read or recorded. */
  dryRun: boolean
  /** Aborting ends the run early; what was read is recorded. */
  signal: AbortSignal
  observer: IndexObserver
}

/** Throws UsageError for what cannot be done, however good the remote and the mapping are. */
export function checkOptions(options: IndexOptions): void {
  refuseOwnDirectory(options)
  refuseTrust(options)
  refuseElsewhere(options)
}

/** A mapping among the files that it is of would index itself, and grow with each run. */
function refuseOwnDirectory({ remote, mappings }: IndexOptions): void {
  if (remote.kind !== 'directory') return
  const way = relative(remote.root, mappings)
  if (way === '..' || way.startsWith('../')) return
  throw new UsageError(`the mapping ${mappings} lies in the directory that is indexed`, {
    hint: 'Name another one with --mappings DIR',
  })
}

/** Prefixes of a part of a bucket are of whole keys, too: others would list nothing, and say that it is all. */
function refuseElsewhere({ remote, scope }: IndexOptions): void {
  if (remote.kind !== 's3') return
  const { prefix: part = '' } = remote
  const odd = scope.prefixes.find((each) => !each.startsWith(part) && !part.startsWith(each))
  if (odd === undefined) return
  throw new UsageError(`--prefix ${showKey(odd)} is not in ${formatSpec(remote)}`, {
    hint: `It is the beginning of whole keys: ${showKey(part)}${part.endsWith('/') ? '' : '…'}`,
  })
}

function refuseTrust({ remote, trustEtags }: IndexOptions): void {
  if (trustEtags === undefined || remote.kind !== 'directory') return
  throw new UsageError('files have no ETag to trust', { hint: 'Leave --etag=trust out' })
}
