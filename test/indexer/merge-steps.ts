/** What can happen to a bucket and to the runs over it, as merge-model.test.ts tries it. */
import fc from 'fast-check'
import { type Crash, crashes } from '../mapping/killed-batch.ts'
import type { Behaviour, Content, MemoryBucket } from './memory-bucket.ts'

const KEYS = ['a', 'a-b', 'a/1', 'a/b:%', 'b/é', 'b/🙂', 'c']
/** Enough of them that ETags come to be trusted: that takes 16 proofs. */
const CROWD = Array.from({ length: 22 }, (_, i) => `b/crowd${String(i).padStart(2, '0')}`)

/** What becomes of the bucket. */
export type Change =
  | { put: string; content: Content }
  | { remove: string }
  | { copy: string; to: string }
  | { crowd: Content['etag']; from: number }

/** One run of the index, and how it fares. */
export interface Run {
  scope: { prefixes?: string[]; include?: string[]; exclude?: string[] }
  maxObjects: number | undefined
  trusts: boolean
  crash: Crash | undefined
  listConcurrency: number
  behaviour: Omit<Behaviour, 'meanwhile'>
  meanwhile: { reads: number; change: Change } | undefined
}

/** What happens to a bucket and its mapping, one after the other. */
export type Step =
  | { change: Change }
  | { run: Run }
  | { repair: number[]; crash: Crash | undefined }
  | { prove: number[] }

const content: fc.Arbitrary<Content> = fc.record({
  full: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
  tail: fc.integer({ min: 0, max: 4 }),
  etag: fc.constantFrom('md5', 'md5', 'md5', 'parts'),
})

const key = fc.constantFrom(...KEYS)

const change: fc.Arbitrary<Change> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ put: key, content }) },
  { weight: 3, arbitrary: fc.record({ remove: fc.constantFrom(...KEYS, ...CROWD.slice(0, 3)) }) },
  { weight: 2, arbitrary: fc.record({ copy: key, to: key }) },
  {
    weight: 1,
    arbitrary: fc.record({
      crowd: fc.constantFrom('md5', 'md5', 'md5', 'false'),
      from: fc.integer({ min: 10, max: 12 }),
    }) as fc.Arbitrary<Change>,
  },
)

const behaviour: fc.Arbitrary<Run['behaviour']> = fc.record({
  unreadable: fc.subarray([...KEYS, CROWD[7]!], { maxLength: 2 }),
  pageSize: fc.integer({ min: 1, max: 5 }),
  order: fc.constantFrom('bytes', 'bytes', 'directories first'),
  ranges: fc.constantFrom('likely', 'sure'),
  failsAfter: fc.option(fc.nat({ max: 4 }), { freq: 6, nil: undefined }),
})

const run: fc.Arbitrary<Run> = fc.record({
  scope: fc.constantFrom(
    {},
    {},
    {},
    { prefixes: ['a'] },
    { prefixes: ['b/', 'a/'] },
    { include: ['*0*', 'a'] },
    { exclude: ['**/*1*'] },
  ),
  maxObjects: fc.option(fc.integer({ min: 1, max: 20 }), { freq: 3, nil: undefined }),
  trusts: fc.boolean(),
  crash: fc.option(
    fc.tuple(crashes, fc.nat({ max: 2 })).map(([crash, spares]) => ({ ...crash, spares })),
    { freq: 1, nil: undefined },
  ),
  listConcurrency: fc.constantFrom(1, 1, 3),
  behaviour,
  meanwhile: fc.option(fc.record({ reads: fc.integer({ min: 1, max: 6 }), change }), {
    freq: 3,
    nil: undefined,
  }),
})

const picks = fc.array(fc.nat(), { minLength: 1, maxLength: 3 })
/** Any step. */
export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ change }) },
  { weight: 4, arbitrary: fc.record({ run }) },
  {
    weight: 1,
    arbitrary: fc.record({ repair: picks, crash: fc.option(crashes, { nil: undefined }) }),
  },
  { weight: 1, arbitrary: fc.record({ prove: picks }) },
)

/** A run that comes to its end. */
export const PLAIN: Run = {
  scope: {},
  maxObjects: undefined,
  trusts: false,
  crash: undefined,
  listConcurrency: 1,
  behaviour: {
    unreadable: [],
    pageSize: 100,
    order: 'bytes',
    ranges: 'likely',
    failsAfter: undefined,
  },
  meanwhile: undefined,
}

/** Changes the bucket. */
export function apply(change: Change, { objects }: MemoryBucket): void {
  if ('put' in change) objects.set(change.put, change.content)
  else if ('remove' in change) objects.delete(change.remove)
  else if ('copy' in change) {
    const copied = objects.get(change.copy)
    if (copied !== undefined) objects.set(change.to, copied)
  } else {
    for (const [i, key] of CROWD.entries()) {
      objects.set(key, { full: [], tail: change.from + i, etag: change.crowd })
    }
  }
}
