/** HTTP as bulk reading wants it: few connections, used again, and no memory for each piece of an answer. */
import { readFileSync } from 'node:fs'
import { messageOf, UsageError } from '../../errors.ts'
import { ClosedIdle, Connection, type Phase, type Target, type TlsSettings } from './connection.ts'
import { type Answered, Exchange, type Outcome } from './exchange.ts'
import { MalformedResponse, type RequestHead } from './http-message.ts'

export type { Answered, HttpAnswer } from './exchange.ts'

/** Milliseconds. */
export interface Timeouts {
  connect: number
  /** From the request to the answer's headers. A throttled store may take its time. */
  headers: number
  /** Between two pieces of an answer's body: a dropped connection may never say so. */
  idle: number
}

const TIMEOUTS: Timeouts = { connect: 10_000, headers: 60_000, idle: 60_000 }
/** A store's own limit is often longer; the next request then finds its connection open. */
const KEEP_ALIVE_MS = 15_000
/** Time-outs are looked at so often, or at least four times within the shortest. */
const SWEEP_MS = 1000

/** What bounds a client. */
export interface HttpLimits {
  /** Connections at once to one server, at most; unlimited by default. */
  connections?: number
  timeouts?: Partial<Timeouts>
}

/** A request, and the server that it is for. */
export interface HttpRequest extends RequestHead {
  /** scheme://host[:port] */
  origin: string
}

/** The code of a connection that does not come about in time. */
export const NO_CONNECTION = 'HTTP_NO_CONNECTION'

/** The connection failed, or something that is no HTTP came over it. */
export class TransportError extends Error {
  override readonly name = 'TransportError'
  /** The system's code, or one that begins with `HTTP_`. */
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
  readonly #most: number
  readonly #tls: TlsSettings
  #closed: Error | undefined

  /** Throws UsageError where AWS_CA_BUNDLE cannot be read. */
  constructor({ connections = Number.POSITIVE_INFINITY, timeouts }: HttpLimits) {
    this.#most = connections
    this.#timeouts = { ...TIMEOUTS, ...timeouts }
    this.#tls = { ...readCaBundle(), sessions: new Map() }
  }

  /**
   * Resolves when the answer's body has come to its end and the sink is done with it. Throws
   * TransportError, the signal's reason, or what `answered` or the sink threw; the connection is
   * free or closed by then, and unless it was aborted the sink has come back.
   */
  request(request: HttpRequest, answered: Answered, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason)
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    const pool = this.#pool(request.origin)
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        const exchange = new Exchange(request, answered, signal, (outcome) => {
          this.#exchanges.delete(exchange)
          if (outcome === undefined) return resolve()
          // The server closed what it had kept open, just then (RFC 9112, 9.3.1). A new connection
          // cannot end like that, so this comes to an end.
          if (outcome.error instanceof ClosedIdle) begin()
          else reject(this.#explained(outcome))
        })
        this.#exchanges.add(exchange)
        pool.dispatch(exchange)
      }
      begin()
    })
  }

  /** Closes all connections; requests under way, and any that come later, fail with `reason`. */
  close(reason: Error): void {
    this.#closed ??= reason
    for (const exchange of this.#exchanges) exchange.stop(reason)
    for (const pool of this.#pools.values()) pool.close()
  }

  #pool(origin: string): Pool {
    let pool = this.#pools.get(origin)
    if (pool === undefined) {
      pool = new Pool(targetOf(origin), this.#most, this.#timeouts, this.#tls)
      this.#pools.set(origin, pool)
    }
    return pool
  }

  #explained({ error, isTransport }: NonNullable<Outcome>): unknown {
    if (!isTransport) return error
    if (error instanceof MalformedResponse) {
      return new TransportError('HTTP_MALFORMED', `the answer is no HTTP: ${error.message}`, error)
    }
    const { code = '', message } = error as NodeJS.ErrnoException
    // Of several addresses of a host each has failed in its own way; their common error is wordless.
    const first = error instanceof AggregateError ? error.errors[0] : undefined
    return new TransportError(code, message || messageOf(first), error)
  }
}

/** The connections to one server. */
class Pool {
  readonly #target: Target
  readonly #most: number
  readonly #limits: Record<Phase, { after: number; says: string }>
  readonly #tls: TlsSettings
  readonly #sweepEach: number
  readonly #connections = new Set<Connection>()
  /** The one that was used last is at the end, and is used first: its memory is in the cache. */
  #idle: Connection[] = []
  #waiting: Exchange[] = []
  #timer: NodeJS.Timeout | undefined
  #sweptAt = 0

  constructor(
    target: Target,
    most: number,
    { connect, headers, idle }: Timeouts,
    tls: TlsSettings,
  ) {
    this.#target = target
    this.#most = most
    this.#tls = tls
    this.#limits = {
      connecting: { after: connect, says: `no connection within ${connect / 1000} s` },
      answer: { after: headers, says: `no answer within ${headers / 1000} s` },
      body: { after: idle, says: `no byte for ${idle / 1000} s` },
      idle: { after: KEEP_ALIVE_MS, says: 'idle' },
    }
    this.#sweepEach = Math.min(SWEEP_MS, connect / 4, headers / 4, idle / 4)
  }

  dispatch(exchange: Exchange): void {
    const idle = this.#idle.pop()
    if (idle !== undefined) idle.begin(exchange)
    else if (this.#connections.size < this.#most) this.#connect(exchange)
    else this.#waiting.push(exchange)
  }

  close(): void {
    this.#waiting = []
    for (const connection of this.#connections) connection.destroy()
  }

  #connect(exchange: Exchange): void {
    const connection = new Connection(this.#target, this.#tls, {
      free: (free) => this.#free(free),
      closed: (closed) => this.#closed(closed),
    })
    this.#connections.add(connection)
    connection.begin(exchange)
    if (this.#timer !== undefined) return
    this.#sweptAt = performance.now()
    this.#timer = setInterval(() => this.#sweep(), this.#sweepEach).unref()
  }

  #free(connection: Connection): void {
    const next = this.#nextWaiting()
    if (next === undefined) this.#idle.push(connection)
    else connection.begin(next)
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection)
    this.#idle = this.#idle.filter((each) => each !== connection)
    const next = this.#nextWaiting()
    if (next !== undefined) this.#connect(next)
    else if (this.#connections.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }

  /** Those that were aborted meanwhile are passed over. */
  #nextWaiting(): Exchange | undefined {
    while (this.#waiting.length > 0) {
      const next = this.#waiting.shift()!
      if (!next.isSettled) return next
    }
    return undefined
  }

  /** One timer for all: one for each request would cost more than the rest of its bookkeeping. */
  #sweep(): void {
    const now = performance.now()
    const passed = now - this.#sweptAt
    this.#sweptAt = now
    for (const connection of this.#connections) {
      connection.quiet = connection.waitsForReader ? 0 : connection.quiet + passed
      const { after, says } = this.#limits[connection.phase]
      const code = connection.phase === 'connecting' ? NO_CONNECTION : 'HTTP_TIMEOUT'
      if (connection.quiet > after) connection.fail(new TimedOut(code, says))
    }
  }
}

class TimedOut extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

function targetOf(origin: string): Target {
  const { protocol, hostname, host, port } = new URL(origin)
  const secure = protocol === 'https:'
  return {
    secure,
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? (secure ? 443 : 80) : Number(port),
    authority: host,
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
