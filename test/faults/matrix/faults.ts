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
  starting,
} from '../fault.ts'
import { type Bench, type Front, put, type Wire } from './bench.ts'
import type { Safeguard } from './cell.ts'
import type { CertificateKind } from './lab.ts'

/** An answer of something that is no store, with a status of its choice. */
const page = (status: number): Answer => ({ ...proxyPage, status })

/** Where a fault strikes in an answer: at a byte of its body, or before it. */
type At = number | undefined

/** What strikes at a moment of an answer. */
export const BREAKS = {
  'connection reset': (at: At): Fault => ({ kind: 'reset', at, milliseconds: 100 }),
  'cut short of its length': (at: At): Fault => ({ kind: 'cut', at }),
  'silence for ever': (at: At): Fault => ({ kind: 'stall', at }),
  'silence for 1 s': (at: At): Fault => ({ kind: 'stall', at, milliseconds: 1000 }),
  'short, as its length says': (at: At): Fault => ({ kind: 'length', bytes: at ?? 0 }),
  'a wrong byte': (at: At): Fault => ({ kind: 'flip', at: at ?? 0 }),
} as const

/** What a whole answer is like. */
export const ANSWERS = {
  '300 kB/s': { kind: 'slow', bytesPerSecond: 300_000 },
  '500 InternalError': internalError,
  '200 InternalError': { ...internalError, status: 200 },
  '503 ServiceUnavailable': starting,
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

export type BreakName = keyof typeof BREAKS
export type AnswerName = keyof typeof ANSWERS

/** When in an answer, and in how many of the answers. */
export type Moment = `${'at the start' | 'in the middle' | 'at the last byte'}, ${Often}`
export type Often = 'once' | 'always'
type Match = Wire['match']

/** Early enough that an answer which is asked for again does not come to its end by that alone. */
const MIDDLE = 100_000

/** Returns a fault that strikes at a moment of answers of so many bytes. */
export function breaking(fault: BreakName, moment: Moment, size: number, match: Match): Wire {
  const middle = Math.min(MIDDLE, Math.floor(size / 2))
  const at = moment.startsWith('at the start')
    ? undefined
    : moment.startsWith('in the middle')
      ? middle
      : size - 1
  return { fault: BREAKS[fault](at), match, times: timesOf(moment.endsWith('once')) }
}

/** Returns another answer than the store's. */
export function answering(fault: AnswerName, often: Often, match: Match): Wire {
  return { fault: ANSWERS[fault], match, times: timesOf(often === 'once') }
}

function timesOf(once: boolean): number | undefined {
  return once ? 1 : undefined
}

/** Makes the store send to another one, which must not be asked: it would see what is signed. */
export function redirecting(match: Match): (bench: Bench) => Promise<() => void> {
  return async (bench) => {
    const other = await bench.anotherProxy()
    put(bench.proxy, { fault: redirect(`${other.endpoint}/elsewhere`), match })
    return () => {
      if (other.requests.length > 0) throw new Error('it has followed the redirect')
    }
  }
}

interface BadCertificate {
  fault: string
  moment: string
  front: Front
  says: RegExp
  safeguards: Safeguard[]
}

/** Certificates that are none for the store. */
export const BAD_CERTIFICATES: readonly BadCertificate[] = [
  badCertificate('of an unknown authority', /self-signed|unable to verify/),
  badCertificate('of another name', /altnames/),
  badCertificate('that has expired', /expired/),
]

function badCertificate(certificate: CertificateKind, says: RegExp): BadCertificate {
  return {
    fault: `a certificate ${certificate}`,
    moment: 'at the handshake',
    front: { kind: 'certificate', certificate },
    says,
    safeguards: ['certificates are checked'],
  }
}

/** Nobody takes connections. */
export const REFUSED = {
  fault: 'connections refused',
  moment: 'at the start',
  front: { kind: 'down' },
} as const

/** The name of the store is not found, ever. */
export const NO_NAME = {
  fault: 'its name is not found',
  moment: 'always',
  front: { kind: 'name', failures: 1e9 },
} as const

/** The name of the store is found at last. */
export const LATE_NAME = {
  fault: 'its name is not found',
  moment: 'for a while',
  front: { kind: 'name', failures: 2 },
} as const

/** True for a GET of this object's bytes. */
export function isReadOf(key: string): Match {
  return ({ method, path }) => method === 'GET' && path.split('?')[0]!.endsWith(`/${key}`)
}

/** True for any request about this object. */
export function isAbout(key: string): Match {
  return ({ path }) => path.split('?')[0]!.endsWith(`/${key}`)
}

/** True for a request for a page of a listing. */
export const isList: Match = ({ path }) => path.includes('list-type')
