/** Cells of serving where a block has two places, each in a store of its own. */
import type { Cell } from './cell.ts'
import {
  ANSWERS,
  type AnswerName,
  BAD_CERTIFICATES,
  BREAKS,
  isAbout,
  NO_NAME,
  REFUSED,
} from './faults.ts'
import {
  answers,
  breaks,
  inPieces,
  longer,
  mappingAway,
  redirected,
  refusedLater,
} from './serve-cases.ts'
import { type Got, type ServeCase, serveCells } from './serving.ts'

const HEAD = { method: 'HEAD' } as const
const small = { block: 'small' } as const
const not404: Partial<ServeCase> = { safeguards: ['unreachable places forbid a 404'] }
const failover = { says: /"msg":"failover"/ } as const

type Ways = AnswerName | 'a wrong byte' | 'silence for ever'

/** Both places of a block that is held back fail, each in its own way. */
function both(first: Ways, second: Ways, got: Got, more: Partial<ServeCase> = {}): ServeCase {
  const wires = [first, second].map((name) => {
    const fault = { ...BREAKS, ...ANSWERS }[name]
    return {
      fault: typeof fault === 'function' ? fault(undefined) : fault,
      match: isAbout('small'),
    }
  })
  const fault = `${first}; the other: ${second}`
  return {
    fault,
    moment: 'always',
    block: 'small',
    wires: [wires[0]!],
    second: [wires[1]!],
    got,
    ...more,
  }
}

export const serveTwoCells: Cell[] = serveCells('serve, two places', [
  { ...REFUSED, got: 'whole', says: /ECONNREFUSED/, quick: true },
  refusedLater('whole'),
  breaks('connection reset', 'at the start, always', 'whole', failover),
  breaks('connection reset', 'in the middle, always', 'whole', { ...failover, quick: true }),
  breaks('silence for ever', 'at the start, always', 'whole'),
  breaks('silence for ever', 'in the middle, always', 'whole', failover),
  breaks('silence for ever', 'at the last byte, once', 'whole', failover),
  breaks('cut short of its length', 'at the start, always', 'whole', failover),
  breaks('cut short of its length', 'in the middle, always', 'whole', failover),
  breaks('short, as its length says', 'at the start, always', 'whole', failover),
  breaks('short, as its length says', 'in the middle, always', 'whole', failover),
  longer('whole', { block: 'small' }),
  answers('500 InternalError', 'always', 'whole', failover),
  answers('503 SlowDown', 'always', 'whole'),
  answers('503 SlowDown, Retry-After: 3600', 'always', 'whole'),
  answers('403 AccessDenied', 'always', 'whole', { ...failover, later: true }),
  answers('expired credentials', 'always', 'whole', { ...failover, later: true }),
  redirected('whole'),

  breaks('a wrong byte', 'in the middle, always', 'whole', {
    ...small,
    quick: true,
    says: /does not match/,
    safeguards: ['the MD5 check'],
  }),
  breaks('a wrong byte', 'at the start, always', 'cut', {
    next: 'whole',
    says: /does not match/,
    safeguards: ['the MD5 check', 'the hold-back'],
  }),
  breaks('a wrong byte', 'at the last byte, always', 'cut', {
    next: 'whole',
    says: /does not match/,
  }),
  inPieces('a wrong byte', 'always', 'cut', { next: 'whole', says: /does not match/ }),

  answers('another ETag', 'always', 'whole', failover),
  inPieces('another ETag', 'always', 'whole', failover),
  inPieces('500 InternalError', 'always', 'whole', failover),
  answers('404 NoSuchKey', 'always', 'whole', failover),
  answers('404 NoSuchBucket', 'always', 'whole', failover),
  answers("404, a proxy's page", 'always', 'whole', failover),
  ...BAD_CERTIFICATES.map((each) => ({ ...each, got: 'whole' as const })),
  { ...NO_NAME, got: 'whole', says: /ENOTFOUND/ },
  mappingAway('whole'),

  { ...REFUSED, ...HEAD, got: 'whole', says: /ECONNREFUSED/ },
  answers('404 NoSuchKey', 'always', 'whole', { ...HEAD, ...failover }),
  both('404 NoSuchKey', '403 AccessDenied', 503, { ...HEAD, ...not404 }),

  both('404 NoSuchKey', '404 NoSuchKey', 404),
  both('404 NoSuchKey', 'another ETag', 404),
  both('404 NoSuchKey', '500 InternalError', 503, {
    quick: true,
    ...not404,
  }),
  both('403 AccessDenied', '404 NoSuchKey', 503, not404),
  both('another ETag', "404, a proxy's page", 503, not404),
  both('silence for ever', '404 NoSuchKey', 503, not404),
  both('a wrong byte', '404 NoSuchKey', 502),
  both('a wrong byte', '500 InternalError', 503),
  both('a wrong byte', 'a wrong byte', 502, { safeguards: ['the MD5 check'] }),
  both('503 SlowDown', '403 AccessDenied', 503),
])
