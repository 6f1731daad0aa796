/** Cells of serving where a block has one place: what one store does decides what the client gets. */
import type { Cell } from './cell.ts'
import { BAD_CERTIFICATES, LATE_NAME, NO_NAME, REFUSED } from './faults.ts'
import {
  answers,
  breaks,
  inPieces,
  longer,
  mappingAway,
  noKeyNorBucket,
  redirected,
  refusedLater,
} from './serve-cases.ts'
import { type ServeCase, serveCells } from './serving.ts'

const HEAD = { method: 'HEAD' } as const
const small = { block: 'small' } as const
const later = { later: true } as const
const caught: Partial<ServeCase> = {
  says: /does not match/,
  safeguards: ['the MD5 check', 'the hold-back'],
}
const counted: Partial<ServeCase> = { says: /sent no more/, safeguards: ['what came is counted'] }
const compared: Partial<ServeCase> = {
  says: /"cause":"changed"/,
  safeguards: ['the answered ETag is compared'],
}
const noProof: Partial<ServeCase> = { safeguards: ['only S3’s word proves an object gone'] }

export const serveOneCells: Cell[] = serveCells('serve, one place', [
  { ...REFUSED, got: 503, says: /ECONNREFUSED/, quick: true },
  refusedLater(503),
  { ...REFUSED, got: 503, says: /ECONNREFUSED/, ...HEAD },

  breaks('connection reset', 'at the start, once', 'whole'),
  breaks('connection reset', 'at the start, always', 503, { says: /closed|ECONNRESET/ }),
  breaks('connection reset', 'in the middle, once', 'whole', { quick: true, says: /reading on/ }),
  breaks('connection reset', 'in the middle, always', 'cut', { says: /reading on/ }),
  breaks('connection reset', 'at the last byte, once', 'whole', { says: /reading on/ }),

  breaks('silence for ever', 'at the start, once', 'whole'),
  breaks('silence for ever', 'at the start, always', 503, { says: /nothing came for 2 s/ }),
  breaks('silence for ever', 'in the middle, once', 'whole', { says: /nothing came for 2 s/ }),
  breaks('silence for ever', 'in the middle, always', 'cut', { says: /nothing came for 2 s/ }),
  breaks('silence for ever', 'at the last byte, once', 'whole', { says: /nothing came for 2 s/ }),
  breaks('silence for ever', 'at the start, always', 503, HEAD),
  breaks('silence for 1 s', 'in the middle, always', 'whole'),
  answers('300 kB/s', 'always', 'whole'),
  answers('300 kB/s', 'once', 'whole', { ...small, moment: 'all along' }),

  breaks('cut short of its length', 'at the start, once', 'whole'),
  breaks('cut short of its length', 'in the middle, once', 'whole', { says: /reading on/ }),
  breaks('cut short of its length', 'in the middle, always', 'cut', {
    quick: true,
    says: /broke off/,
  }),
  breaks('cut short of its length', 'at the last byte, once', 'whole', { says: /reading on/ }),
  breaks('cut short of its length', 'at the last byte, always', 'whole', small),
  breaks('short, as its length says', 'at the start, always', 503, counted),
  breaks('short, as its length says', 'in the middle, once', 'whole', counted),
  breaks('short, as its length says', 'in the middle, always', 'cut', { says: /sent no more/ }),
  longer('whole'),
  longer('whole', { block: 'small', moment: 'at the end of a small block' }),

  answers('500 InternalError', 'once', 'whole'),
  answers('500 InternalError', 'always', 503, { says: /InternalError/ }),
  answers('500 InternalError', 'once', 'whole', HEAD),
  answers('503 SlowDown', 'once', 'whole'),
  answers('503 SlowDown, Retry-After: 1', 'once', 'whole'),
  answers('503 SlowDown', 'always', 503, { says: /SlowDown|nothing came/ }),
  answers('403 AccessDenied', 'always', 503, { ...later, quick: true, says: /AccessDenied/ }),
  answers('403 AccessDenied', 'always', 503, HEAD),
  answers('expired credentials', 'once', 'whole', later),
  answers('expired credentials', 'always', 503, { ...later, says: /ExpiredToken/ }),
  redirected(503),

  breaks('a wrong byte', 'at the start, always', 'cut', {
    quick: true,
    ...caught,
  }),
  breaks('a wrong byte', 'in the middle, always', 'cut', caught),
  breaks('a wrong byte', 'at the last byte, always', 'cut', caught),
  breaks('a wrong byte', 'in the middle, always', 502, {
    ...small,
    quick: true,
    moment: 'in a block that is held back, always',
    ...caught,
  }),
  breaks('a wrong byte', 'in the middle, once', 502, {
    ...small,
    moment: 'in a block that is held back, once',
    next: 'whole',
  }),

  answers('another ETag', 'always', 404, {
    quick: true,
    ...compared,
  }),
  answers('another ETag', 'always', 404, HEAD),
  answers('412 PreconditionFailed', 'always', 404, { says: /"cause":"changed"/ }),
  answers('404 NoSuchKey', 'always', 404, { says: /"cause":"gone"/ }),
  answers('404 NoSuchKey', 'always', 404, HEAD),
  answers('404 NoSuchKey', 'always', 503, {
    quick: true,
    fault: '404 NoSuchKey, and no bucket',
    wires: noKeyNorBucket,
    safeguards: ['a missing key is believed only of a bucket that is there'],
  }),
  answers('404 NoSuchBucket', 'always', 503, { says: /NoSuchBucket/ }),
  answers("404, a proxy's page", 'always', 503, {
    quick: true,
    says: /status 404/,
    ...noProof,
  }),
  answers("404, a proxy's page", 'always', 503, {
    ...HEAD,
    ...noProof,
  }),
  answers('404 without a body', 'always', 503, {
    says: /status 404/,
    ...noProof,
  }),
  answers("412, a proxy's page", 'always', 503, { says: /status 412/ }),
  answers("200, a proxy's page", 'always', 503, { says: /without an ETag/ }),

  inPieces('connection reset', 'once', 'whole', { says: /reading on/ }),
  inPieces('500 InternalError', 'always', 'cut', { says: /InternalError/ }),
  inPieces('a wrong byte', 'once', 'cut', caught),
  inPieces('another ETag', 'always', 'cut', compared),
  inPieces('short, as its length says', 'once', 'whole', { says: /sent no more/ }),

  ...BAD_CERTIFICATES.map((each) => ({ ...each, got: 503 as const })),
  { ...NO_NAME, got: 503, says: /ENOTFOUND/ },
  { ...LATE_NAME, got: 'whole' },
  mappingAway(503),
])
