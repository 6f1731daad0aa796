/** Cells of verifying, and of repairing what it finds. */
import type { Wire } from './bench.ts'
import type { Cell } from './cell.ts'
import {
  ANSWERS,
  type AnswerName,
  answering,
  BAD_CERTIFICATES,
  BREAKS,
  type BreakName,
  breaking,
  isAbout,
  LATE_NAME,
  type Moment,
  NO_NAME,
  type Often,
  REFUSED,
  redirecting,
} from './faults.ts'
import { BLOCKS } from './lab.ts'
import { type VerifyCase, verifyCells } from './verifying.ts'

type Ends = Pick<VerifyCase, 'code' | 'finds'>
type More = Partial<VerifyCase>

const ok: Ends = { code: 0, finds: /^blocks: 16 verified, 16 good/ }
const unreachable: Ends = { code: 3, finds: /^\w+ unreachable \d+:\d+:block\t[^\n]*\nblocks: / }
const bad = (verdict: string): Ends => ({
  code: 1,
  finds: new RegExp(
    `^\\w+ ${verdict} \\d+:\\d+:block\\t[^\\n]*\\n(places dropped: 1;[^\\n]*\\n)?blocks: `,
  ),
})
/** All of them. */
const allUnreachable: Ends = { code: 3, finds: /^(\w+ unreachable [^\n]*\n){17}blocks: / }
const repair = { flags: ['--repair'] }

function breaks(fault: BreakName, moment: Moment, ends: Ends, more: More = {}): VerifyCase {
  const wire = breaking(fault, moment, BLOCKS.block.data.length, isAbout('block'))
  return { fault, moment, wires: [wire], ...ends, ...more }
}

function answers(fault: AnswerName, often: Often, ends: Ends, more: More = {}): VerifyCase {
  const wire = answering(fault, often, isAbout('block'))
  return { fault, moment: `at the start, ${often}`, wires: [wire], ...ends, ...more }
}

const everywhere = (fault: AnswerName | 'a wrong byte'): Wire => ({
  fault: fault === 'a wrong byte' ? BREAKS[fault](0) : ANSWERS[fault],
  match: ({ method }) => method === 'GET',
})

export const verifyAllCells: Cell[] = verifyCells([
  {
    ...REFUSED,
    ...allUnreachable,
    quick: true,
  },
  breaks('connection reset', 'at the start, once', ok),
  breaks('connection reset', 'at the start, always', unreachable),
  breaks('connection reset', 'in the middle, once', ok),
  breaks('connection reset', 'at the last byte, once', ok),
  breaks('silence for ever', 'at the start, always', unreachable),
  breaks('silence for ever', 'in the middle, once', ok),
  breaks('silence for ever', 'at the last byte, once', ok),
  breaks('cut short of its length', 'at the start, always', unreachable),
  breaks('cut short of its length', 'in the middle, once', ok),
  breaks('short, as its length says', 'at the start, always', unreachable),
  breaks('short, as its length says', 'in the middle, once', ok, {
    safeguards: ['what came is counted'],
  }),
  answers('300 kB/s', 'always', ok),
  answers('500 InternalError', 'once', ok),
  answers('500 InternalError', 'always', unreachable),
  answers('503 SlowDown, Retry-After: 1', 'once', ok),
  answers('503 SlowDown', 'always', unreachable),
  answers('403 AccessDenied', 'always', unreachable),
  answers('expired credentials', 'once', ok),
  answers('expired credentials', 'always', unreachable),
  {
    fault: '307 to another endpoint',
    moment: 'at the start, always',
    arrange: redirecting(isAbout('block')),
    ...unreachable,
  },
  ...BAD_CERTIFICATES.map(({ says, ...each }): VerifyCase => ({ ...each, code: 3, finds: says })),
  { ...NO_NAME, ...allUnreachable },
  { ...LATE_NAME, ...ok },

  breaks('a wrong byte', 'at the start, always', bad('corrupt')),
  breaks('a wrong byte', 'at the last byte, always', bad('corrupt')),
  {
    fault: 'a wrong byte',
    moment: 'in one of two places',
    wires: [{ fault: BREAKS['a wrong byte'](0), match: isAbout('twin/a') }],
    code: 0,
    finds: /^\w+ corrupt \S+:twin\/a\t[^\n]*\nblocks: 16 verified, 16 good.* bad places: 1/,
  },
  answers('another ETag', 'always', bad('changed')),
  answers('412 PreconditionFailed', 'always', bad('changed')),
  answers('404 NoSuchKey', 'always', bad('gone')),
  {
    fault: '404 NoSuchKey, and no bucket',
    moment: 'always',
    wires: [
      everywhere('404 NoSuchKey'),
      { fault: ANSWERS['404 without a body'], match: ({ method }) => method === 'HEAD' },
    ],
    ...allUnreachable,
    safeguards: ['a missing key is believed only of a bucket that is there'],
  },
  answers('404 NoSuchBucket', 'always', unreachable),
  answers("404, a proxy's page", 'always', unreachable, {
    quick: true,
    safeguards: ['only S3’s word proves an object gone'],
  }),

  answers('404 NoSuchKey', 'always', bad('gone'), { ...repair, drops: ['block'] }),
  breaks('a wrong byte', 'in the middle, always', bad('corrupt'), {
    ...repair,
    drops: ['block'],
    quick: true,
  }),
  answers('403 AccessDenied', 'always', unreachable, {
    ...repair,
    safeguards: ['repair drops only what is proven bad'],
  }),
  {
    ...REFUSED,
    ...repair,
    ...allUnreachable,
    safeguards: ['repair drops only what is proven bad'],
  },
  {
    fault: 'wrong bytes everywhere',
    moment: 'at the start, always',
    wires: [everywhere('a wrong byte')],
    ...repair,
    code: 1,
    finds: /^(\w+ corrupt [^\n]*\n){17}$/,
    says: /17 of 17 .*Nothing was dropped/,
    quick: true,
    safeguards: ['the shrink guard'],
  },
  {
    fault: '404 NoSuchKey everywhere',
    moment: 'at the start, always',
    wires: [everywhere('404 NoSuchKey')],
    ...repair,
    code: 1,
    finds: /^(\w+ gone [^\n]*\n){17}$/,
    says: /17 of 17 .*Nothing was dropped/,
    safeguards: ['the shrink guard'],
  },
])
