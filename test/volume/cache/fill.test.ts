import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { test } from 'node:test'
import { BufferPool } from '../../../src/buffer-pool.ts'
import { CacheDirectory, type TemporaryFile } from '../../../src/volume/cache/directory.ts'
import { Fill } from '../../../src/volume/cache/fill.ts'
import { PIECE } from '../../../src/volume/cache/format.ts'
import { Space } from '../../../src/volume/cache/space.ts'
import { makeBlock } from '../fakes.ts'
import { atEnd, filesIn, scratch } from './fixture.ts'

/** Its files cannot be written to, as on a disk that fails. */
class FailingDirectory extends CacheDirectory {
  override async create(): Promise<TemporaryFile> {
    const { handle, path } = await super.create()
    await handle.close()
    return { handle: await open(path, 'r'), path }
  }
}

test('a disk that fails costs none of the memory for what waits for it', async (t) => {
  const dir = await scratch(t)
  const directory = new FailingDirectory(dir)
  await directory.prepare()
  const onError = (error: unknown) => assert.fail(String(error))
  const limit = 100_000_000
  const space = new Space({ directory, limit, sharers: 1, onEvicted() {}, onError })
  atEnd(t, () => space.close())
  const pieces = new BufferPool(2, PIECE)
  const { data, hash } = makeBlock(2 * PIECE)
  const fill = new Fill({ hash, length: data.length, directory, space, pieces })
  fill.take(data)
  fill.keep()
  await assert.rejects(fill.done, { code: 'EBADF' })
  assert.deepEqual([pieces.take()?.length, pieces.take()?.length], [PIECE, PIECE])
  assert.deepEqual(await filesIn(dir), [])
})
