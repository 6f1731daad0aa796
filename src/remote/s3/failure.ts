/** What an error of the SDK means. Only an S3 error code proves that an object is gone. */
import { messageOf } from '../../errors.ts'
import { RemoteError, type RemoteFailure } from '../remote.ts'

/** The parts of the SDK's errors that tell what was answered. */
interface AnsweredError {
  name?: string
  code?: string
  Code?: string
  message?: string
  $metadata?: { httpStatusCode?: number }
  $response?: { statusCode?: number; headers?: Record<string, string> }
}

const FAILURES: Record<string, RemoteFailure> = {
  NoSuchKey: 'gone',
  NoSuchVersion: 'gone',
  PreconditionFailed: 'changed',
  InvalidRange: 'changed',
}

/** What to do about an error, by S3's or the system's code for it. */
const HINTS: Record<string, string> = {
  NoSuchBucket: 'Check the bucket’s name and --endpoint-url',
  // The SDK's word for a 404 that holds no word of S3's.
  NotFound: 'Check the bucket’s name and --endpoint-url',
  PermanentRedirect: 'Name the bucket’s region with --region',
  AuthorizationHeaderMalformed: 'Name the bucket’s region with --region',
  AccessDenied: 'These credentials may not read here: they need s3:ListBucket and s3:GetObject',
  InvalidAccessKeyId: 'Check the credentials (AWS_* variables, --profile, --credentials-file)',
  SignatureDoesNotMatch: 'Check the secret key and --region',
  ExpiredToken: 'Renew the session’s credentials',
  RequestTimeTooSkewed: 'Set this machine’s clock',
  CredentialsProviderError:
    'Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --profile, --credentials-file or --no-sign-request',
  InvalidObjectState: 'It is archived: restore it first',
  ECONNREFUSED: 'Is the store running, and --endpoint-url right?',
  ENOTFOUND: 'Check the host of --endpoint-url, and the region',
}

/** Returns the HTTP status of the answer behind an error, if there was one. */
export function statusOf(thrown: unknown): number | undefined {
  const error = thrown as AnsweredError | null
  return error?.$metadata?.httpStatusCode ?? error?.$response?.statusCode
}

/**
 * Returns what an error of a GET says of the object. The code in the answer's XML decides, never
 * the status alone: a proxy has pages of its own for 404 and 412.
 */
function failureOf(thrown: unknown): RemoteFailure {
  return FAILURES[(thrown as AnsweredError | null)?.Code ?? ''] ?? 'unreachable'
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
  const hint = HINTS[code]
  return new RemoteError(failure, `${what}: ${describe(thrown, code)}`, {
    cause: thrown,
    ...(hint === undefined ? {} : { hint }),
  })
}

function codeOf(thrown: unknown): string {
  const error = thrown as AnsweredError | null
  return error?.Code ?? error?.code ?? error?.name ?? ''
}

function describe(thrown: unknown, code: string): string {
  const status = statusOf(thrown)
  // The SDK cannot read a page that is not S3's, and its own words for that help nobody.
  if (status !== undefined && (thrown as AnsweredError).Code === undefined) {
    return `HTTP status ${status}, without a reason that S3 would give`
  }
  const message = messageOf(thrown).replace(/^@smithy\/\S+ - (\[ERROR\] )?/, '')
  return message.startsWith(code) || /^(Error|Unknown)/.test(code) ? message : `${code}: ${message}`
}
