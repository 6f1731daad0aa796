/** Cells of indexing where the listing is well, and the reading of an object fails. */
import { put, type Wire } from './bench.ts'
import type { Cell } from './cell.ts'
import {
  ANSWERS,
  type AnswerName,
  answering,
  type BreakName,
  breaking,
  isAbout,
  isList,
  isReadOf,
  type Moment,
  type Often,
  redirecting,
} from './faults.ts'
import { type IndexCase, indexCells } from './indexing.ts'
import { BLOCKS } from './lab.ts'
import { learnsAll } from './listing-cases.ts'

type Ends = Pick<IndexCase, 'code' | 'knows'>
type More = Partial<IndexCase>

/** The object is named as not indexed, the others are indexed, and the next run reads it. */
const leavesIt: Ends = { code: 3, knows: { allBut: ['block'] } }
/** So many reads are let through before the store fails. */
const READ_BEFORE = 5

/** An answer to the reading of one object that breaks. */
function breaks(fault: BreakName, moment: Moment, ends: Ends, more: More = {}): IndexCase {
  const wire = breaking(fault, moment, BLOCKS.block.data.length, isAbout('block'))
  return { fault: `read: ${fault}`, moment, wires: () => [wire], ...ends, ...more }
}

/** Another answer than the object. */
function answers(fault: AnswerName, often: Often, ends: Ends, more: More = {}): IndexCase {
  const wire = answering(fault, often, isAbout('block'))
  const moment = `at the start, ${often}`
  return { fault: `read: ${fault}`, moment, wires: () => [wire], ...ends, ...more }
}

/** From a read in the middle of the run on, this is the answer to all. */
function fromThenOn(fault: AnswerName, says: RegExp): IndexCase {
  const wire: Wire = {
    fault: ANSWERS[fault],
    match: (request) => !isList(request),
    after: READ_BEFORE,
  }
  return {
    fault: `read: ${fault}`,
    moment: 'from the sixth read on',
    wires: () => [wire],
    flags: ['--concurrency=2'],
    code: 3,
    knows: 'some',
    says,
  }
}

const tooLong: Wire = {
  fault: { kind: 'length', bytes: BLOCKS.block.data.length + 1000 },
  match: isReadOf('block'),
}

export const indexReadingCells: Cell[] = indexCells([
  {
    fault: 'connections refused',
    moment: 'from the sixth read on',
    flags: ['--concurrency=2'],
    arrange: async ({ proxy }) => {
      put(proxy, {
        match: (request) => !isList(request),
        fault: { kind: 'before', run: () => proxy.isUp && proxy.down() },
        after: READ_BEFORE,
      })
      return () => {}
    },
    code: 3,
    knows: 'some',
    says: /not indexed: .*ECONNREFUSED/,
    quick: true,
  },
  breaks('connection reset', 'at the start, once', learnsAll),
  breaks('connection reset', 'at the start, always', leavesIt, { says: /not indexed: .*block/ }),
  breaks('connection reset', 'in the middle, once', learnsAll),
  breaks('connection reset', 'in the middle, always', learnsAll, {
    moment: 'after each 100,000 bytes',
  }),
  breaks('connection reset', 'at the last byte, once', learnsAll),
  breaks('silence for ever', 'at the start, once', learnsAll),
  breaks('silence for ever', 'at the start, always', leavesIt, {
    says: /block: .*no answer within 60 s/,
  }),
  breaks('silence for ever', 'in the middle, once', learnsAll),
  breaks('silence for ever', 'at the last byte, once', learnsAll),
  breaks('cut short of its length', 'at the start, always', leavesIt, {
    says: /not indexed: .*block/,
  }),
  breaks('cut short of its length', 'in the middle, once', learnsAll),
  breaks('cut short of its length', 'at the last byte, once', learnsAll),
  breaks('short, as its length says', 'at the start, always', leavesIt, {
    quick: true,
    says: /block: .*sent no more/,
    safeguards: ['what came is counted'],
  }),
  breaks('short, as its length says', 'in the middle, once', learnsAll, {
    safeguards: ['what came is counted'],
  }),
  {
    fault: 'read: longer than asked for',
    moment: 'at the end, always',
    wires: () => [tooLong],
    ...leavesIt,
    says: /block: .*sent more/,
  },
  answers('300 kB/s', 'always', learnsAll),

  answers('500 InternalError', 'once', learnsAll),
  answers('500 InternalError', 'always', leavesIt, { says: /not indexed: .*block: InternalError/ }),
  {
    fault: 'read: 503 ServiceUnavailable',
    moment: 'from the sixth read on, twelve times',
    wires: () => [
      {
        fault: ANSWERS['503 ServiceUnavailable'],
        match: (request) => !isList(request),
        after: READ_BEFORE,
        times: 12,
      },
    ],
    flags: ['--concurrency=2'],
    ...learnsAll,
    quick: true,
  },
  answers('503 SlowDown', 'once', learnsAll),
  answers('503 SlowDown, Retry-After: 1', 'once', learnsAll),
  answers('503 SlowDown', 'always', leavesIt, { says: /not indexed: .*block: SlowDown/ }),
  fromThenOn('503 SlowDown', /not indexed: .*SlowDown/),
  answers('403 AccessDenied', 'always', leavesIt, {
    says: /not indexed: .*block: AccessDenied/,
  }),
  fromThenOn('403 AccessDenied', /not indexed: .*AccessDenied/),
  answers('expired credentials', 'once', learnsAll),
  fromThenOn('expired credentials', /not indexed: .*ExpiredToken/),
  {
    fault: 'read: 307 to another endpoint',
    moment: 'at the start, always',
    arrange: redirecting(isAbout('block')),
    ...leavesIt,
    says: /block: TemporaryRedirect/,
  },

  breaks('a wrong byte', 'at the start, once', learnsAll, {
    quick: true,
    safeguards: ['what its ETag does not confirm is read again'],
  }),
  breaks('a wrong byte', 'at the last byte, once', learnsAll, {
    safeguards: ['what its ETag does not confirm is read again'],
  }),

  answers('another ETag', 'once', learnsAll),
  answers('another ETag', 'always', leavesIt, { says: /block: PreconditionFailed/ }),
  answers('412 PreconditionFailed', 'once', learnsAll),
  {
    fault: 'read: 412 to its own ETag',
    moment: 'always',
    wires: () => [
      {
        match: (request) => isReadOf('block')(request) && 'if-match' in request.headers,
        fault: ANSWERS['412 PreconditionFailed'],
      },
    ],
    ...learnsAll,
    says: /412 to its own ETags/,
  },
  answers('404 NoSuchKey', 'once', learnsAll),
  answers('404 NoSuchKey', 'always', leavesIt, { says: /not indexed: block: the store lists it/ }),
  {
    fault: 'read: 404 NoSuchKey, and no bucket',
    moment: 'always',
    wires: () => [
      { match: isAbout('block'), fault: ANSWERS['404 NoSuchKey'] },
      { match: ({ method }) => method === 'HEAD', fault: ANSWERS['404 without a body'] },
    ],
    ...leavesIt,
    says: /not indexed: /,
    safeguards: ['a missing key is believed only of a bucket that is there'],
  },
  answers('404 NoSuchBucket', 'always', leavesIt, { says: /not indexed: .*NoSuchBucket/ }),
  answers("404, a proxy's page", 'always', leavesIt, {
    says: /not indexed: .*status 404/,
    safeguards: ['only S3’s word proves an object gone'],
  }),
  answers("200, a proxy's page", 'always', leavesIt, { says: /not indexed: .*without an ETag/ }),
])
