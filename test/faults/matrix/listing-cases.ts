/** Faults of listings, for the tables of indexing. */
import type { SeenRequest } from '../proxy.ts'
import type { Wire } from './bench.ts'
import {
  type AnswerName,
  answering,
  type BreakName,
  breaking,
  isList,
  type Moment,
  type Often,
} from './faults.ts'
import type { IndexCase } from './indexing.ts'
import type { Lab } from './lab.ts'

type More = Partial<IndexCase>
type Ends = Pick<IndexCase, 'code' | 'knows'>

/** The first run comes to its end all the same. */
export const learnsAll: Ends = { code: 0, knows: 'all' }
/** A first run fails, and the mapping is as empty as before. */
export const fails: Ends = { code: 1, knows: 'none' }

/** A listing whose answer breaks. */
export function listingBreaks(
  fault: BreakName,
  moment: Moment,
  ends: Ends,
  more: More = {},
): IndexCase {
  const wires = ({ listingBytes }: Lab): Wire[] => [breaking(fault, moment, listingBytes, isList)]
  return { fault: `listing: ${fault}`, moment, wires, ...ends, ...more }
}

/** Another answer than a listing. */
export function listingAnswers(
  fault: AnswerName,
  often: Often,
  ends: Ends,
  more: More = {},
): IndexCase {
  const wires = (): Wire[] => [answering(fault, often, isList)]
  return { fault: `listing: ${fault}`, moment: `at the start, ${often}`, wires, ...ends, ...more }
}

/** A listing whose text is another one. */
export function listingEdited(
  fault: string,
  edit: (xml: string, lab: Lab) => string,
  ends: Ends,
  more: More = {},
): IndexCase {
  const wires = (lab: Lab): Wire[] => [
    { fault: { kind: 'edit', edit: (xml) => edit(xml, lab) }, match: isList },
  ]
  return { fault: `listing: ${fault}`, moment: 'in its text', wires, ...ends, ...more }
}

/** A page of a listing that a test makes up. */
export interface Page {
  /** Of the lab's objects in their order: from which on, up to which, and not with it. */
  objects: [from: number, to: number]
  /** What IsTruncated says. */
  more: boolean
  /** Where more is; a page without one has none. */
  next?: string
}

/** A listing in pages of our own making: the first one, and others by their continuation tokens. */
export function pages(all: Record<string, Page>): (lab: Lab) => Wire[] {
  return (lab) =>
    Object.entries(all).map(([token, page]) => ({
      match: (request) => isList(request) && tokenOf(request) === token,
      fault: { kind: 'answer', status: 200, body: pageText(lab, page) },
    }))
}

/** Of the first page. */
export const FIRST = ''

function tokenOf({ path }: SeenRequest): string {
  return new URL(path, 'http://store').searchParams.get('continuation-token') ?? FIRST
}

function pageText({ objects }: Lab, { objects: [from, to], more, next }: Page): string {
  const contents = objects.slice(from, to).map(({ key, size, etag }) => {
    return `<Contents><Key>${encodeURIComponent(key)}</Key><ETag>"${etag}"</ETag><Size>${size}</Size></Contents>`
  })
  const token = next === undefined ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`
  return `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>${more}</IsTruncated>${token}${contents.join('')}</ListBucketResult>`
}
