/** Reads on where a connection broke, instead of from the start. */
import { setTimeout } from 'node:timers/promises'
import { type ReadRequest, RemoteError, type RemoteReader, type Sink } from './remote.ts'

/** Breaks in a row, without a byte in between, after which a read is given up. */
const MAX_BREAKS = 3
const FIRST_PAUSE_MS = 200

/**
 * As RemoteStore.read, but a body that breaks off is read on from the byte reached, on a new
 * connection, as long as that makes progress. Sink and `delivered` see one continuous read.
 */
export async function readResuming(
  remote: RemoteReader,
  request: ReadRequest,
  sink: Sink,
  signal?: AbortSignal,
): Promise<void> {
  let reached = 0
  let breaks = 0
  while (true) {
    const { offset, length } = request
    try {
      const rest = { ...request, offset: offset + reached, length: length - reached }
      return await remote.read(rest, sink, signal)
    } catch (error) {
      if (!(error instanceof RemoteError)) throw error
      reached += error.delivered
      breaks = error.delivered > 0 ? 1 : breaks + 1
      // Before the first byte the store itself has tried again.
      const worthIt = reached > 0 && reached < length && breaks <= MAX_BREAKS
      if (error.failure !== 'unreachable' || !worthIt) throw withDelivered(error, reached)
      await setTimeout(FIRST_PAUSE_MS * 2 ** (breaks - 1), undefined, signal ? { signal } : {})
    }
  }
}

function withDelivered(error: RemoteError, delivered: number): RemoteError {
  return new RemoteError(error.failure, error.message, {
    cause: error.cause,
    delivered,
    archived: error.archived,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
}
