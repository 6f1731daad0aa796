/**
 * Requests to one bucket: signed, made again where that may help, followed into the bucket's region.
 * What is read in bulk goes through here, so there is nothing of the SDK's in it.
 */
import { setTimeout } from 'node:timers/promises'
import type { RequestCounts } from '../remote.ts'
import { AccessCache, type AccessQuery, type AskAccess, type S3Access } from './access.ts'
import { type Answered, HttpClient, type HttpLimits, TransportError } from './http.ts'
import { Outage, type OutageLimits } from './outage.ts'
import { Pacer } from './pacer.ts'
import { isThrottling, isTransient, regionNamedBy, S3Error } from './s3-error.ts'
import { encodeKey, encodeQuery, Signer } from './sigv4.ts'

/** What bounds the requests to a bucket. */
export interface RequestLimits extends HttpLimits, OutageLimits {
  /** Times a request is made until its answer is there, not counting those in an outage; 3 by default. */
  attempts?: number
}

/** A request to the bucket, before it is signed. */
export interface S3Request {
  method: 'GET' | 'HEAD'
  /** None: the request is about the bucket. */
  key?: string
  query?: Record<string, string>
  /** Names in lower case. */
  headers?: Record<string, string>
  /**
   * True once something of a body was passed on that cannot be taken back. Until then a request is made anew
   * when its answer breaks off, and `answered` called once more.
   */
  begun?(): boolean
  /** Called when a body was taken to its end. Where that or the sink throws MalformedXml, the answer was none. */
  ended?(): void
}

const ATTEMPTS = 3
/** Times as many attempts are made where the store only wants us to be slower. */
const THROTTLED_PATIENCE = 3
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 20_000
/** The second one is MinIO's. */
const OBJECT_CODES = new Set(['InternalError', 'SlowDownRead'])
/** Codes of credentials that are no longer good, though newer ones may be: keys are replaced, too. */
const OUTDATED = new Set([
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidToken',
  'InvalidTokenId',
  'TokenRefreshRequired',
])

/** Safe for concurrent use. */
export class S3Requests {
  readonly #http: HttpClient
  readonly #access: AccessCache
  readonly #signer = new Signer()
  readonly #pacer = new Pacer()
  readonly #outage: Outage
  /** What was asked up to now. */
  readonly counts: RequestCounts = { list: 0, get: 0, head: 0 }
  readonly #attempts: number
  readonly #always: Record<string, string>
  readonly #closing = new AbortController()
  /** Milliseconds that the store's clock is ahead of this machine's, once that has mattered. */
  #clockOffset = 0

  /** Throws UsageError for settings that cannot be right. `always`: headers of all requests, signed. */
  constructor(ask: AskAccess, limits: RequestLimits, always: Record<string, string> = {}) {
    this.#http = new HttpClient(limits)
    this.#access = new AccessCache(ask)
    this.#outage = new Outage(limits)
    this.#attempts = limits.attempts ?? ATTEMPTS
    this.#always = always
  }

