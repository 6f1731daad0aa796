/** Reads blocks through a cache. */
import { type BlockOutput, readBlock } from '../read-block.ts'
import type { BlockQuery } from '../source-walk.ts'
import type { BlockOrigin } from '../volume.ts'
import type { BlockCache } from './cache.ts'
import type { Fill } from './fill.ts'

/**
 * As readBlock, with the cache asked before all volumes; a block that comes from elsewhere is put into
 * it once it is proven, which is not waited for.
 */
export async function readThrough(
  cache: BlockCache,
  query: BlockQuery,
  output: BlockOutput,
): Promise<void> {
  const { hash, failures } = query
  let isCached = false
  const origin: BlockOrigin = {
    toString: () => String(cache),
    async *sources() {
      for await (const source of cache.sources(hash)) {
        isCached = true
        yield source
      }
    },
  }
  let fill: Fill | undefined
  const tee: BlockOutput = {
    begin(length) {
      // The empty block is nowhere, and needs no file.
      if (!isCached && length > 0) fill = cache.fill(hash, length)
      output.begin(length)
    },
    write(chunk) {
      fill?.take(chunk)
      return output.write(chunk)
    },
  }
  try {
    await readBlock({ ...query, volumes: [origin, ...query.volumes] }, tee)
  } catch (error) {
    fill?.abandon()
    throw error
  }
  // What was wrong with a file of this name says nothing of a new one.
  failures.delete(cache.nameOf(hash))
  fill?.keep()
}
