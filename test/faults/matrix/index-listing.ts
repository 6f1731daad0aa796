/** Cells of indexing where the listing fails: a failed listing is never an empty bucket. */
import { internalError } from '../fault.ts'
import { put } from './bench.ts'
import type { Cell } from './cell.ts'
import { BAD_CERTIFICATES, isList, LATE_NAME, NO_NAME, REFUSED, redirecting } from './faults.ts'
import { type IndexCase, indexCells } from './indexing.ts'
import {
  FIRST,
  fails,
  learnsAll,
  listingAnswers,
  listingBreaks,
  listingEdited,
  pages,
} from './listing-cases.ts'

/** The second run fails, and what the first one has learnt is still there. */
const keeps = { again: true, code: 1, knows: 'all' } as const
/** The second run names an object, and knows it as it did before. */
const namesOne = { again: true, code: 3, knows: 'all' } as const
/** The second run comes to its end, and finds nothing new. */
const findsAll = { again: true, code: 0, knows: 'all' } as const

const paged = (
  fault: string,
  moment: string,
  all: Parameters<typeof pages>[0],
  ends: Pick<IndexCase, 'code' | 'knows'> & Partial<IndexCase>,
): IndexCase => ({ fault: `listing: ${fault}`, moment, wires: pages(all), ...ends })

const wholeInTwo = {
  [FIRST]: { objects: [0, 9], more: true, next: 'two' },
  two: { objects: [9, 99], more: false },
} satisfies Parameters<typeof pages>[0]

/** Three pages, and these again and again. */
function comingAgain(): Parameters<typeof pages>[0] {
  const parts: [number, number][] = [
    [0, 5],
    [5, 9],
    [9, 99],
  ]
  const tokens = Array.from({ length: 30 }, (_, i) => (i === 0 ? FIRST : `token-${i}`))
  return Object.fromEntries(
    tokens.map((token, i) => {
      return [token, { objects: parts[i % 3]!, more: true, next: `token-${i + 1}` }]
    }),
  )
}

