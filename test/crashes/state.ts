/** What a crash has left of a mapping: tree and catalog, and whether they agree. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { CatalogStats, Intent } from '../../src/mapping/catalog-contents.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import {
  type CatalogRecord,
  segmentCount,
  segmentHash,
  segmentPlace,
} from '../../src/mapping/record.ts'
import type { RunHistory } from '../../src/mapping/run-report.ts'

/** What is in a mapping's own directory; a description that was not yet given its name does no harm. */
const OWN = /^(catalog|remote\.json(\.[0-9a-f-]{36})?)$/

/** What lies on disk, crashed or not. */
export interface State {
  /** Complete lines as `HASH LINE`, sorted. */
  lines: string[]
  /** Files of the tree with a line that lacks its line feed, or with none. */
  torn: string[]
  /** Names in the tree that are no hash, and in its own directory what is there only for a while. */
  strangers: string[]
  records: Map<string, CatalogRecord>
  intent: Intent | undefined
  lost: string[]
  stats: CatalogStats | undefined
  lastRun: RunHistory | undefined
}

/** Returns what lies on disk; where a run was ended before it had made its catalog, an empty one. */
export async function inspect(mapping: string): Promise<State> {
  const state: State = {
    lines: [],
    torn: [],
    strangers: [],
    records: new Map(),
    intent: undefined,
    lost: [],
    stats: undefined,
    lastRun: undefined,
  }
  // Nothing at all, where the crash came first.
  const names = existsSync(mapping) ? readdirSync(mapping) : []
  for (const shard of names) {
    for (const name of readdirSync(join(mapping, shard))) {
      if (shard === '.keepgw') {
        if (!OWN.test(name)) state.strangers.push(`${shard}/${name}`)
      } else if (!/^[0-9a-f]{32}$/.test(name)) {
        state.strangers.push(`${shard}/${name}`)
      } else {
        const lines = readFileSync(join(mapping, shard, name), 'utf8').split('\n')
        if (lines.pop() !== '' || lines.length === 0) state.torn.push(name)
        state.lines.push(...lines.map((line) => `${name} ${line}`))
      }
    }
  }
  state.lines.sort()
  const catalog = openIfMade(mapping)
  if (catalog === undefined) return state
  try {
    for (const { key, record } of catalog.entries()) state.records.set(key, record)
    state.intent = catalog.intent()
    state.lost = Array.from(catalog.lostBlocks(), ({ hash }) => hash)
    state.stats = catalog.stats()
    state.lastRun = catalog.lastRun()
  } finally {
    await catalog.close()
  }
  return state
}

function openIfMade(mapping: string): Catalog | undefined {
  try {
    return Catalog.open(mapping, { readOnly: true })
  } catch (error) {
    assert.match(String(error), /no catalog/)
    return undefined
  }
}

/** Returns the lines that a record has in the tree, as `HASH LINE`: none for a segment to be read anew. */
export function linesOf(key: string, record: CatalogRecord | null): string[] {
  const lines: string[] = []
  for (let segment = 0; segment < segmentCount(record?.size ?? 0); segment++) {
    const hash = segmentHash(record!, segment)
    if (hash !== undefined)
      lines.push(`${hash} ${formatPlace(segmentPlace(key, record!, segment))}`)
  }
  return lines
}

/** Returns what the catalog will say of each object once the intent is carried out. */
export function recordsAfter({ records, intent }: State): Map<string, CatalogRecord> {
  const after = new Map(records)
  for (const change of intent?.changes ?? []) {
    if (change.after === null) after.delete(change.key)
    else after.set(change.key, change.after)
  }
  return after
}

/** Returns how many lines of the pending intent are in the tree already. */
export function linesAhead({ lines, intent }: State): number {
  const there = new Set(lines)
  const ahead = (intent?.changes ?? []).flatMap(({ key, before, after }) => {
    const old = new Set(linesOf(key, before))
    return linesOf(key, after).filter((line) => !old.has(line) && there.has(line))
  })
  return ahead.length
}

/**
 * Asserts that the tree has each line once that the catalog claims, and no other: but for lines that the
 * intent is to add or to remove, which may be there or not, and of its files, whose last line may be torn.
 */
export function assertHonest({ lines, torn, records, intent }: State): void {
  const changes = intent?.changes ?? []
  const lasting = Array.from(records, ([key, record]) => linesOf(key, record)).flat()
  const passing = new Set<string>()
  for (const { key, before, after } of changes) {
    const [old, fresh] = [new Set(linesOf(key, before)), new Set(linesOf(key, after))]
    for (const line of old.symmetricDifference(fresh)) passing.add(line)
  }
  const settled = (all: string[]) => all.filter((line) => !passing.has(line))
  assertSameLines(settled(lines), settled(lasting).sort(), 'lines beside those of the catalog')
  assert.equal(new Set(lines).size, lines.length, 'a line is there twice')
  const open = new Set(Array.from(passing, (line) => line.slice(0, 32)))
  const isSettled = (hash: string) => !open.has(hash)
  assert.deepEqual(torn.filter(isSettled), [], 'files that are torn')
}

/** Returns the hashes of all lines, and of all that a record claims. */
export function hashesOf(state: State): Set<string> {
  const claimed = Array.from(recordsAfter(state), ([key, record]) => linesOf(key, record)).flat()
  return new Set([...state.lines, ...claimed].map((line) => line.slice(0, 32)))
}

/** Returns the records in lines that can be compared. */
export function describeRecords(records: State['records']): string[] {
  return Array.from(records, ([key, { etag, size, lastModified, hashes, trusted = false }]) => {
    return `${key} ${etag} ${size} ${lastModified} ${hashes.toString('hex')} ${trusted}`
  }).sort()
}

/** Asserts that two sorted lists are the same; says where they part, not all that they hold. */
export function assertSameLines(actual: string[], expected: string[], what: string): void {
  const at = expected.findIndex((line, i) => actual[i] !== line)
  if (at < 0 && actual.length === expected.length) return
  const first = at < 0 ? expected.length : at
  assert.fail(
    `${what}: ${actual.length}, not ${expected.length}; the first that differs is ` +
      `${JSON.stringify(actual[first])}, not ${JSON.stringify(expected[first])}`,
  )
}
