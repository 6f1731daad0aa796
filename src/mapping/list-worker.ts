/** A thread that lists directories of a mapping tree; shard-lister.ts is its other end. */
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '../errors.ts'
import { isMissing } from './file-errors.ts'
import { parsePlace } from './place-line.ts'
import type { FromLister, ListedShard, ToLister } from './shard-lister.ts'

const HASH = /^[0-9a-f]{32}$/
/** For the beginning of a file: nearly always its first line is there. */
const HEAD = Buffer.allocUnsafe(4096)

const mappings = workerData as string

parentPort!.on('message', ({ shard, prefix }: ToLister) => {
  let answer: FromLister
  try {
    answer = { listed: list(shard, prefix) }
  } catch (error) {
    answer = { failure: messageOf(error) }
  }
  parentPort!.postMessage(answer)
})

function list(shard: string, prefix: string): ListedShard {
  const dir = join(mappings, shard)
  const hashes: string[] = []
  const lengths: number[] = []
  const mtimes: bigint[] = []
  for (const hash of namesIn(dir).sort()) {
    const block = HASH.test(hash) && hash.startsWith(prefix) ? blockIn(join(dir, hash)) : undefined
    if (block === undefined) continue
    hashes.push(hash)
    lengths.push(block.length)
    mtimes.push(block.mtimeNs)
  }
  return {
    hashes: hashes.join(''),
    lengths: Uint32Array.from(lengths),
    mtimes: BigInt64Array.from(mtimes),
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

/** Undefined where the file is gone, or has no good line. */
function blockIn(file: string): { length: number; mtimeNs: bigint } | undefined {
  let fd: number
  try {
    fd = openSync(file, 'r')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  try {
    const length = firstLength(fd)
    return length === undefined
      ? undefined
      : { length, mtimeNs: fstatSync(fd, { bigint: true }).mtimeNs }
  } finally {
    closeSync(fd)
  }
}

/** Returns the length in the first good line; each place of a block has the same. */
function firstLength(fd: number): number | undefined {
  for (let bytes = HEAD; ; bytes = Buffer.allocUnsafe(16 * bytes.length)) {
    const count = readSync(fd, bytes, 0, bytes.length, 0)
    // What follows the last line feed is torn, or not read yet.
    for (let start = 0, end = 0; ; start = end + 1) {
      end = bytes.subarray(0, count).indexOf(0x0a, start)
      if (end < 0) break
      const place = parsePlace(bytes.toString('utf8', start, end))
      if (place !== undefined) return place.length
    }
    if (count < bytes.length) return undefined
  }
}
