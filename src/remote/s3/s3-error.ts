/** What a store says when it refuses: "Error responses" of the S3 API reference. */
import type { Sink } from '../remote.ts'
import { type HttpAnswer, TransportError } from './http.ts'
import { MalformedXml } from './xml.ts'

/** S3's errors have less; what is longer comes from something else. */
const MAX_BODY = 64 * 1024
/** It becomes part of a host's name, so nothing else may pass. */
const REGION = /^[a-z0-9-]{1,40}$/
/** Statuses that may be another one next time; from 520 on, those of a proxy (Cloudflare) that misses the store. */
const TRANSIENT_STATUSES = new Set([408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524])
const TRANSIENT_CODES = new Set(['RequestTimeout'])
/** As the AWS SDKs have it. What MinIO calls SlowDownRead is one object that it cannot read. */
const THROTTLING_CODE =
  /^(SlowDown|TooManyRequests|(Request|Bandwidth)LimitExceeded|(Request)?Throttl\w+)$/

/** An answer whose status is not 2xx. It is read while it comes in, then thrown. */
export class S3Error extends Error {
  override readonly name = 'S3Error'
  readonly status: number
  /** S3's word for it; undefined where the body is not S3's, as with any answer to HEAD. */
  code: string | undefined
  /** As the answer's header or body has it, not checked. */
  region: string | undefined
  /** The store's clock, milliseconds since 1970. */
  readonly date: number | undefined
  /** Seconds that the store asks us to wait. */
  readonly retryAfter: number | undefined
  readonly #body: Buffer[] = []
  #length = 0

  constructor({ status, headers }: HttpAnswer) {
    super(`HTTP status ${status}, without a reason that S3 would give`)
    this.status = status
    this.region = headers['x-amz-bucket-region'] as string | undefined
    this.date = validOrNone(Date.parse(headers.date ?? ''))
    this.retryAfter = validOrNone(Number.parseInt(headers['retry-after'] ?? '', 10))
  }

  /** Takes the answer's body. */
  readonly sink: Sink = (chunk) => {
    this.#length += chunk.length
    if (this.#length <= MAX_BODY) this.#body.push(Buffer.from(chunk))
  }

  /** True where something on the way has answered, in words of its own. */
  get isForeign(): boolean {
    return this.code === undefined && this.#length > 0
  }

  /** Returns the error, with what its body says. */
  read(): this {
    const text = this.#length <= MAX_BODY ? Buffer.concat(this.#body).toString() : ''
    if (!/^\s*(<\?xml[^>]*>\s*)?<Error[\s>]/.test(text)) return this
    this.code = elementOf(text, 'Code')
    this.region ??= elementOf(text, 'Region')
    if (this.code !== undefined) this.message = elementOf(text, 'Message') ?? this.code
    return this
  }
}

function elementOf(xml: string, name: string): string | undefined {
  const [, text] = new RegExp(`<${name}>([^<]+)</${name}>`).exec(xml) ?? []
  return text?.replace(/&(quot|apos|lt|gt|amp);/g, (_, entity) => ENTITIES[entity]!)
}

const ENTITIES: Record<string, string> = { quot: '"', apos: "'", lt: '<', gt: '>', amp: '&' }

function validOrNone(value: number): number | undefined {
  return Number.isNaN(value) ? undefined : value
}

/** Returns the bucket's region, where that is what a refusal is about. */
export function regionNamedBy({ status, region }: S3Error): string | undefined {
  if (![301, 307, 400].includes(status)) return undefined
  return region !== undefined && REGION.test(region) ? region : undefined
}

/** True where the same request may do better later: XML may have been cut or spoilt on its way. */
export function isTransient(error: unknown): boolean {
  if (error instanceof TransportError || error instanceof MalformedXml) return true
  if (!(error instanceof S3Error)) return false
  const { status, code = '' } = error
  return TRANSIENT_STATUSES.has(status) || TRANSIENT_CODES.has(code) || isThrottling(error)
}

/**
 * True where the store asks us to be slower, whatever we ask for. Once its body was read: 503 alone may
 * be about one object, and only a proxy says it for all.
 */
export function isThrottling(error: unknown): error is S3Error {
  if (!(error instanceof S3Error)) return false
  const { status, code = '', isForeign } = error
  return status === 429 || (status === 503 && isForeign) || THROTTLING_CODE.test(code)
}
