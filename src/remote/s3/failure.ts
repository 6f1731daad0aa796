/** What a failed request means. Only an S3 error code proves that an object is gone. */
import { messageOf } from '../../errors.ts'
import { RemoteError, type RemoteFailure } from '../remote.ts'
import { AccessError } from './access.ts'
import { NO_CONNECTION, TransportError } from './http.ts'
import { S3Error } from './s3-error.ts'

/** S3's code for an object that must be restored first, whatever its storage class. */
const ARCHIVED = 'InvalidObjectState'

const FAILURES: Record<string, RemoteFailure> = {
  NoSuchKey: 'gone',
  NoSuchVersion: 'gone',
  PreconditionFailed: 'changed',
  InvalidRange: 'changed',
}

/** What to do about an error, by S3's or the system's code for it. */
const HINTS: Record<string, string> = {
  NoSuchBucket: 'Check the bucket’s name and --endpoint-url',
  'HTTP 404': 'Check the bucket’s name and --endpoint-url',
  PermanentRedirect: 'Name the bucket’s region with --region',
  AuthorizationHeaderMalformed: 'Name the bucket’s region with --region',
  AccessDenied: 'These credentials may not read here: they need s3:ListBucket and s3:GetObject',
  InvalidAccessKeyId: 'Check the credentials (AWS_* variables, --profile, --credentials-file)',
  SignatureDoesNotMatch: 'Check the secret key and --region',
  ExpiredToken: 'Renew the session’s credentials',
  RequestTimeTooSkewed: 'Set this machine’s clock',
  CredentialsProviderError:
    'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile, --credentials-file or --no-sign-request',
  [ARCHIVED]: 'It is archived: restore it first',
  ECONNREFUSED: 'Check that the store is running, and --endpoint-url',
  ENOTFOUND: 'Check the host of --endpoint-url, and the region',
}

/** Codes of failures without any connection. */
const UNCONNECTED = new Set([
  NO_CONNECTION,
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
])
/** Variables by which other programs find a proxy; curl takes them in either case. */
const PROXIES = ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'].flatMap((name) => [
  name,
  name.toLowerCase(),
])

/** Returns the HTTP status of the answer behind an error, if there was one. */
export function statusOf(thrown: unknown): number | undefined {
  return thrown instanceof S3Error ? thrown.status : undefined
}

/** True for what went wrong between here and the store; false for what a caller's own code threw. */
export function isRequestFailure(thrown: unknown): boolean {
  return (
    thrown instanceof S3Error || thrown instanceof TransportError || thrown instanceof AccessError
  )
}

/**
 * Returns what an error of a GET says of the object. The code in the answer's XML decides, never
 * the status alone: a proxy has pages of its own for 404 and 412.
 */
function failureOf(thrown: unknown): RemoteFailure {
  return FAILURES[codeOf(thrown)] ?? 'unreachable'
}

/** Returns the RemoteError for what a GET of `what` threw. The caller has ruled out its own abort. */
export function readError(thrown: unknown, what: string): RemoteError {
  return remoteError(thrown, what, failureOf(thrown))
}

/** As readError, for a request whose failure says nothing of any one object. */
export function requestError(thrown: unknown, what: string): RemoteError {
  return remoteError(thrown, what, 'unreachable')
}

function remoteError(thrown: unknown, what: string, failure: RemoteFailure): RemoteError {
  if (thrown instanceof RemoteError) return thrown
  const code = codeOf(thrown)
  const hint = hintFor(code)
  return new RemoteError(failure, `${what}: ${describe(thrown, code)}`, {
    cause: thrown,
    archived: code === ARCHIVED,
    ...(hint === undefined ? {} : { hint }),
  })
}

function hintFor(code: string): string | undefined {
  const hint = HINTS[code]
  const proxy = UNCONNECTED.has(code) ? PROXIES.find((name) => process.env[name]) : undefined
  if (proxy === undefined) return hint
  // Where there is no way to the store but by the proxy, nothing else tells why.
  const unused = `keepgw does not use proxies (${proxy} is set)`
  return hint === undefined ? unused : `${hint}; ${unused}`
}

function codeOf(thrown: unknown): string {
  const { code } = thrown as { code?: string }
  if (thrown instanceof S3Error && code === undefined) return `HTTP ${thrown.status}`
  return code ?? ''
}

function describe(thrown: unknown, code: string): string {
  const message = messageOf(thrown)
  const isSaid = message.startsWith(code) || /^HTTP[ _]/.test(code)
  return isSaid ? message : `${code}: ${message}`
}
