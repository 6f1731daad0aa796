/**
 * Reads ranges of objects, with `Range` and `If-Match`: what S3 answers is then the wanted bytes of
 * the wanted version, or an error before the first byte. Answers are checked all the same, since
 * proxies and clones of S3 may ignore either header.
 */
import { showKey } from '../key.ts'
import {
  type ReadRequest,
  RemoteError,
  type RemoteReader,
  type RequestCounts,
  type S3Spec,
  type Sink,
  sinkInto,
} from '../remote.ts'
import type { AskAccess } from './access.ts'
import { isRequestFailure, readError, requestError } from './failure.ts'
import { type HttpAnswer, TransportError } from './http.ts'
import { plainEtag } from './object-meta.ts'
import { type RequestLimits, S3Requests } from './requests.ts'
import { S3Error } from './s3-error.ts'

/** How a bucket's objects are read. */
export interface S3ReaderOptions extends RequestLimits {
  /** False for a store that answers 412 to a true ETag: the answered ETag is compared instead. */
  ifMatch?: boolean
}

/** Safe for concurrent use. */
export class S3Reader implements RemoteReader {
  readonly #bucket: string
  readonly #ifMatch: boolean
  /** For other requests to the same bucket. */
  readonly bucket: S3Requests

  /** Throws UsageError for settings that cannot be right. */
  constructor(spec: S3Spec, ask: AskAccess, { ifMatch = true, ...limits }: S3ReaderOptions) {
    this.#bucket = spec.bucket
    this.#ifMatch = ifMatch
    const payer = spec.requestPayer ? { 'x-amz-request-payer': spec.requestPayer } : {}
    this.bucket = new S3Requests(ask, limits, payer)
  }

  /** As RemoteReader.read. Before it says `gone`, it asks whether the bucket is there. */
  async read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void> {
    const { key, offset, length, etag } = request
    const headers: Record<string, string> = { range: `bytes=${offset}-${offset + length - 1}` }
    if (etag !== undefined && this.#ifMatch) headers['if-match'] = `"${etag}"`
    const body = new Body(length, sink)
    try {
      await this.bucket.send(
        { method: 'GET', key, headers, begun: () => body.delivered > 0 },
        (answer) => {
          this.#check(answer, request)
          return body.take
        },
        signal,
      )
    } catch (error) {
      // What breaks after the last byte does no harm.
      if (error instanceof TransportError && body.delivered === length) return
      throw await this.#explained(error, key, body, signal)
    }
    if (body.delivered < length) throw body.brokenOff(this.name(key), 'the store sent no more')
  }

  /** Returns what was asked up to now, also by others through `bucket`. */
  requests(): Readonly<RequestCounts> {
    return this.bucket.counts
  }

  /** Closes all connections, also those of requests that others make through `bucket`. */
  async close(): Promise<void> {
    await this.bucket.close()
  }

  /** `s3://bucket/key`, for messages. */
  name(key: string): string {
    return `s3://${this.#bucket}/${showKey(key)}`
  }

  #check(answer: HttpAnswer, request: ReadRequest): void {
    const wrong = checkAnswer(answer, request)
    if (wrong === undefined) return
    throw new RemoteError(wrong.failure, `${this.name(request.key)}: ${wrong.message}`)
  }

  /** Returns what to throw for what was thrown. */
  async #explained(
    error: unknown,
    key: string,
    body: Body,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    if (error instanceof TransportError && body.delivered > 0) {
      return body.brokenOff(this.name(key), error.message, error)
    }
    if (error instanceof TooLong) return body.brokenOff(this.name(key), 'the store sent more')
    if (!isRequestFailure(error)) return error
    const failure = readError(error, this.name(key))
    return failure.failure === 'gone' ? await this.#goneOr(failure, signal) : failure
  }

  /**
   * Some stores say NoSuchKey of a bucket that is not there at all (SeaweedFS 4.48 does to a GET
   * with If-Match). Who may not ask learns nothing, and the answer for the key has to do.
   */
  async #goneOr(gone: RemoteError, signal: AbortSignal | undefined): Promise<unknown> {
    try {
      await this.bucket.send({ method: 'HEAD' }, () => () => {}, signal)
      return gone
    } catch (error) {
      if (error instanceof S3Error && error.status === 403) return gone
      return isRequestFailure(error) ? requestError(error, `bucket ${this.#bucket}`) : error
    }
  }
}

class TooLong extends Error {}

/** Passes a body on, as far as it was asked for, and counts it. */
class Body {
  /** Bytes that the sink has had. */
  delivered = 0
  readonly #length: number
  readonly take: Sink

  constructor(length: number, sink: Sink) {
    this.#length = length
    this.take = sinkInto(sink, (chunk) => {
      const most = length - this.delivered
      const wanted = chunk.length > most ? chunk.subarray(0, most) : chunk
      const pause = wanted.length > 0 ? sink(wanted) : undefined
      this.delivered += wanted.length
      if (wanted === chunk) return pause
      // Not before the sink has come back: the memory is its own until then.
      if (pause === undefined) throw new TooLong()
      return pause.then(() => {
        throw new TooLong()
      })
    })
  }

  brokenOff(what: string, why: string, cause?: unknown): RemoteError {
    const { delivered } = this
    const where = `${what}: the answer broke off after ${delivered} of ${this.#length} bytes (${why})`
    return new RemoteError('unreachable', where, { cause, delivered })
  }
}

type Wrong = Pick<RemoteError, 'failure' | 'message'>

/** Returns what is wrong with the headers of an answer to a GET, if anything is. */
function checkAnswer(answer: HttpAnswer, request: ReadRequest): Wrong | undefined {
  const { offset, length, etag, size } = request
  const end = offset + length - 1
  const answered = answer.headers.etag
  if (answered === undefined) {
    return { failure: 'unreachable', message: 'an answer without an ETag, not from S3' }
  }
  if (etag !== undefined && plainEtag(answered) !== etag) {
    return { failure: 'changed', message: `its ETag is ${answered}, not "${etag}"` }
  }
  const range = rangeOf(answer)
  if (range === undefined) {
    return { failure: 'unreachable', message: 'an answer that does not say which bytes it holds' }
  }
  if (size !== undefined && range.total !== size) {
    return { failure: 'changed', message: `it has ${range.total} bytes, not ${size}` }
  }
  if (range.start === offset && range.end === end) return undefined
  // A range that was cut short means that the object ends there.
  const isShort = range.start === offset && range.end < end && range.end === range.total - 1
  return {
    failure: isShort ? 'changed' : 'unreachable',
    message: `asked for bytes ${offset}-${end}, the store sent ${range.start}-${range.end}`,
  }
}

interface AnsweredRange {
  start: number
  /** The last byte, not the one behind it. */
  end: number
  total: number
}

/** A store may answer a range that is the whole object with 200 and no Content-Range. */
function rangeOf({ status, headers }: HttpAnswer): AnsweredRange | undefined {
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headers['content-range'] ?? '')
  if (range !== null) {
    return { start: Number(range[1]), end: Number(range[2]), total: Number(range[3]) }
  }
  const length = headers['content-length']
  if (status !== 200 || length === undefined) return undefined
  return { start: 0, end: Number(length) - 1, total: Number(length) }
}
