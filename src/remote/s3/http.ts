/** HTTP as bulk reading wants it: few connections, used again, and no memory for each piece of an answer. */
import { readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import type { Pool as PoolClient } from 'undici'
import { messageOf, UsageError } from '../../errors.ts'
import type { Sink } from '../remote.ts'
import { slabConnector } from './slab-socket.ts'
import { type Dispatcher, Pool } from './undici.ts'

/** Milliseconds. */
export interface Timeouts {
  connect: number
  /** From the request to the answer's first header. A throttled store may take its time. */
  headers: number
  /** Between two pieces of an answer's body: a dropped connection may never say so. */
  idle: number
}

const TIMEOUTS: Timeouts = { connect: 10_000, headers: 60_000, idle: 60_000 }
/** A store's own limit is often longer; the next request then finds its connection open. */
const KEEP_ALIVE_MS = 15_000

export interface HttpLimits {
  /** Connections at once, at most; unlimited by default. */
  connections?: number
  timeouts?: Partial<Timeouts>
}

export interface HttpRequest {
  /** scheme://host[:port] */
  origin: string
  method: 'GET' | 'HEAD'
  /** Sent as it is, with the query. */
  path: string
  headers: Record<string, string>
}

export interface HttpAnswer {
  status: number
  /** Names in lower case. */
  headers: IncomingHttpHeaders
}

/** Looks at an answer's headers and returns who takes its body; throws to have none of it. */
export type Answered = (answer: HttpAnswer) => Sink

/** The connection failed, or something that is no HTTP came over it. */
export class TransportError extends Error {
  override readonly name = 'TransportError'
  /** The system's or undici's code. */
  readonly code: string

  constructor(code: string, message: string, cause: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/** Safe for concurrent use. */
export class HttpClient {
  readonly #pools = new Map<string, Pool>()
  readonly #exchanges = new Set<Exchange>()
  readonly #timeouts: Timeouts
  readonly #options: PoolClient.Options

  /** Throws UsageError where AWS_CA_BUNDLE cannot be read. */
  constructor(limits: HttpLimits) {
    this.#timeouts = { ...TIMEOUTS, ...limits.timeouts }
    this.#options = {
      ...(Number.isFinite(limits.connections) ? { connections: limits.connections! } : {}),
      headersTimeout: this.#timeouts.headers,
      bodyTimeout: this.#timeouts.idle,
      keepAliveTimeout: KEEP_ALIVE_MS,
      allowH2: false,
      connect: slabConnector({ timeout: this.#timeouts.connect, ...readCaBundle() }),
    }
  }

  /**
   * Resolves when the answer's body has come to its end and the sink is done with it. Throws
   * TransportError, the signal's reason, or what `answered` or the sink threw; the connection is
   * free or closed by then, and unless it was aborted the sink has come back.
   */
  request(request: HttpRequest, answered: Answered, signal?: AbortSignal): Promise<void> {
    const { origin, ...rest } = request
    if (signal?.aborted) return Promise.reject(signal.reason)
    return new Promise((resolve, reject) => {
      const exchange = new Exchange(answered, signal, (failure) => {
        this.#exchanges.delete(exchange)
        if (failure === undefined) resolve()
        else reject(this.#explained(failure.error))
      })
      this.#exchanges.add(exchange)
      this.#pool(origin).dispatch(rest, exchange)
    })
  }

  /** Closes all connections; requests under way fail with `reason`. */
  async close(reason: Error): Promise<void> {
    for (const exchange of this.#exchanges) exchange.stop(reason)
    await Promise.all(Array.from(this.#pools.values(), (pool) => pool.destroy()))
  }

  #pool(origin: string): Pool {
    let pool = this.#pools.get(origin)
    if (pool === undefined) {
      pool = new Pool(origin, this.#options)
      this.#pools.set(origin, pool)
    }
    return pool
  }

  #explained(error: unknown): unknown {
    if (!(error instanceof Broken)) return error
    const { code = '', message } = error.cause as NodeJS.ErrnoException
    const { connect, headers, idle } = this.#timeouts
    const words: Record<string, string> = {
      UND_ERR_CONNECT_TIMEOUT: `no connection within ${connect / 1000} s`,
      UND_ERR_HEADERS_TIMEOUT: `no answer within ${headers / 1000} s`,
      UND_ERR_BODY_TIMEOUT: `no byte for ${idle / 1000} s`,
      UND_ERR_SOCKET: 'connection closed',
    }
    // Of several addresses of a host each has failed in its own way; their common error is wordless.
    const first = error.cause instanceof AggregateError ? error.cause.errors[0] : undefined
    return new TransportError(code, words[code] ?? (message || messageOf(first)), error.cause)
  }
}

/** What undici says, as opposed to what a sink throws. */
class Broken {
  readonly cause: unknown

  constructor(cause: unknown) {
    this.cause = cause
  }
}

/** One request and its answer. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #answered: Answered
  readonly #signal: AbortSignal | undefined
  readonly #done: (failure?: { error: unknown }) => void
  #controller: Dispatcher.DispatchController | undefined
  #sink: Sink | undefined
  /** Set while the sink is busy with the last chunk: what ends the exchange waits for it. */
  #busy: Promise<void> | undefined
  /** What came although nothing was to come; the memory it came in is used again. */
  #backlog: Buffer[] = []
  #settled = false

  constructor(
    answered: Answered,
    signal: AbortSignal | undefined,
    done: (failure?: { error: unknown }) => void,
  ) {
    this.#answered = answered
    this.#signal = signal
    this.#done = done
    signal?.addEventListener('abort', this.#aborted, { once: true })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    // It was aborted while it waited for a connection.
    if (this.#settled) controller.abort(new Error('aborted'))
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: IncomingHttpHeaders,
  ): void {
    if (status < 200 || this.#settled) return
    try {
      this.#sink = this.#answered({ status, headers })
    } catch (error) {
      this.stop(error)
    }
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // After a pause undici's parser is started with nothing.
    if (this.#settled || chunk.length === 0) return
    if (this.#busy === undefined) this.#deliver(chunk)
    else this.#backlog.push(Buffer.from(chunk))
  }

  onResponseEnd(): void {
    this.#afterSink(() => this.#settle())
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#afterSink(() => this.#settle({ error: new Broken(error) }))
  }

  #deliver(chunk: Buffer): void {
    try {
      const pause = this.#sink!(chunk)
      if (pause instanceof Promise) this.#hold(pause)
    } catch (error) {
      this.stop(error)
    }
  }

  #hold(pause: Promise<void>): void {
    this.#controller!.pause()
    this.#busy = pause.then(
      () => {
        this.#busy = undefined
        const next = this.#backlog.shift()
        if (this.#settled) return
        if (next !== undefined) this.#deliver(next)
        else this.#controller!.resume()
      },
      (error) => this.stop(error),
    )
  }

  /** Whoever asks for the rest calls the sink again, so it must have come back first. */
  #afterSink(then: () => void): void {
    if (this.#settled) return
    if (this.#busy === undefined) then()
    else void this.#busy.then(() => this.#afterSink(then))
  }

  readonly #aborted = (): void => this.stop(this.#signal?.reason)

  /** Ends the exchange, and its connection, with an error. */
  stop(error: unknown): void {
    if (this.#settled) return
    this.#settle({ error })
    this.#controller?.abort(new Error('aborted'))
  }

  #settle(failure?: { error: unknown }): void {
    if (this.#settled) return
    this.#settled = true
    this.#signal?.removeEventListener('abort', this.#aborted)
    this.#done(failure)
  }
}

/**
 * Returns the certificates of AWS_CA_BUNDLE, or nothing where it is not set. Throws UsageError where
 * its file cannot be read.
 */
export function readCaBundle(): { ca?: Buffer } {
  const file = process.env.AWS_CA_BUNDLE
  if (!file) return {}
  try {
    return { ca: readFileSync(file) }
  } catch (error) {
    throw new UsageError(`cannot read AWS_CA_BUNDLE: ${messageOf(error)}`, { cause: error })
  }
}