  /**
   * Resolves when an answer with a 2xx status was taken to its end; `answered` gets no other. Throws
   * S3Error for what the store refused, TransportError, an error of the access, the signal's
   * reason, or what `answered`, its sink or `ended` threw.
   */
  async send(request: S3Request, answered: Answered, signal?: AbortSignal): Promise<void> {
    const learnt = new Set<Lesson>()
    let access = await this.#access.get()
    let { answers } = this.#outage
    let failures = 0
    /** Further ones in an outage: they count for nothing but how long to wait. */
    let inOutage = 0
    for (;;) {
      try {
        const turn = this.#pacer.turn(signal)
        if (turn !== undefined) await turn
        return await this.#attempt(request, access, signal, answered)
      } catch (error) {
        signal?.throwIfAborted()
        this.#closing.signal.throwIfAborted()
        if (request.begun?.()) throw error
        const lesson = this.#lesson(error, access)
        if (lesson !== undefined && !learnt.has(lesson)) {
          // What the store taught us is no failed attempt; but it teaches each thing once.
          learnt.add(lesson)
          access = await this.#learn(lesson, error as S3Error, access)
          continue
        }
        if (!isTransient(error)) throw error
        const isAway = !isOfObject(error, request) && this.#outage.failed(answers)
        answers = this.#outage.answers
        inOutage = isAway ? inOutage + 1 : 0
        if (!isAway) failures += 1
        // The pacer makes whoever is throttled wait, and that may take a while.
        const isPaced = isThrottling(error) && !this.#outage.isTooLong
        const patience = isPaced ? THROTTLED_PATIENCE : 1
        if (failures >= this.#attempts * patience) throw error
        if (patience === 1) await this.#pauseAfter(failures + inOutage, signal)
        access = await this.#access.get()
      }
    }
  }

  /** Closes all connections; requests under way fail. */
  async close(): Promise<void> {
    const closed = new TransportError('ECANCELED', 'it was closed', undefined)
    this.#closing.abort(closed)
    this.#pacer.close(closed)
    this.#http.close(closed)
  }

  async #attempt(
    request: S3Request,
    access: S3Access,
    signal: AbortSignal | undefined,
    answered: Answered,
  ): Promise<void> {
    const { method, key, query = {} } = request
    this.counts[kindOf(request)] += 1
    const path = `${access.path}/${key === undefined ? '' : encodeKey(key)}`
    const search = formatQuery(query)
    const signed = this.#signer.sign(
      { method, path, query: search, headers: { ...this.#always, ...request.headers } },
      access,
      Date.now() + this.#clockOffset,
    )
    const headers = { ...unsignedHeaders(request, access), ...signed }
    const target = search === '' ? path : `${path}?${search}`
    let refused: S3Error | undefined
    await this.#http.request(
      { origin: access.origin, method, path: target, headers },
      (answer) => {
        if (Math.floor(answer.status / 100) !== 2) {
          refused = new S3Error(answer)
          return refused.sink
        }
        this.#succeeded()
        return answered(answer)
      },
      signal,
    )
    if (refused === undefined) return request.ended?.()
    const { status, code } = refused.read()
    if (isThrottling(refused)) this.#pacer.throttled(refused.retryAfter)
    else if (!isTransient(refused)) this.#succeeded()
    // A 503 without a body, as of HEAD, does not say whom it is about.
    else if (status !== 503 || code !== undefined) this.#pacer.succeeded()
    throw refused
  }

  /** The store has answered as one does that is well. */
  #succeeded(): void {
    this.#pacer.succeeded()
    this.#outage.answered()
  }

  /** Waits longer each time, and never as long as another that failed at the same moment. */
  async #pauseAfter(attempt: number, signal: AbortSignal | undefined): Promise<void> {
    const longest = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt)
    const closing = this.#closing.signal
    const either = signal === undefined ? closing : AbortSignal.any([signal, closing])
    await setTimeout(longest * (0.5 + Math.random() / 2), undefined, { signal: either }).catch(
      () => {},
    )
    either.throwIfAborted()
  }

  #lesson(error: unknown, access: S3Access): Lesson | undefined {
    if (!(error instanceof S3Error)) return undefined
    const region = regionNamedBy(error)
    if (region !== undefined && region !== access.region) return 'region'
    if (OUTDATED.has(error.code ?? '')) return 'credentials'
    return error.code === 'RequestTimeTooSkewed' && error.date !== undefined ? 'clock' : undefined
  }

  /** Returns the access to ask with from now on. */
  async #learn(lesson: Lesson, error: S3Error, access: S3Access): Promise<S3Access> {
    if (lesson === 'clock') {
      this.#clockOffset = error.date! - Date.now()
      return access
    }
    const query: AccessQuery =
      lesson === 'region' ? { region: regionNamedBy(error)! } : { refresh: true }
    return await this.#access.renew(access, query)
  }
}

/** True for the codes with which a store that is well says that it cannot read one object. */
function isOfObject(error: unknown, { key }: S3Request): boolean {
  return key !== undefined && error instanceof S3Error && OBJECT_CODES.has(error.code ?? '')
}

/** Proxies may write it anew, which would break a signature. */
const UNSIGNED = { 'user-agent': 'keepgw' }
/**
 * Google's store unpacks objects with Content-Encoding: gzip for who does not say this, whatever range is
 * asked for. It writes the header anew.
 */
const UNSIGNED_FOR_GOOGLE = { ...UNSIGNED, 'accept-encoding': 'gzip' }

function unsignedHeaders({ key }: S3Request, { host }: S3Access): Record<string, string> {
  const isGoogle = /(^|\.)googleapis\.com(:\d+)?$/.test(host)
  // It would pack listings, too.
  return isGoogle && key !== undefined ? UNSIGNED_FOR_GOOGLE : UNSIGNED
}

/** What a refusal tells us to do otherwise. */
type Lesson = 'region' | 'credentials' | 'clock'

function kindOf({ method, key }: S3Request): keyof RequestCounts {
  if (method === 'HEAD') return 'head'
  return key === undefined ? 'list' : 'get'
}

/** Sorted by name, as it is signed. */
function formatQuery(query: Record<string, string>): string {
  const parts = Object.entries(query).map(
    ([name, value]) => `${encodeQuery(name)}=${encodeQuery(value)}`,
  )
  return parts.sort().join('&')
}
