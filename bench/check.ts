/** Whether what a contender found is right: a wrong answer has no speed. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Catalog } from '../src/mapping/catalog.ts'
import { MAX_BLOCK, parsePlace } from '../src/mapping/place-line.ts'
import { type CatalogRecord, segmentHash } from '../src/mapping/record.ts'
import { treeLines } from '../test/e2e/keepgw.ts'
import type { Known } from './data.ts'

type Objects = ReadonlyMap<string, Known>

/** Throws unless the mapping's tree and catalog say of each object what is known of it, and no more. */
export async function checkMapping(mapping: string, objects: Objects): Promise<void> {
  const places = (await treeLines(mapping)).map((line) => {
    const place = parsePlace(line.slice(33))
    assert(place !== undefined, `a bad line in the tree: ${line}`)
    return `${line.slice(0, 32)} ${place.offset} ${place.length} ${place.key}`
  })
  const expected = [...objects].flatMap(([key, { size, segments }]) =>
    segments.map(
      (md5, i) => `${md5} ${i * MAX_BLOCK} ${Math.min(MAX_BLOCK, size - i * MAX_BLOCK)} ${key}`,
    ),
  )
  assertSame(places, expected, 'the tree')
  const catalog = [...catalogEntries(mapping)].map(({ key, record }) => `${key} ${hashes(record)}`)
  const known = [...objects].map(([key, { segments }]) => `${key} ${segments.join(' ')}`)
  assertSame(catalog, known, 'the catalog')
}

/** Throws unless both mappings hold the same: the trees' lines when sorted, and the catalogs. */
export async function checkSame(mapping: string, other: string): Promise<void> {
  assertSame(await treeLines(mapping), await treeLines(other), 'the tree')
  const catalog = (dir: string): string[] =>
    [...catalogEntries(dir)].map(({ key, record }) => JSON.stringify({ key, ...record }))
  assertSame(catalog(mapping), catalog(other), 'the catalog')
}

/** Throws unless the lines `MD5  KEY` of the file are just what is known. */
export function checkMd5Sums(file: string, objects: Objects): void {
  const expected = [...objects].map(([key, { md5 }]) => `${md5}  ${key}`)
  assertSame(linesOf(file), expected, 'the MD5 sums')
}

/** Throws unless the lines `DATE TIME SIZE KEY` of the file are of just the objects known. */
export function checkListing(file: string, objects: Objects): void {
  const listed = linesOf(file).map((line) => line.split(/\s+/).slice(2).join(' '))
  const expected = [...objects].map(([key, { size }]) => `${size} ${key}`)
  assertSame(listed, expected, 'the listing')
}

function* catalogEntries(mapping: string): Iterable<{ key: string; record: CatalogRecord }> {
  const catalog = Catalog.open(mapping, { readOnly: true })
  try {
    yield* catalog.entries()
  } finally {
    void catalog.close()
  }
}

function hashes(record: CatalogRecord): string {
  const count = record.hashes.length / 16
  return Array.from({ length: count }, (_, i) => segmentHash(record, i)).join(' ')
}

function linesOf(file: string): string[] {
  return readFileSync(file, 'utf8').trimEnd().split('\n')
}

/** As deepEqual after sorting, whose report on 100,000 lines would take minutes and help nobody. */
function assertSame(actual: string[], expected: string[], what: string): void {
  actual.sort()
  expected.sort()
  const at = expected.findIndex((line, i) => actual[i] !== line)
  if (at === -1 && actual.length === expected.length) return
  const i = at === -1 ? expected.length : at
  throw new Error(
    `${what} is wrong: ${actual.length} lines, not ${expected.length}; there is\n${actual[i]}\ninstead of\n${expected[i]}`,
  )
}
