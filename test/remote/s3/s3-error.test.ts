/** What a refusal asks of us: to be slower, to try again, or neither. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isThrottling, isTransient, S3Error } from '../../../src/remote/s3/s3-error.ts'

const error = (code: string): string => `<Error><Code>${code}</Code></Error>`
const PAGE = '<html><body>Service Unavailable</body></html>'

function refusal(status: number, body: string): S3Error {
  const refused = new S3Error({ status, headers: {} })
  refused.sink(Buffer.from(body))
  return refused.read()
}

type Wish = 'slower' | 'again' | 'neither'

function wishOf(refused: S3Error): Wish {
  if (!isTransient(refused)) return 'neither'
  return isThrottling(refused) ? 'slower' : 'again'
}

const REFUSALS: [status: number, body: string, wish: Wish][] = [
  [503, error('SlowDown'), 'slower'],
  [429, error('TooManyRequests'), 'slower'],
  [429, '', 'slower'],
  [400, error('Throttling'), 'slower'],
  [400, error('ThrottlingException'), 'slower'],
  [503, error('RequestThrottled'), 'slower'],
  [503, error('RequestLimitExceeded'), 'slower'],
  [503, PAGE, 'slower'],
  [503, error('SlowDownRead'), 'again'],
  [503, error('ServiceUnavailable'), 'again'],
  // As any answer to HEAD, which says nothing of why.
  [503, '', 'again'],
  [500, error('InternalError'), 'again'],
  [502, PAGE, 'again'],
  [408, '', 'again'],
  [520, PAGE, 'again'],
  [524, PAGE, 'again'],
  [400, error('RequestTimeout'), 'again'],
  [403, error('AccessDenied'), 'neither'],
  [404, PAGE, 'neither'],
]

for (const [status, body, wish] of REFUSALS) {
  test(`${status} ${body} asks for: ${wish}`, () => {
    assert.equal(wishOf(refusal(status, body)), wish)
  })
}
