/** What is known of a request from its first line until its answer is over. */
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { ParameterizedContext } from 'koa'
import { requestToken } from '../keep/token.ts'
import { ClientGone, TimedOut } from './errors.ts'

/** One request's, from beginRequest() on. */
export interface RequestState {
  /** X-Request-Id: the client's own, or made up. */
  id: string
  /** The path as it was sent. */
  rawPath: string
  /** The path, decoded; undefined where it cannot be. */
  path: string | undefined
  /** After the `?`, as it was sent. */
  query: string
  /** The API token that the request carries, if any. For comparing only: it is never logged. */
  token: string | undefined
  /** Aborts when the client goes away before its answer is over. */
  signal: AbortSignal
  /** Bytes of the answer's body that were written past koa. */
  bodyBytes: number
  /** Why the answer is not what was asked for. */
  error?: unknown
}

/** Koa's context of a request, whose `state` is a RequestState. */
export type Context = ParameterizedContext<RequestState>

/** Returns the state of a request, and calls `over` once its answer is sent or its client gone. */
export function beginRequest(ctx: Context, over: () => void): RequestState {
  const controller = new AbortController()
  const { req, res } = ctx
  const { socket } = req
  const { authorization, cookie } = req.headers
  const target = parseTarget(req.url ?? '')
  const state: RequestState = {
    id: requestId(ctx.get('X-Request-Id')),
    ...target,
    token: requestToken({ authorization, cookie, query: target.query }),
    signal: controller.signal,
    bodyBytes: 0,
  }
  let isOver = false
  const end = () => {
    // The end of a connection is told by both at once.
    if (isOver) return
    isOver = true
    res.off('close', end)
    socket.off('close', end)
    if (!res.writableFinished) {
      // An answer that we cut ourselves says why already.
      state.error ??= socket.errored instanceof TimedOut ? socket.errored : new ClientGone()
      controller.abort(state.error)
    }
    over()
  }
  res.once('close', end)
  // Not every Node tells an answer that still waits behind another one (pipelining).
  socket.once('close', end)
  // A write that fails is told by its callback: without a listener it would end the process, too.
  res.on('error', () => {})
  return state
}

/** Returns the client's request id if it is fit for logs and headers, or a new one. */
export function requestId(sent: string): string {
  if (/^[\x21-\x7e]{1,128}$/.test(sent)) return sent
  // Node makes these in advance, and need not ask for random bytes each time.
  return `req-${randomUUID().replaceAll('-', '').slice(0, 20)}`
}

/** Takes a request target apart: `/path?query`, or a whole URL as proxies send it. */
export function parseTarget(target: string): Pick<RequestState, 'rawPath' | 'path' | 'query'> {
  const relative = target.replace(/^https?:\/\/[^/?]*/i, '')
  const mark = relative.indexOf('?')
  const rawPath = mark < 0 ? relative : relative.slice(0, mark)
  const query = mark < 0 ? '' : relative.slice(mark + 1)
  return { rawPath, path: decode(rawPath), query }
}

/**
 * Writes a piece of an answer past koa. Settles when the piece has left this process: its memory
 * may be used again, and a slow client holds its sender back. Throws the signal's reason.
 */
export function write(
  res: ServerResponse,
  piece: Uint8Array | string,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    res.write(piece, (error) => {
      signal.removeEventListener('abort', onAbort)
      if (error) reject(error)
      else resolve()
    })
  })
}

function decode(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}
