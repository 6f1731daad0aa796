/** Short forms for the tables of serving. */
import { rename } from 'node:fs/promises'
import type { SeenRequest } from '../proxy.ts'
import type { Wire } from './bench.ts'
import {
  ANSWERS,
  type AnswerName,
  answering,
  BREAKS,
  type BreakName,
  breaking,
  isAbout,
  type Moment,
  type Often,
  redirecting,
} from './faults.ts'
import { BLOCKS } from './lab.ts'
import type { Got, ServeCase } from './serving.ts'

type More = Partial<ServeCase>

const PIECE = 4 << 20

/** An answer that breaks. */
export function breaks(fault: BreakName, moment: Moment, got: Got, more: More = {}): ServeCase {
  const { block = 'block' } = more
  const wires = [breaking(fault, moment, BLOCKS[block].data.length, isAbout(block))]
  return { fault, moment, got, wires, ...more }
}

/** Another answer than the store's. */
export function answers(fault: AnswerName, often: Often, got: Got, more: More = {}): ServeCase {
  const { block = 'block', later } = more
  const moment = `${later ? 'after a good answer' : 'at the start'}, ${often}`
  return { fault, moment, got, wires: [answering(fault, often, isAbout(block))], ...more }
}

/** More bytes than were asked for. */
export function longer(got: Got, more: More = {}): ServeCase {
  const { block = 'block' } = more
  const bytes = BLOCKS[block].data.length + 1000
  const wires: Wire[] = [{ fault: { kind: 'length', bytes }, match: isAbout(block) }]
  return { fault: 'longer than asked for', moment: 'at the end', got, wires, ...more }
}

/** A fault from the second piece of a block on, where it is read in pieces. */
export function inPieces(
  fault: BreakName | AnswerName,
  often: Often,
  got: Got,
  more: More = {},
): ServeCase {
  const make = { ...BREAKS, ...ANSWERS }[fault]
  const wire: Wire = {
    fault: typeof make === 'function' ? make(100_000) : make,
    match: (request) => isAbout('pieces')(request) && startOf(request) >= PIECE,
    times: often === 'once' ? 1 : undefined,
  }
  return {
    fault,
    moment: `in the second piece, ${often}`,
    got,
    block: 'pieces',
    wires: [wire],
    ...more,
  }
}

function startOf({ headers }: SeenRequest): number {
  return Number(/^bytes=(\d+)-/.exec(String(headers.range))?.[1])
}

/** A store that goes away when it has answered well. */
export const refusedLater = (got: Got, more: More = {}): ServeCase => ({
  fault: 'connections refused',
  moment: 'after a good answer',
  got,
  later: true,
  says: /ECONNREFUSED/,
  arrange: async ({ proxy }) => {
    await proxy.down()
    return () => {}
  },
  ...more,
})

/** A redirect. */
export const redirected = (got: Got): ServeCase => ({
  fault: '307 to another endpoint',
  moment: 'at the start, always',
  got,
  says: /TemporaryRedirect/,
  arrange: redirecting(isAbout('block')),
})

/** A mapping whose disk goes away. */
export const mappingAway = (got: Got): ServeCase => ({
  fault: 'the mapping is away',
  moment: 'after a good answer',
  got,
  later: true,
  says: /out of reach/,
  arrange: async ({ mapping }) => {
    await rename(mapping, `${mapping}.away`)
    return () => rename(`${mapping}.away`, mapping)
  },
})

/** The store says that the key is missing, and that its bucket is, too. */
export const noKeyNorBucket: Wire[] = [
  { fault: ANSWERS['404 NoSuchKey'], match: isAbout('block') },
  { fault: ANSWERS['404 without a body'], match: ({ method }) => method === 'HEAD' },
]