export const indexListingCells: Cell[] = indexCells([
  {
    ...REFUSED,
    ...fails,
    says: /ECONNREFUSED/,
    quick: true,
  },
  {
    ...REFUSED,
    ...keeps,
    says: /ECONNREFUSED/,
  },
  {
    fault: 'connections refused',
    moment: 'at the second page',
    wires: pages(wholeInTwo),
    arrange: async ({ proxy }) => {
      put(proxy, {
        match: ({ path }) => path.includes('continuation-token'),
        fault: { kind: 'before', run: () => proxy.down() },
      })
      return () => {}
    },
    ...keeps,
    says: /ECONNREFUSED|ECONNRESET|closed/,
  },
  ...BAD_CERTIFICATES.map((each) => ({ ...each, ...fails })),
  {
    ...NO_NAME,
    ...fails,
    says: /ENOTFOUND.*--endpoint-url/,
  },
  { ...LATE_NAME, ...learnsAll },

  listingBreaks('connection reset', 'at the start, once', learnsAll),
  listingBreaks('connection reset', 'at the start, always', keeps, { says: /closed|ECONNRESET/ }),
  listingBreaks('connection reset', 'in the middle, once', learnsAll),
  listingBreaks('connection reset', 'in the middle, always', keeps, {
    says: /closed|ECONNRESET/,
  }),
  listingBreaks('silence for ever', 'at the start, once', learnsAll),
  listingBreaks('silence for ever', 'at the start, always', keeps, {
    says: /no answer within 60 s/,
  }),
  listingBreaks('silence for ever', 'in the middle, always', keeps, { says: /no byte for 60 s/ }),
  listingBreaks('silence for ever', 'at the last byte, once', learnsAll),
  listingBreaks('cut short of its length', 'at the start, always', keeps),
  listingBreaks('cut short of its length', 'in the middle, once', learnsAll),
  listingBreaks('cut short of its length', 'in the middle, always', keeps),
  listingBreaks('cut short of its length', 'at the last byte, always', keeps, { says: /closed/ }),
  listingBreaks('short, as its length says', 'at the start, always', keeps, { says: /no listing/ }),
  listingBreaks('short, as its length says', 'in the middle, once', learnsAll),
  listingBreaks('short, as its length says', 'in the middle, always', keeps, {
    quick: true,
    says: /no listing/,
    safeguards: ['a listing must come whole'],
  }),
  listingBreaks('short, as its length says', 'at the last byte, always', keeps, {
    says: /no listing/,
  }),

  listingAnswers('500 InternalError', 'once', learnsAll),
  listingAnswers('500 InternalError', 'always', keeps, { says: /InternalError/ }),
  {
    fault: 'listing: 500 InternalError',
    moment: 'at the second page, eight times',
    wires: (lab) => [
      { fault: internalError, match: ({ path }) => path.includes('continuation-token'), times: 8 },
      ...pages(wholeInTwo)(lab),
    ],
    ...findsAll,
  },
  listingAnswers('503 SlowDown', 'once', learnsAll),
  listingAnswers('503 SlowDown, Retry-After: 1', 'once', learnsAll),
  listingAnswers('503 SlowDown, Retry-After: 3600', 'once', learnsAll),
  listingAnswers('503 SlowDown', 'always', keeps, { says: /SlowDown/ }),
  listingAnswers('403 AccessDenied', 'always', keeps, {
    says: /AccessDenied.*s3:ListBucket/,
  }),
  listingAnswers('expired credentials', 'once', learnsAll),
  listingAnswers('expired credentials', 'always', keeps, { says: /ExpiredToken.*Renew/ }),
  listingAnswers('404 NoSuchBucket', 'always', keeps, { says: /NoSuchBucket.*--endpoint-url/ }),
  listingAnswers("404, a proxy's page", 'always', keeps, { says: /status 404/ }),
  listingAnswers("200, a proxy's page", 'always', keeps, { says: /no listing/ }),
  listingAnswers('200 InternalError', 'once', learnsAll),
  listingAnswers('200 InternalError', 'always', keeps, { says: /no listing: .*InternalError/ }),
  {
    fault: 'listing: 307 to another endpoint',
    moment: 'at the start, always',
    arrange: redirecting(isList),
    ...keeps,
    says: /TemporaryRedirect/,
  },

  listingEdited('bytes that are no XML', (xml) => xml.replace('<Contents>', '<Con\0<<&>'), keeps, {
    says: /no listing/,
  }),
  listingEdited(
    'another answer of S3’s',
    (xml) => xml.replaceAll('ListBucketResult', 'ListAllMyBucketsResult'),
    keeps,
    { says: /no listing/ },
  ),
  listingEdited(
    'an object without its ETag',
    (xml) => xml.replace(/<ETag>.*?<\/ETag>/, ''),
    namesOne,
    { says: /not indexed: .*without an ETag/ },
  ),
  listingEdited('an object of no size', (xml) => xml.replace(/<Size>\d+/, '<Size>-1'), namesOne, {
    says: /not indexed: .*without a size/,
  }),
  listingEdited(
    'a key that is not URL-encoded',
    (xml) => xml.replace('<Key>block', '<Key>bl%ck'),
    keeps,
    { says: /not URL-encoded/ },
  ),
  listingEdited(
    'no word about its end',
    (xml) => xml.replace(/<IsTruncated>.*?<\/IsTruncated>/, ''),
    keeps,
    { says: /IsTruncated/ },
  ),
  paged(
    'keys that were not asked for',
    'at the first page',
    { [FIRST]: { objects: [0, 99], more: false } },
    {
      ...keeps,
      flags: ['--prefix=note/'],
      says: /which was not asked for/,
      safeguards: ['a listing must have what was asked for'],
    },
  ),
  listingEdited('empty', (xml) => xml.replace(/<Contents>.*<\/Contents>/s, ''), keeps, {
    quick: true,
    says: /17 of 17 .*Nothing was dropped.*--allow-drop/,
    safeguards: ['the shrink guard'],
  }),
  listingEdited(
    'other ETags than the objects’',
    (xml) => xml.replace(/<ETag>[^<]*/g, '<ETag>&quot;0123456789abcdef0123456789abcdef&quot;'),
    learnsAll,
  ),
  listingEdited(
    'other sizes than the objects’',
    (xml) => xml.replace(/<Size>(\d+)/g, (_, size) => `<Size>${Number(size) + 1}`),
    learnsAll,
  ),
  listingEdited(
    'each object twice',
    (xml) => xml.replace(/<Contents>.*<\/Contents>/s, (all) => all + all),
    learnsAll,
  ),

  paged(
    'ends too early, with most of it missing',
    'at the first page',
    { [FIRST]: { objects: [0, 5], more: false } },
    {
      ...keeps,
      says: /12 of 17 .*Nothing was dropped/,

      safeguards: ['the shrink guard'],
    },
  ),
  paged(
    'ends too early, with little of it missing',
    'at the first page',
    { [FIRST]: { objects: [0, 15], more: false } },
    { again: true, code: 0, knows: { allBut: ['twin/a', 'twin/b'] } },
  ),
  paged(
    'there is more, and no word where',
    'at the first page',
    { [FIRST]: { objects: [0, 9], more: true } },
    {
      ...keeps,
      says: /there is more, and not where/,
      safeguards: ['a listing must come to its end'],
    },
  ),
  paged(
    'its token leads to itself',
    'at the second page',
    {
      [FIRST]: { objects: [0, 9], more: true, next: 'two' },
      two: { objects: [9, 99], more: true, next: 'two' },
    },
    { ...keeps, says: /there is more, and where it was before/ },
  ),
  paged(
    'its tokens lead round',
    'after three pages',
    {
      [FIRST]: { objects: [0, 5], more: true, next: 'a' },
      a: { objects: [5, 9], more: true, next: 'b' },
      b: { objects: [9, 99], more: true, next: 'a' },
    },
    { ...keeps, quick: true, says: /there is more, and where it was before/ },
  ),
  paged('its pages come again, under ever new tokens', 'after three pages', comingAgain(), {
    ...keeps,
    says: /there is more, and lists the same again/,
  }),
  paged(
    'the pages overlap',
    'at the second page',
    {
      [FIRST]: { objects: [0, 9], more: true, next: 'two' },
      two: { objects: [6, 99], more: false },
    },
    findsAll,
  ),
  paged(
    'a page without objects',
    'in the middle',
    {
      [FIRST]: { objects: [0, 9], more: true, next: 'two' },
      two: { objects: [9, 9], more: true, next: 'three' },
      three: { objects: [9, 99], more: false },
    },
    findsAll,
  ),
])
