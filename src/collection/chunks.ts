/** What takes long, a piece at a time. */
import { setImmediate } from 'node:timers/promises'

const CHUNK = 256 * 1024
const PIECES_AT_ONCE = 4096

/**
 * Yields what there is, without what is undefined. Lets signals and timers have their turn in between;
 * rejects with what the signal was aborted with.
 */
export async function* turns<T>(
  all: Iterable<T | undefined>,
  signal: AbortSignal,
): AsyncIterable<T> {
  const turn = turnTaker(signal)
  for (const each of all) {
    if (each !== undefined) yield each
    const pause = turn()
    if (pause !== undefined) await pause
  }
}

/**
 * Gathers pieces of text, some of which may be empty, into chunks of UTF-8. Lets signals and timers
 * have their turn between the pieces; rejects with what the signal was aborted with.
 */
export async function* chunks(
  pieces: Iterable<string>,
  signal: AbortSignal,
): AsyncIterable<Buffer> {
  const turn = turnTaker(signal)
  let text = ''
  // Not by turns(): a promise for each piece would cost more than the piece.
  for (const piece of pieces) {
    text += piece
    if (text.length >= CHUNK) {
      yield Buffer.from(text)
      text = ''
    }
    const pause = turn()
    if (pause !== undefined) await pause
  }
  if (text !== '') yield Buffer.from(text)
}

/** Returns what is to be called for each piece: at some it returns a promise to wait for. */
function turnTaker(signal: AbortSignal): () => Promise<void> | undefined {
  let count = 0
  return () => (++count % PIECES_AT_ONCE === 0 ? takeTurn(signal) : undefined)
}

async function takeTurn(signal: AbortSignal): Promise<void> {
  await setImmediate()
  signal.throwIfAborted()
}
