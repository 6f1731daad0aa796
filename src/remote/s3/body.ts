/** Moves an answer's body to a sink. */
import type { Readable } from 'node:stream'
import { messageOf } from '../../errors.ts'
import { RemoteError, type Sink } from '../remote.ts'

export interface PumpOptions {
  /** Bytes that the body must have, neither more nor less. */
  length: number
  /** What is read, for messages. */
  what: string
  signal?: AbortSignal
}

/**
 * Resolves once the sink has had exactly `length` bytes. Otherwise throws RemoteError `unreachable`
 * (with the bytes delivered), the signal's reason, or the sink's own error; the body is destroyed.
 * Unless it was aborted, the sink is done with its last chunk by then.
 */
export function pump(body: Readable, options: PumpOptions, sink: Sink): Promise<void> {
  const { length, what, signal } = options
  return new Promise((resolve, reject) => {
    let delivered = 0
    /** The sink is still busy with the last chunk. */
    let busy: Promise<void> | undefined

    function stop(): void {
      body.off('data', take).off('end', ended).off('error', failed).off('close', closed)
      // Destroying may raise the broken connection's error once more.
      if (!body.readableEnded) body.on('error', () => {}).destroy()
    }
    function fail(error: unknown): void {
      stop()
      signal?.removeEventListener('abort', aborted)
      reject(error)
    }
    function finish(why: string | undefined): void {
      stop()
      // Whoever reads on calls the sink again, so it must have come back first.
      if (busy !== undefined) busy.then(() => conclude(why), fail)
      else conclude(why)
    }
    function conclude(why: string | undefined): void {
      signal?.removeEventListener('abort', aborted)
      if (why === undefined) {
        resolve()
      } else {
        const where = `${what}: the answer broke off after ${delivered} of ${length} bytes (${why})`
        reject(new RemoteError('unreachable', where, { delivered }))
      }
    }
    function take(chunk: Buffer): void {
      if (delivered + chunk.length > length) finish('the store sent more')
      else deliver(chunk)
    }
    function deliver(chunk: Buffer): void {
      try {
        const pause = sink(chunk)
        delivered += chunk.length
        if (pause instanceof Promise) hold(pause)
      } catch (error) {
        fail(error)
      }
    }
    function hold(pause: Promise<void>): void {
      busy = pause
      body.pause()
      pause.then(() => {
        busy = undefined
        body.resume()
      }, fail)
    }
    function over(why: string): void {
      // What breaks after the last byte does no harm.
      finish(delivered < length ? why : undefined)
    }
    const ended = (): void => over('the store sent no more')
    const failed = (error: unknown): void => over(messageOf(error))
    const closed = (): void => over('connection closed')
    const aborted = (): void => fail(signal?.reason)

    signal?.addEventListener('abort', aborted, { once: true })
    body.on('data', take).on('end', ended).on('error', failed).on('close', closed)
    if (signal?.aborted) aborted()
    // Its connection broke right after the headers, before anyone listened.
    else if (body.destroyed) over(body.errored ? messageOf(body.errored) : 'connection closed')
  })
}
