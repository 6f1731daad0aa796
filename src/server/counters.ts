/** What a server has done since it started. */
import type { FailoverCause } from '../volume/source-walk.ts'
import type { ErrorKind } from './errors.ts'

/** Counts, all of them since the start; added to by the one thread that serves. */
export class Counters {
  readonly #started = performance.now()
  /** Requests that are being answered now. */
  running = 0
  /** Requests that came, answered or not. */
  requests = 0
  /** Answers by their HTTP status. */
  readonly statuses: Record<string, number> = {}
  /** Blocks sent whole. */
  blocks = 0
  /** Bytes of answers' bodies. */
  bytes = 0
  readonly errors: Record<ErrorKind, number> = {
    refused: 0,
    'not-found': 0,
    corrupt: 0,
    unreachable: 0,
    internal: 0,
    cut: 0,
  }
  /** Places that were given up for another one. */
  readonly failovers: Record<FailoverCause, number> = {
    gone: 0,
    changed: 0,
    unreachable: 0,
    corrupt: 0,
  }

  /** Seconds since the start. */
  get uptime(): number {
    return (performance.now() - this.#started) / 1000
  }

  /** Counts an answer by its status. */
  answered(status: number): void {
    this.statuses[status] = (this.statuses[status] ?? 0) + 1
  }
}
