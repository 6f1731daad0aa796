/** The faults of the matrix by name, and the moments at which they strike. */
import {
  type Answer,
  accessDenied,
  expiredToken,
  type Fault,
  internalError,
  noSuchBucket,
  noSuchKey,
  proxyPage,
  redirect,
  s3Error,
  slowDown,
} from '../fault.ts'

/** An answer of something that is no store, with a status of its choice. */
const page = (status: number): Answer => ({ ...proxyPage, status })

/** Where a fault strikes in an answer: at a byte of its body, or before it. */
type At = number | undefined

/** What strikes at a moment of an answer. */
export const BREAKS = {
  'connection reset': (at: At): Fault => ({ kind: 'reset', at }),
  'cut short of its length': (at: At): Fault => ({ kind: 'cut', at }),
  'silence for ever': (at: At): Fault => ({ kind: 'stall', at }),
  'silence for 1 s': (at: At): Fault => ({ kind: 'stall', at, milliseconds: 1000 }),
  'short, as its length says': (at: At): Fault => ({ kind: 'length', bytes: at ?? 0 }),
  'a wrong byte': (at: At): Fault => ({ kind: 'flip', at: at ?? 0 }),
} as const

/** What a whole answer is like. `elsewhere`: where a redirect leads to. */
export const ANSWERS = {
  '300 kB/s': { kind: 'slow', bytesPerSecond: 300_000 },
  '500 InternalError': internalError,
  '503 SlowDown': slowDown(),
  '503 SlowDown, Retry-After: 1': slowDown(1),
  '503 SlowDown, Retry-After: 3600': slowDown(3600),
  '403 AccessDenied': accessDenied,
  'expired credentials': expiredToken,
  'another ETag': { kind: 'etag', etag: '0123456789abcdef0123456789abcdef' },
  '404 NoSuchKey': noSuchKey,
  '404 NoSuchBucket': noSuchBucket,
  '412 PreconditionFailed': s3Error(412, 'PreconditionFailed', 'One did not hold'),
  "404, a proxy's page": page(404),
  "412, a proxy's page": page(412),
  "200, a proxy's page": page(200),
  '404 without a body': { kind: 'answer', status: 404 },
} as const satisfies Record<string, Fault>

/** Returns 307 to another endpoint. */
export function redirectTo(endpoint: string): Fault {
  return redirect(`${endpoint}/elsewhere`)
}

export type BreakName = keyof typeof BREAKS
export type AnswerName = keyof typeof ANSWERS

/** When in an answer, and in how many of the answers. */
export type Moment =
  `${'at the start' | 'in the middle' | 'at the last byte'}, ${'once' | 'always'}`

/** Returns the byte of an answer of so many bytes that a moment is at; none before the answer. */
export function byteOf(moment: Moment, size: number, middle = Math.floor(size / 2)): At {
  if (moment.startsWith('at the start')) return undefined
  return moment.startsWith('in the middle') ? middle : size - 1
}

/** Returns how many requests meet a fault of this moment; undefined for all. */
export function timesOf(moment: Moment): number | undefined {
  return moment.endsWith('once') ? 1 : undefined
}
