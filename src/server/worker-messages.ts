/** What the processes of one server say to each other. */
import type { ExitCode } from '../errors.ts'
import type { Snapshot } from './snapshot.ts'
import type { ServerSettings } from './start.ts'

/** From the primary to a worker. */
export type Order =
  /** The first one: what to serve, and with how many others. */
  | { type: 'serve'; settings: ServerSettings; processes: number }
  /** Send a `snapshot` of what was counted. */
  | { type: 'count'; id: number }
  /** What was asked for: all that was counted. */
  | { type: 'total'; id: number; snapshot: Snapshot }
  /** Say that you are. */
  | { type: 'alive?' }
  /** End when the answers under way are out. */
  | { type: 'stop' }

/** From a worker to the primary. */
export type Report =
  | { type: 'listening'; address: string; volumes: string[] }
  /** It could not start, and ends. */
  | { type: 'failed'; message: string; hint?: string | undefined; exitCode: ExitCode }
  | { type: 'alive' }
  | { type: 'snapshot'; id: number; snapshot: Snapshot }
  /** What it has counted itself; it wants a `total`. */
  | { type: 'ask'; id: number; snapshot: Snapshot }
