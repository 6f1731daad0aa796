/** What all requests of one server share. */
import type { Logger } from 'pino'
import type { FailureMemory } from '../volume/failure-memory.ts'
import type { Volume } from '../volume/volume.ts'
import type { Counters } from './counters.ts'

/** The tokens that administrators' requests must carry; one that is not set opens nothing. */
export interface ServerTokens {
  /** For the index and the status. */
  systemRoot?: string | undefined
  /** For health and the status. */
  management?: string | undefined
}

export interface Service {
  volumes: readonly Volume[]
  tokens: ServerTokens
  log: Logger
  counters: Counters
  /** Places that failed lately. */
  failures: FailureMemory
  /** Milliseconds a place may be silent. */
  idleLimit: number
}
