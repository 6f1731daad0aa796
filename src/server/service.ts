/** What all requests of one server share. */
import type { Logger } from 'pino'
import type { HashEngine } from '../hash/md5.ts'
import type { SigningKey } from '../keep/signature.ts'
import type { BlockCache } from '../volume/cache/cache.ts'
import type { FailureMemory } from '../volume/failure-memory.ts'
import type { Hedging } from '../volume/hedging.ts'
import type { ReadAhead } from '../volume/read-ahead.ts'
import type { Counters } from './counters.ts'
import type { Limit } from './limit.ts'
import type { MeteredVolume } from './metered-volume.ts'
import type { Metrics } from './metrics.ts'
import type { Mount } from './mounts.ts'
import type { Snapshot } from './snapshot.ts'
import type { ClientTimeouts } from './timeouts.ts'
import type { Writes } from './writes.ts'

/** The tokens that administrators' requests must carry; one that is not set opens nothing. */
export interface ServerTokens {
  /** For the index, the mounts, the status, and what keep-balance sends. */
  systemRoot?: string | undefined
  /** For health, the metrics and the status. */
  management?: string | undefined
}

/** How HEAD finds out whether a block is there: it asks a place, or reads and proves the data. */
export type HeadMode = 'if-match' | 'read'

/** One server's: made before it listens, and the same for all requests. */
export interface Service {
  /** The volumes as they are shown to keep-balance; what is read goes through `volumes`. */
  mounts: readonly Mount[]
  /** The mounts' volumes, in the order in which they are asked for a block. */
  volumes: readonly MeteredVolume[]
  tokens: ServerTokens
  /** Blocks are given to those alone whom a locator is signed for; to everybody if undefined. */
  signing: SigningKey | undefined
  head: HeadMode
  limits: { requests: Limit; blocks: Limit }
  /** What writing needs; undefined for a service that is read-only. */
  writes?: Writes | undefined
  /** What GET asks first; HEAD asks the volumes alone. */
  cache: BlockCache | undefined
  log: Logger
  counters: Counters
  metrics: Metrics
  /** Returns what all servers of this address have counted. */
  snapshot(): Promise<Snapshot>
  /** Places that failed lately. */
  failures: FailureMemory
  /** Hashes the blocks that are read. */
  engine: HashEngine
  /** Memory for what is read ahead. */
  readAhead: ReadAhead
  /** When slow places are raced; undefined: never. */
  hedging: Hedging | undefined
  /** Milliseconds a place may be silent. */
  idleLimit: number
  timeouts: ClientTimeouts
}

/** A service with a volume that takes blocks. */
export type WritingService = Service & { writes: Writes }

/** True for a service that takes blocks. */
export function isWriting(service: Service): service is WritingService {
  return service.writes !== undefined
}
