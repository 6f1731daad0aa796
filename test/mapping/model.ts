/** What a mapping should be, told from its objects alone, and the comparison with what it is. */
import assert from 'node:assert/strict'
import type { Catalog } from '../../src/mapping/catalog.ts'
import type { CatalogStats } from '../../src/mapping/catalog-contents.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import {
  type CatalogRecord,
  segmentCount,
  segmentHash,
  segmentPlace,
} from '../../src/mapping/record.ts'
import { compareKeys } from '../../src/remote/key.ts'
import { readTree } from './fixture.ts'

/** What the catalog should hold. */
export type Model = Map<string, CatalogRecord>

/** The places of a model by their hashes. */
export function placesOf(
  model: Model,
): Map<string, { key: string; line: string; length: number }[]> {
  const places = new Map<string, { key: string; line: string; length: number }[]>()
  for (const [key, record] of model) {
    for (let segment = 0; segment < segmentCount(record.size); segment++) {
      const hash = segmentHash(record, segment)
      if (hash === undefined) continue
      const place = segmentPlace(key, record, segment)
      const of = places.get(hash) ?? []
      of.push({ key, line: `${formatPlace(place)}\n`, length: place.length })
      places.set(hash, of)
    }
  }
  return places
}

function recount(model: Model): CatalogStats {
  const places = placesOf(model)
  const all = [...places.values()].flat()
  const sum = (ones: { length: number }[]): number => ones.reduce((n, { length }) => n + length, 0)
  return {
    objects: model.size,
    segments: all.length,
    bytes: sum(all),
    blocks: places.size,
    blockBytes: sum([...places.values()].map((of) => of[0]!)),
    trusted: all.filter(({ line }) => line.endsWith('\tproof=etag\n')).length,
  }
}

/** What is lost: a block that had places and has none, until it has one again. */
export class LostModel {
  readonly lost = new Map<string, { length: number; keys: string[] }>()

  update(before: Model, after: Model): void {
    const now = placesOf(after)
    for (const hash of now.keys()) this.lost.delete(hash)
    for (const [hash, had] of placesOf(before)) {
      if (now.has(hash)) continue
      const keys = [...new Set(had.map(({ key }) => key))].sort(compareKeys)
      this.lost.set(hash, { length: had[0]!.length, keys })
    }
  }
}

/** Catalog, tree, counts and lost blocks are the model's, and no batch is half done. */
export async function assertIs(
  { dir, catalog }: { dir: string; catalog: Catalog },
  model: Model,
  lost: LostModel,
): Promise<void> {
  assert.deepEqual(
    Array.from(catalog.entries(), ({ key, record }) => [key, record]),
    [...model].sort(([a], [b]) => compareKeys(a, b)),
  )
  const files = Array.from(await readTree(dir), ([name, content]) => [
    name,
    content
      .toString()
      .split(/(?<=\n)/)
      .sort(),
  ])
  const expected = Array.from(placesOf(model), ([hash, of]) => [
    hash,
    of.map(({ line }) => line).sort(),
  ])
  assert.deepEqual(files.sort(), expected.sort())
  assert.deepEqual(catalog.stats(), recount(model))
  const isLost = Array.from(catalog.lostBlocks(), ({ hash, block: { length, keys } }) => [
    hash,
    { length, keys: keys.sort(compareKeys) },
  ])
  assert.deepEqual(isLost, [...lost.lost].sort())
  assert.equal(catalog.intent(), undefined)
}
