/** Reads the places of blocks and says which still hold them. */
import { messageOf } from '../errors.ts'
import type { HashPool } from '../indexer/hash-pool.ts'
import { EMPTY_HASH } from '../keep/locator.ts'
import type { MappingReader, Place } from '../mapping/mapping.ts'
import { RemoteError } from '../remote/remote.ts'
import { Slots } from '../slots.ts'

/**
 * What a place was found to be. `corrupt`: the object is the one that was hashed, by its ETag, and
 * its bytes are not. `changed`: it is another object by now. `unreachable` proves nothing.
 */
export type Verdict = 'ok' | 'changed' | 'gone' | 'corrupt' | 'unreachable'

/** What was found of one place. */
export interface PlaceReport {
  place: Place
  verdict: Verdict
  /** Why it is not ok. */
  reason?: string
}

/** What was found of a block, its places in the order in which their reads have ended. */
export interface BlockReport {
  hash: string
  /** None where the mapping does not know the hash. */
  places: PlaceReport[]
}

/** True where some place holds the block. Every keep service knows the empty block without one. */
export function isGood({ hash, places }: BlockReport): boolean {
  return hash === EMPTY_HASH || places.some(({ verdict }) => verdict === 'ok')
}

/**
 * What is read, and who hears of it. Once aborted, no more blocks are begun; to end reads, close the pool.
 */
export interface VerifyOptions {
  mapping: MappingReader
  pool: HashPool
  /** Places read at once. */
  concurrency: number
  signal: AbortSignal
  /** Called with each block once all of its places are read, in no particular order. */
  report(block: BlockReport): void
}

/**
 * Verifies the blocks, any number of them, in bounded memory but for the places of the blocks under
 * way. Throws MappingUnreachable, or what the signal was aborted with: the pool is closed then, as a
 * store that is silent would keep its reads for minutes each.
 */
export async function verifyBlocks(
  hashes: AsyncIterable<string>,
  options: VerifyOptions,
): Promise<void> {
  const { signal, pool } = options
  const stop = (): void => void pool.close()
  signal.addEventListener('abort', stop)
  try {
    await verifyAll(hashes, options)
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function verifyAll(hashes: AsyncIterable<string>, options: VerifyOptions): Promise<void> {
  const slots = new Slots(options.concurrency)
  const blocks = new Set<Promise<void>>()
  let failure: unknown
  for await (const hash of hashes) {
    await slots.take()
    slots.free()
    options.signal.throwIfAborted()
    if (failure !== undefined) throw failure
    const block = verifyBlock(hash, slots, options)
      .catch((error) => {
        failure ??= error
      })
      .finally(() => blocks.delete(block))
    blocks.add(block)
    // Places are read under the slots; this bounds the blocks that wait for one.
    if (blocks.size >= 2 * options.concurrency) await Promise.race(blocks)
  }
  await Promise.all(blocks)
  if (failure !== undefined) throw failure
}

async function verifyBlock(hash: string, slots: Slots, options: VerifyOptions): Promise<void> {
  const places: PlaceReport[] = []
  const reads: Promise<void>[] = []
  for await (const place of options.mapping.places(hash)) {
    options.signal.throwIfAborted()
    await slots.take()
    const read = verifyPlace(hash, place, options.pool)
      .then((report) => void places.push(report))
      .finally(() => slots.free())
    reads.push(read)
  }
  await Promise.all(reads)
  options.signal.throwIfAborted()
  options.report({ hash, places })
}

async function verifyPlace(hash: string, place: Place, pool: HashPool): Promise<PlaceReport> {
  const { key, offset, length, etag } = place
  try {
    const range = { key, offset, length, willProve: true }
    const actual = await pool.hash(etag === undefined ? range : { ...range, etag })
    if (actual.toString('hex') === hash) return { place, verdict: 'ok' }
    const verdict = etag === undefined ? 'changed' : 'corrupt'
    const why = place.trusted ? ', not its ETag, which was trusted' : ''
    return { place, verdict, reason: `its MD5 is ${actual.toString('hex')}${why}` }
  } catch (error) {
    const verdict = error instanceof RemoteError ? error.failure : 'unreachable'
    return { place, verdict, reason: messageOf(error) }
  }
}
