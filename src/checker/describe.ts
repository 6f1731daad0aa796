/** Says what is the matter with what a look has met, and what would make it good. */
import { join } from 'node:path'
import type { Place } from '../mapping/mapping.ts'
import { showKey } from '../remote/key.ts'
import type { Found, Mend } from './findings.ts'
import type { Judgement } from './judge.ts'
import type { TreeEntry } from './tree-files.ts'

/** A line that the catalog's places do not explain. */
export interface Suspect {
  kind: 'line' | 'doubled' | 'bad' | 'torn'
  text: string | undefined
  place?: Place
}

/** Returns the finding that an entry is which is no file of a hash in its place. */
export function strangerIn(entry: Exclude<TreeEntry, { kind: 'file' }>): Found {
  const { where } = entry
  if (entry.kind === 'leftover') {
    const mend: Mend = { do: 'remove', where }
    return { kind: 'leftover', where, what: 'left by a run that was cut short', mend }
  }
  if (entry.kind === 'foreign') return { kind: 'foreign', where, what: 'not of a mapping' }
  if (entry.kind === 'unreadable') {
    return { kind: 'unreadable', where, what: entry.what, mend: { do: 'move', where } }
  }
  const { hash } = entry
  const what = 'readers look for it in another directory'
  return { kind: entry.kind, where, what, mend: { do: 'place', hash, where } }
}

/** Returns the finding that a line is; none where it is right. `length` is the block's, where known. */
export function describeLine(
  hash: string,
  { kind, text = '', place }: Suspect,
  judgement: Judgement | undefined,
  length: number | undefined,
): Found | undefined {
  const where = whereOf(hash)
  const shown = `"${showKey(text)}"`
  if (place === undefined || judgement === undefined) {
    const change = { add: [], remove: [], dropBadLines: true as const }
    const what = kind === 'torn' ? `a line without its end: ${shown}` : `no line: ${shown}`
    return {
      kind: kind === 'torn' ? 'torn' : 'bad',
      where,
      what,
      mend: { do: 'change', hash, change },
    }
  }
  const drop: Mend = { do: 'change', hash, change: { add: [], remove: [place] } }
  if (kind === 'doubled') {
    const mend: Mend = { do: 'change', hash, change: { add: [place], remove: [] } }
    return { kind, where, what: `twice: ${shown}`, mend }
  }
  switch (judgement.kind) {
    case 'right':
      return undefined
    case 'wrong': {
      const change = { add: [judgement.expected], remove: [] }
      const what = `not what the catalog says: ${shown}`
      return { kind: 'wrong', where, what, mend: { do: 'change', hash, change } }
    }
    case 'stale':
      return { kind: 'stale', where, what: `not so any more: ${shown}`, mend: drop }
    case 'conflict': {
      const what = `the catalog disagrees, and nothing proves which is right: ${shown}`
      return { kind: 'conflict', where, what, mend: { do: 'doubt', hash, place } }
    }
    case 'stray': {
      if (length !== undefined && length !== place.length) {
        return {
          kind: 'length',
          where,
          what: `the block has ${length} bytes: ${shown}`,
          mend: drop,
        }
      }
      const what = `of an object that is not in the catalog: ${shown}`
      return { kind: 'stray', where, what, mend: { do: 'ask', hash, place } }
    }
  }
}

/** Returns where the file of a hash lies, below the mapping. */
export function whereOf(hash: string): string {
  return join(hash.slice(0, 3), hash)
}

/** Returns how a place is named in a finding. */
export function placeName({ key, offset }: Place): string {
  return `${showKey(key)} from byte ${offset} on`
}

/** Returns the finding that a count is. */
export function wrongCount(name: string, said: number, is: number): Found {
  return { kind: 'counts', where: 'catalog', what: `${name}: it says ${said}, there are ${is}` }
}
