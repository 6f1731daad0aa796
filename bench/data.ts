/** What the contenders read: buckets of objects whose hashes are known from the making. */
import { execFileSync } from 'node:child_process'
import { createCipheriv, hash } from 'node:crypto'
import { MAX_BLOCK } from '../src/mapping/place-line.ts'
import { makeBucket, type S3Access, type TestBucket } from '../test/servers/s3.ts'
import { Uploader } from './put.ts'

/** The truth about an object. */
export interface Known {
  /** Bytes. */
  size: number
  /** MD5 of the whole, 32 hex digits. */
  md5: string
  /** MD5 of each 64 MiB segment. */
  segments: string[]
}

export interface DataSet {
  /** Such as `12 objects, 2.00 GB`. */
  about: string
  bucket: TestBucket
  objects: Map<string, Known>
  bytes: number
}

interface Recipe {
  count: number
  /** Bytes of object `i`. */
  size(i: number): number
  /** Objects put at once, each of them in memory. */
  atOnce: number
  /** What the content is made of; the data set's own name where it is left out. */
  seed?: string
  /** Each object is a block named by its MD5, as a keepstore names it in a bucket. */
  isKeep?: true
}

/** Together 2.0 GB. Some end within a segment, some with one; one is a single whole segment. */
const BIG_MIB = [64, 300, 130, 201, 90, 256, 77, 180, 150, 220, 110, 130]

const bigSize = (i: number): number => (BIG_MIB[i % BIG_MIB.length]! << 20) + 1001 * (i % 3)

const RECIPES = {
  big: { count: BIG_MIB.length, size: bigSize, atOnce: 2 },
  /** For what takes a while to get going: 6.0 GB. */
  long: { count: 3 * BIG_MIB.length, size: bigSize, atOnce: 2 },
  small: { count: 20_000, size: () => 16 << 10, atOnce: 32 },
  many: { count: 100_000, size: () => 1 << 10, atOnce: 32 },
  /** Whole blocks: 1.07 GB. */
  blocks: { count: 16, size: () => MAX_BLOCK, atOnce: 2, isKeep: true },
  /** Fewer of them, for where each takes a second or more. */
  someBlocks: { count: 8, size: () => MAX_BLOCK, atOnce: 2, isKeep: true },
  pieces: { count: 20_000, size: () => 16 << 10, atOnce: 32, isKeep: true },
  /** The same blocks in two buckets. */
  here: { count: 1000, size: () => 16 << 10, atOnce: 32, isKeep: true, seed: 'twins' },
  there: { count: 1000, size: () => 16 << 10, atOnce: 32, isKeep: true, seed: 'twins' },
} satisfies Record<string, Recipe>

export type DataSetName = keyof typeof RECIPES

/** Returns the key of an object; their order is that of the numbers, up to ten millions. */
export function keyOf(i: number): string {
  const directory = String(Math.floor(i / 1000)).padStart(4, '0')
  return `project/run-${directory}/sample-${String(i).padStart(7, '0')}.bam`
}

/**
 * Makes the data set in a bucket of its own on the server, with `scale` times as many objects as it
 * has. The content is a cipher's key stream: quick to make, no two alike, and nothing can pack it.
 */
export async function makeDataSet(
  server: S3Access,
  name: DataSetName,
  scale: number,
): Promise<DataSet> {
  const recipe: Recipe = RECIPES[name]
  const count = Math.max(1, Math.round(recipe.count * scale))
  const bucket = await makeBucket(server)
  const objects = new Map<string, Known>()
  let bytes = 0
  const make = (i: number): { key: string; body: Buffer } => {
    const body = keyStream(`${recipe.seed ?? name} ${i}`, recipe.size(i))
    const known = knownOf(body)
    const key = recipe.isKeep ? known.md5 : keyOf(i)
    objects.set(key, known)
    bytes += body.length
    return { key, body }
  }
  try {
    await new Uploader(server, bucket.name, recipe.atOnce).putAll(count, make)
  } catch (error) {
    await bucket.destroy()
    throw error
  }
  // What the server has not written yet would be written while the first contender is measured.
  execFileSync('sync')
  return { about: `${count} objects, ${(bytes / 1e9).toPrecision(3)} GB`, bucket, objects, bytes }
}

function keyStream(seed: string, length: number): Buffer {
  const key = hash('md5', seed, 'buffer')
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

function knownOf(body: Buffer): Known {
  const segments: string[] = []
  for (let at = 0; at < body.length; at += MAX_BLOCK) {
    segments.push(hash('md5', body.subarray(at, at + MAX_BLOCK)))
  }
  const md5 = segments.length === 1 ? segments[0]! : hash('md5', body)
  return { size: body.length, md5, segments }
}
