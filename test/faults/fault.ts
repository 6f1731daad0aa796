/**
 * What can go wrong between keepgw and a store, and the answers that a store, or something between
 * it and us, gives instead of an object.
 */

/** An answer that never reaches the store. */
export interface Answer {
  kind: 'answer'
  status: number
  headers?: Record<string, string>
  body?: string
}

/**
 * What happens to a request. `at` counts bytes of the answer's body; where it is left out, it
 * happens before the answer's status line. A fault whose `at` lies beyond the body does nothing.
 */
export type Fault =
  | Answer
  /** The connection is reset, after so long a silence: without, the client may not have read it all. */
  | { kind: 'reset'; at?: number | undefined; milliseconds?: number }
  /** Nothing more comes for so long; or else until the rule is released or the client gives up. */
  | { kind: 'stall'; at?: number | undefined; milliseconds?: number }
  /** The connection is closed in good order, short of its Content-Length. */
  | { kind: 'cut'; at?: number | undefined }
  | { kind: 'slow'; bytesPerSecond: number }
  /** All bits of one byte are turned over; the length stays. */
  | { kind: 'flip'; at: number }
  /** The answer has this many bytes, and a Content-Length that says so; zeros where it had less. */
  | { kind: 'length'; bytes: number }
  /** The text of the answer's body is another one, as its Content-Length says. */
  | { kind: 'edit'; edit: (text: string) => string }
  /** The answer shows this ETag (quotes are added). */
  | { kind: 'etag'; etag: string }
  /** Runs, and is waited for, before the request goes on; other rules apply as well. */
  | { kind: 'before'; run: () => unknown }

/** Returns an answer in the words of S3's errors. */
export function s3Error(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>${code}</Code><Message>${message}</Message><RequestId>fault</RequestId></Error>`
  return {
    kind: 'answer',
    status,
    headers: { 'Content-Type': 'application/xml', ...headers },
    body,
  }
}

/** Returns 503 SlowDown; `retryAfter` in seconds. */
export function slowDown(retryAfter?: number): Answer {
  const headers: Record<string, string> = {}
  if (retryAfter !== undefined) headers['Retry-After'] = String(retryAfter)
  return s3Error(503, 'SlowDown', 'Please reduce your request rate.', headers)
}

/** Returns 307 to another address of the store. */
export function redirect(location: string): Answer {
  const message = 'Please re-send this request to the endpoint.'
  return s3Error(307, 'TemporaryRedirect', message, { Location: location })
}

export const internalError = s3Error(500, 'InternalError', 'We encountered an internal error.')

/** What stores say that are being started. */
export const starting = s3Error(503, 'ServiceUnavailable', 'Please try again.')

/** Credentials that were good a moment ago. */
export const expiredToken = s3Error(400, 'ExpiredToken', 'The provided token has expired.')

export const accessDenied = s3Error(403, 'AccessDenied', 'Access Denied')

export const noSuchBucket = s3Error(404, 'NoSuchBucket', 'The specified bucket does not exist')

export const noSuchKey = s3Error(404, 'NoSuchKey', 'The specified key does not exist.')

/** 404 of a reverse proxy that has lost its store: says nothing about the object. */
export const proxyPage: Answer = {
  kind: 'answer',
  status: 404,
  headers: { 'Content-Type': 'text/html' },
  body: '<html><head><title>404 Not Found</title></head><body>nginx</body></html>',
}
