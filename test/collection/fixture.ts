/** What the tests of collections share: catalogs of made-up objects. */
import { createHash } from 'node:crypto'
import { type CatalogRecord, segmentCount, segmentRange } from '../../src/mapping/record.ts'
import { keyToBytes } from '../../src/remote/key.ts'
import type { TestMapping } from '../mapping/fixture.ts'

const NO_DELTA = { objects: 0, segments: 0, bytes: 0, blocks: 0, blockBytes: 0, trusted: 0 }

export type Objects = Map<string, CatalogRecord>

/** A record whose segments are told apart by a number each; equal ones of equal length are one block. */
export function recordOf(size: number, contents: number[] = []): CatalogRecord {
  const hashes = Array.from({ length: segmentCount(size) }, (_, segment) => {
    const { length } = segmentRange(size, segment)
    return createHash('md5')
      .update(`${length} bytes of ${contents[segment] ?? 0}`)
      .digest()
  })
  return { etag: `etag-${size}`, size, lastModified: 0, hashes: Buffer.concat(hashes) }
}

/** Puts the objects into the catalog, in place of all that were there. */
export async function fill({ catalog, lock }: TestMapping, objects: Objects): Promise<void> {
  const gone = [...catalog.entries()].filter(({ key }) => !objects.has(key))
  const trusted = [...objects.values()].filter((record) => record.trusted).length
  await catalog.finish(
    {
      changes: [
        ...gone.map(({ key }) => ({ key, before: null, after: null })),
        ...[...objects].map(([key, after]) => ({ key, before: null, after })),
      ],
      delta: { ...NO_DELTA, trusted: trusted - catalog.stats().trusted },
      lost: [],
      found: [],
    },
    lock.id,
  )
}

/** Orders keys, and parts of them, by their bytes. */
export function byBytes(a: string, b: string): number {
  return Buffer.compare(keyToBytes(a), keyToBytes(b))
}
