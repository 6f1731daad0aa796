/** Text on its way out. */
import { setImmediate } from 'node:timers/promises'

const CHUNK = 256 * 1024
const PIECES_AT_ONCE = 4096

/**
 * Gathers pieces of text, some of which may be empty, into chunks of UTF-8. Lets signals and timers
 * have their turn between the pieces; rejects with what the signal was aborted with.
 */
export async function* chunks(
  pieces: Iterable<string>,
  signal: AbortSignal,
): AsyncIterable<Buffer> {
  let text = ''
  let count = 0
  for (const piece of pieces) {
    text += piece
    if (text.length >= CHUNK) {
      yield Buffer.from(text)
      text = ''
    }
    if (++count % PIECES_AT_ONCE !== 0) continue
    await setImmediate()
    signal.throwIfAborted()
  }
  if (text !== '') yield Buffer.from(text)
}
