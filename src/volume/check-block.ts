/** Tells whether a block is there, if it can be without reading it. */
import { EMPTY_HASH } from '../keep/locator.ts'
import { asRemoteError } from '../remote/remote.ts'
import { withIdleLimit } from './idle-limit.ts'
import { readBlock } from './read-block.ts'
import { type BlockQuery, SourceWalk } from './source-walk.ts'
import type { BlockSource } from './volume.ts'

/** Places without proof that are asked at most, before the block is read. */
const MAX_UNSURE = 16

/**
 * Returns the block's length in bytes if a place still holds what was hashed. Where no place can
 * say so, the data is read and proven. Throws as readBlock does.
 */
export async function checkBlock(query: BlockQuery): Promise<number> {
  const known = query.hash === EMPTY_HASH ? undefined : await askSources(query)
  return known ?? proveBlock(query)
}

/** Returns the block's length in bytes once all of it was read and proven. Throws as readBlock does. */
export async function proveBlock(query: BlockQuery): Promise<number> {
  let length = 0
  await readBlock(query, {
    begin(bytes) {
      length = bytes
    },
    write() {},
  })
  return length
}

/** Returns undefined if only reading can tell. */
async function askSources(query: BlockQuery): Promise<number | undefined> {
  const walk = new SourceWalk(query)
  try {
    for (let unsure = 0; unsure < MAX_UNSURE; ) {
      const source = await walk.next()
      if (source === undefined) {
        if (unsure > 0) return undefined
        throw walk.outcome()
      }
      const answer = await ask(source, query, walk)
      if (answer === true) return source.length
      if (answer === false) unsure += 1
    }
    return undefined
  } finally {
    await walk.close()
  }
}

/** Undefined stands for a failure, which the walk was told of. */
async function ask(
  source: BlockSource,
  { idleLimit, signal }: BlockQuery,
  walk: SourceWalk,
): Promise<boolean | undefined> {
  try {
    return await withIdleLimit(idleLimit, signal, (own) => source.unchanged(own))
  } catch (error) {
    signal.throwIfAborted()
    walk.threw(source, asRemoteError(error), 0)
    return undefined
  }
}
