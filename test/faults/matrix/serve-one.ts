/** Cells of serving where a block has one place: what one store does decides what the client gets. */
import type { Cell } from './cell.ts'
import {
  ANSWERS,
  type AnswerName,
  BREAKS,
  type BreakName,
  byteOf,
  type Moment,
  timesOf,
} from './faults.ts'
import { BLOCKS } from './lab.ts'
import { type Got, isAbout, type ServeCase, serveCells } from './serving.ts'

/** Early enough that an answer which is asked for again does not come to its end by that alone. */
const MIDDLE = 100_000

/** A case of an answer that breaks. */
function breaks(
  fault: BreakName,
  moment: Moment,
  got: Got,
  more: Partial<ServeCase> = {},
): ServeCase {
  const { block = 'block' } = more
  const at = byteOf(moment, BLOCKS[block].data.length, MIDDLE)
  const wire = { fault: BREAKS[fault](at), match: isAbout(block), times: timesOf(moment) }
  return { fault, moment, got, wires: [wire], ...more }
}

/** A case of another answer than the store's. */
function answers(
  fault: AnswerName,
  often: 'once' | 'always',
  got: Got,
  more: Partial<ServeCase> = {},
): ServeCase {
  const { block = 'block', later } = more
  const times = often === 'once' ? 1 : undefined
  const wire = { fault: ANSWERS[fault], match: isAbout(block), times }
  const moment = `${later ? 'after a good answer' : 'at the start'}, ${often}`
  return { fault, moment, got, wires: [wire], ...more }
}

export const serveOneCells: Cell[] = serveCells('serve, one place', [
  breaks('connection reset', 'at the start, once', 'whole', { quick: true }),
  breaks('connection reset', 'at the start, always', 503, { says: /closed|reset/i }),
  answers('500 InternalError', 'always', 503, { quick: true, says: /InternalError/ }),
  breaks('a wrong byte', 'at the start, always', 'cut', {
    quick: true,
    says: /does not match/,
    safeguards: ['the MD5 check', 'the hold-back'],
  }),
  answers('another ETag', 'always', 404, {
    quick: true,
    says: /"cause":"changed"/,
    safeguards: ['the answered ETag is compared'],
  }),
])
