/** Moves an answer's body to a sink. The SDK's own time-outs end at the headers; these do not. */
import type { Readable } from 'node:stream'
import { messageOf } from '../../errors.ts'
import { RemoteError, type Sink } from '../remote.ts'

/** A body that says nothing for this long is lost: a dropped connection may never say so. */
const IDLE_TIMEOUT_MS = 60_000

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
 */
export function pump(body: Readable, options: PumpOptions, sink: Sink): Promise<void> {
  const { length, what, signal } = options
  return new Promise((resolve, reject) => {
    let delivered = 0
    let held = false
    const idle = setTimeout(() => {
      // The one who waits may be the reader.
      if (held) idle.refresh()
      else lost(`no byte for ${IDLE_TIMEOUT_MS / 1000} s`)
    }, IDLE_TIMEOUT_MS)

    function stop(): void {
      clearTimeout(idle)
      signal?.removeEventListener('abort', aborted)
      body.off('data', take).off('end', ended).off('error', failed).off('close', closed)
    }
    function fail(error: unknown): void {
      stop()
      // Destroying may raise the aborted connection's error once more.
      body.on('error', () => {}).destroy()
      reject(error)
    }
    function lost(why: string): void {
      const where = `${what}: the answer broke off after ${delivered} of ${length} bytes (${why})`
      fail(new RemoteError('unreachable', where, { delivered }))
    }
    function take(chunk: Buffer): void {
      idle.refresh()
      if (delivered + chunk.length > length) lost('the store sent more')
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
      held = true
      body.pause()
      pause.then(() => {
        held = false
        body.resume()
      }, fail)
    }
    function ended(): void {
      if (delivered === length) {
        stop()
        resolve()
      } else {
        lost('the store sent no more')
      }
    }
    const failed = (error: unknown): void => lost(messageOf(error))
    const closed = (): void => lost('connection closed')
    const aborted = (): void => fail(signal?.reason)

    signal?.addEventListener('abort', aborted, { once: true })
    body.on('data', take).on('end', ended).on('error', failed).on('close', closed)
    if (signal?.aborted) aborted()
  })
}
