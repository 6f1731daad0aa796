/**
 * What one must know to ask a bucket: where it is, and who asks. The SDK finds it out (sdk-access.ts),
 * in one thread; other threads are told. Plain data: it travels between threads, and is never logged.
 */
import { messageOf, UsageError } from '../../errors.ts'

/** Where requests to the bucket go, and what they are signed with. */
export interface S3Access {
  /** scheme://host[:port] */
  origin: string
  /** As the Host header has it. */
  host: string
  /** What precedes `/KEY` in a path: nothing, or `/BUCKET`. */
  path: string
  /** The region that requests are signed for. */
  region: string
  /** The service's name in the signature: `s3`, or `s3express` for directory buckets. */
  service: string
  /** None: requests are sent unsigned. */
  credentials?: S3Credentials
  /** When the credentials end, milliseconds since 1970: infinite for never, 0 where nobody says. */
  expires: number
}

/** True where it is Amazon that answers, in any of its partitions. */
export function isAmazon(origin: string): boolean {
  return /(^|\.)amazonaws\.(com|com\.cn|eu)$/.test(URL.parse(origin)?.hostname ?? '')
}

/**
 * What Signature Version 4 takes for the asker, be it a user, a role or a session of a directory bucket.
 */
export interface S3Credentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
  /** The header that the session token goes in. */
  tokenHeader: string
}

/** Why access is asked for. */
export interface AccessQuery {
  /** The store says that the bucket is in this region. */
  region?: string
  /** The store takes the last credentials no more. */
  refresh?: boolean
}

/** Throws whatever is wrong, with a `code` or a telling name. */
export type AskAccess = (query: AccessQuery) => Promise<S3Access>

/** Where the bucket is, or who asks, cannot be found out. */
export class AccessError extends Error {
  override readonly name = 'AccessError'
  /** The SDK's name for the error, or the system's code. */
  readonly code: string

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/** Expiring credentials are asked for this often; whoever is asked knows when they must be new. */
const MAX_AGE_MS = 60_000
/** Refused ones are asked for no more often: each request that a server answers may find them refused. */
const RENEWAL_MS = 10_000

/** Remembers the answer. Safe for concurrent use: those who need it at the same time ask once. */
export class AccessCache {
  readonly #ask: AskAccess
  #known: Promise<S3Access> | undefined
  #since = 0
  #renewedAt = Number.NEGATIVE_INFINITY

  constructor(ask: AskAccess) {
    this.#ask = ask
  }

  /** Returns the access to use now. Throws AccessError, and UsageError for bad settings. */
  async get(): Promise<S3Access> {
    const known = this.#known
    if (known === undefined) return this.#update({})
    const access = await known
    const isOld = access.expires < Infinity && performance.now() - this.#since > MAX_AGE_MS
    return isOld && this.#known === known ? this.#update({}, access) : (this.#known ?? access)
  }

  /**
   * Returns another access than `refused`, which a store would not take; or the same, where newer
   * credentials were asked for a moment ago. Throws as get() does.
   */
  async renew(refused: S3Access, query: AccessQuery): Promise<S3Access> {
    const asked = this.#known
    const known = await asked
    if (known !== undefined && known !== refused) return known
    // Somebody else asks already.
    if (this.#known !== undefined && this.#known !== asked) return this.#known
    if (query.refresh) {
      const now = performance.now()
      if (known !== undefined && now < this.#renewedAt + RENEWAL_MS) return known
      this.#renewedAt = now
    }
    return this.#update(query)
  }

  /** `known`: what may still be good. They are new in good time, so whoever is asked may fail for a while. */
  #update(query: AccessQuery, known?: S3Access): Promise<S3Access> {
    this.#since = performance.now()
    const answer = this.#ask(query).catch((error) => {
      if (known !== undefined && Date.now() < known.expires) return known
      throw accessError(error)
    })
    this.#known = answer
    answer.catch(() => {
      if (this.#known === answer) this.#known = undefined
    })
    return answer
  }
}

function accessError(error: unknown): Error {
  if (error instanceof UsageError) return error
  const { code, name } = error as NodeJS.ErrnoException
  // Some of the SDK's messages begin with the name of the package they come from.
  const message = messageOf(error).replace(/^@smithy\/\S+ - (\[ERROR\] )?/, '')
  return new AccessError(code || name, message, error)
}
