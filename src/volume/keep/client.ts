/** Requests to one keep service. */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { messageOf } from '../../errors.ts'
import { RemoteError } from '../../remote/remote.ts'

/** Milliseconds without a byte, after which a service counts as out of reach. */
const SILENCE = 60_000
/** Milliseconds that a connection may take to be made. */
const CONNECT = 5_000
/** Milliseconds for which a service that could not be reached is asked after the others. */
const DOWN = 60_000
/** Milliseconds that an idle connection is kept: less than keep services keep theirs. */
const KEEP_ALIVE = 3_000
/** Bytes of an answer's text that are looked at. */
const MAX_TEXT = 4_096

/** A request to a keep service. */
export interface KeepRequest {
  method: 'GET' | 'HEAD' | 'PUT'
  /** Starts with `/`. */
  path: string
  /** Who passes it on, and who has done so before. */
  via: string
  token?: string | undefined
  headers?: Record<string, string>
  body?: Uint8Array
}

/** Connections to one service, kept for further requests. Safe for concurrent use. */
export class KeepClient {
  /** `http://host:port`, without a slash at the end. */
  readonly url: string
  readonly #agent: HttpAgent
  #failedAt = Number.NEGATIVE_INFINITY

  constructor(url: string) {
    this.url = url
    const options = { keepAlive: true, timeout: KEEP_ALIVE }
    this.#agent = url.startsWith('https:') ? new HttpsAgent(options) : new HttpAgent(options)
  }

  /** True if it could not be reached lately. */
  get isDown(): boolean {
    return performance.now() - this.#failedAt < DOWN
  }

  /**
   * Returns the answer once its headers are there; its body is the caller's to read or destroy.
   * Throws RemoteError `unreachable` where none comes, or the signal's reason.
   */
  async send(request: KeepRequest, signal: AbortSignal): Promise<IncomingMessage> {
    try {
      const answer = await this.#sendOnce(request, signal).catch((error) => {
        // The service may have closed a kept connection at the moment it was used again.
        if (error instanceof StaleConnection) return this.#sendOnce(request, signal)
        throw error
      })
      this.#failedAt = Number.NEGATIVE_INFINITY
      return answer
    } catch (error) {
      signal.throwIfAborted()
      this.#failedAt = performance.now()
      throw this.unreachable(error)
    }
  }

  /** Returns the error of a request that came to nothing. */
  unreachable(error: unknown): RemoteError {
    if (error instanceof RemoteError) return error
    return new RemoteError('unreachable', `${this.url}: ${messageOf(error)}`, { cause: error })
  }

  /** Closes all connections; requests under way fail. */
  close(): void {
    this.#agent.destroy()
  }

  #sendOnce(
    { method, path, via, token, headers = {}, body }: KeepRequest,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const send = this.url.startsWith('https:') ? httpsRequest : httpRequest
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const req = send(`${this.url}${path}`, {
      method,
      agent: this.#agent,
      signal,
      timeout: SILENCE,
      headers: {
        ...headers,
        Via: via,
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'Content-Length': body.length }),
      },
    })
    req.on('response', resolve)
    boundConnect(req)
    req.on('timeout', () => req.destroy(new Error(`nothing came for ${SILENCE / 1000} s`)))
    req.on('error', (error: NodeJS.ErrnoException) => {
      const isStale = req.reusedSocket && error.code === 'ECONNRESET'
      reject(isStale ? new StaleConnection(messageOf(error)) : error)
    })
    req.end(body)
    return promise
  }
}

/** A host that is gone answers nothing at all: the others are not to wait for it. */
function boundConnect(req: ClientRequest): void {
  req.once('socket', (socket) => {
    if (!socket.connecting) return
    const late = new Error(`no connection within ${CONNECT / 1000} s`)
    const timer = setTimeout(() => req.destroy(late), CONNECT)
    socket.once('connect', () => clearTimeout(timer))
    socket.once('close', () => clearTimeout(timer))
  })
}

/** A kept connection that was closed by the other side. */
class StaleConnection extends Error {}

/** Returns the start of an answer's body as text, and frees its connection. Never throws. */
export async function textOf(answer: IncomingMessage): Promise<string> {
  let text = ''
  try {
    for await (const chunk of answer) if (text.length < MAX_TEXT) text += chunk
  } catch {
    // What came is all there is to show.
  }
  return text.slice(0, MAX_TEXT).trim()
}
