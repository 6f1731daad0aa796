/** The bodies of requests, in memory that is bounded. */
import type { IncomingMessage } from 'node:http'
import { MAX_BLOCK } from '../keep/locator.ts'
import type { Context } from './request.ts'

/** Memory for a number of blocks: each buffer is made when it is first needed, and kept for reuse. */
export class BufferPool {
  readonly #free: Buffer[] = []
  #left: number

  constructor(count: number) {
    this.#left = count
  }

  /** Returns a buffer of 64 MiB, or undefined where all are in use. */
  take(): Buffer | undefined {
    if (this.#left === 0) return undefined
    this.#left -= 1
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(MAX_BLOCK)
  }

  /** Takes a buffer back that nobody looks at any more. */
  give(buffer: Buffer): void {
    this.#free.push(buffer)
    this.#left += 1
  }
}

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
