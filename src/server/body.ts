/** The bodies of requests, in memory that is bounded. */
import type { IncomingMessage } from 'node:http'
import type { Context } from './request.ts'

/** Returns the length that a request announces, if it does; Node has checked its form. */
export function announcedLength({ headers }: IncomingMessage): number | undefined {
  const text = headers['content-length']
  return text === undefined ? undefined : Number(text)
}

/**
 * Reads a request's body into the buffer, and tells of each piece. Returns the number of bytes, or
 * undefined for a body that is longer than the buffer: then its rest is still to be read. Throws
 * where the connection breaks before the body's end.
 */
export async function receive(
  { req, res }: Context,
  buffer: Buffer,
  onPiece: (piece: Uint8Array) => void = () => {},
): Promise<number | undefined> {
  if (req.headers.expect !== undefined) res.writeContinue()
  let length = 0
  for await (const chunk of req.iterator({ destroyOnReturn: false })) {
    if (length + chunk.length > buffer.length) return undefined
    buffer.set(chunk, length)
    length += chunk.length
    onPiece(chunk)
  }
  if (!req.complete) throw new Error('the body broke off')
  return length
}
