/** What a server has done since it started. */
import { RemoteError, type RemoteFailure } from '../remote/remote.ts'
import type { FailoverCause } from '../volume/source-walk.ts'
import { ReaderRefused } from '../volume/volume.ts'
import type { ErrorKind } from './errors.ts'

/** What was asked of one volume. */
export class VolumeCounts {
  /** `get` reads a place, `head` asks whether it is unchanged, `index` lists blocks; the rest changes one. */
  readonly operations = { get: 0, head: 0, index: 0, put: 0, touch: 0, trash: 0, untrash: 0 }
  readonly errors: Record<RemoteFailure, number> = { gone: 0, changed: 0, unreachable: 0 }
  /** Bytes read from it. */
  bytesIn = 0
  /** Bytes written to it. */
  bytesOut = 0

  /** Counts an error and returns it. What is not the volume's fault (a client gone) is not counted. */
  failed(error: unknown): unknown {
    if (error instanceof ReaderRefused) return error
    if (error instanceof RemoteError) this.errors[error.failure] += 1
    return error
  }
}

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
    refused: 0,
  }

  /** Requests beside others that were slow, by whether they were faster in the end. */
  readonly hedges = { won: 0, lost: 0 }

  /** By the volumes' device ids. */
  readonly volumes = new Map<string, VolumeCounts>()

  /** Returns the counts of a device, which begin at 0. */
  ofVolume(deviceId: string): VolumeCounts {
    const known = this.volumes.get(deviceId)
    if (known !== undefined) return known
    const counts = new VolumeCounts()
    this.volumes.set(deviceId, counts)
    return counts
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
