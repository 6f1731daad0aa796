/** What processes leave for each other in a cache's directory, and file systems without room. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { BufferPool } from '../../../src/buffer-pool.ts'
import { CacheDirectory } from '../../../src/volume/cache/directory.ts'
import { Fill } from '../../../src/volume/cache/fill.ts'
import { PIECE } from '../../../src/volume/cache/format.ts'
import type { Space } from '../../../src/volume/cache/space.ts'
import { makeBlock, makeSource } from '../fakes.ts'
import { atEnd, CacheFixture, filesIn, scratch } from './fixture.ts'

const WRITER = `
import { CacheDirectory } from ${JSON.stringify(new URL('../../../src/volume/cache/directory.ts', import.meta.url).href)}
const directory = new CacheDirectory(process.argv[1])
await directory.prepare()
const { handle } = await directory.create()
await handle.write(Buffer.alloc(10_000))
console.log('written')
setInterval(() => {}, 1000)
`

/** Starts a process that has a file under way. */
async function startWriter(t: TestContext, dir: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', WRITER, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

describe('a file under way', () => {
  test('counts as long as its writer lives, and is cleared when that was killed', async (t) => {
    const dir = await scratch(t)
    const writer = await startWriter(t, dir)
    const directory = new CacheDirectory(dir)
    assert.equal(await directory.clearTemporary(), 12_288)
    assert.deepEqual(await filesIn(dir), ['tmp'])
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    assert.equal(await directory.clearTemporary(), 0)
    assert.deepEqual(await filesIn(dir), [])
  })

  test('of this very process is left to it', async (t) => {
    const dir = await scratch(t)
    const directory = new CacheDirectory(dir)
    await directory.prepare()
    const { handle } = await directory.create()
    assert.equal(await directory.clearTemporary(), 0)
    await handle.close()
    assert.deepEqual(await filesIn(dir), ['tmp'])
  })

  test('that nobody can have named so is left alone', async (t) => {
    const dir = await scratch(t)
    const directory = new CacheDirectory(dir)
    await directory.prepare()
    for (const name of ['letter', '%~%~%~%~%~1', 'a~1']) await writeFile(join(dir, 'tmp', name), '')
    await directory.clearTemporary()
    assert.equal((await filesIn(dir)).length, 3)
  })
})

describe('a disk that is slower than the client', () => {
  /** A fill whose disk has not begun yet. */
  async function blockedFill(t: TestContext, pieces: BufferPool) {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const space = { claim: () => promise } as unknown as Space
    const directory = new CacheDirectory(await scratch(t))
    const fill = new Fill({ hash: '0'.repeat(32), length: 4 * PIECE, directory, space, pieces })
    return { fill, begin: () => resolve(undefined) }
  }

  test('is not waited for: the block is given up, and its memory is free again', async (t) => {
    const pieces = new BufferPool(2, PIECE)
    const { fill, begin } = await blockedFill(t, pieces)
    fill.take(Buffer.alloc(3 * PIECE))
    fill.take(Buffer.alloc(PIECE))
    fill.keep()
    begin()
    assert.equal(await fill.done, false)
    assert.ok(pieces.take() && pieces.take())
    assert.equal(pieces.take(), undefined)
  })

  test('takes memory that is bounded for all blocks together', async (t) => {
    const pieces = new BufferPool(3, PIECE)
    const fills = [await blockedFill(t, pieces), await blockedFill(t, pieces)]
    for (const { fill } of fills) fill.take(Buffer.alloc(2 * PIECE))
    assert.equal(pieces.take(), undefined)
    for (const { fill, begin } of fills) {
      fill.abandon()
      begin()
      assert.equal(await fill.done, false)
    }
    assert.ok(pieces.take())
  })
})

describe('a file system without room', () => {
  /** Mounts a small one at DIR/disk; undefined, and a skipped test, where that is not allowed. */
  async function smallDisk(t: TestContext, size: string): Promise<string | undefined> {
    const disk = join(await scratch(t), 'disk')
    await mkdir(disk)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=755`, 'none', disk], {
        stdio: 'pipe',
      })
    } catch {
      t.skip('mounts need privileges')
      return undefined
    }
    atEnd(t, () => execFileSync('umount', ['-l', disk]))
    return disk
  }
  const blocks = Array.from({ length: 30 }, (_, at) => makeBlock(2 * PIECE, at + 1))

  test('is never filled: the cache stays smaller than it may be', async (t) => {
    const disk = await smallDisk(t, '8m')
    if (disk === undefined) return
    const f = await CacheFixture.open(t, disk)
    for (const { hash, data } of blocks) await f.fill(hash, makeSource('a', data))
    assert.equal(f.cache.counts.stored, blocks.length)
    assert.ok(f.cache.counts.evictions > 0)
    assert.ok(f.cache.bytes < 8 << 20)
    assert.deepEqual(f.warnings, [])
  })

  test('that others fill has more of it free again, at the cache’s cost', async (t) => {
    const disk = await smallDisk(t, '8m')
    if (disk === undefined) return
    const f = await CacheFixture.open(t, disk)
    for (const { hash, data } of blocks.slice(0, 8)) await f.fill(hash, makeSource('a', data))
    await assert.rejects(writeFile(join(disk, 'other'), Buffer.alloc(8 << 20)), { code: 'ENOSPC' })
    for (const { hash, data } of blocks.slice(8)) {
      assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
    }
    await f.cache.close()
    const { bavail, blocks: all } = await statfs(disk)
    assert.ok(bavail >= all / 20, `${bavail} of ${all} are free`)
    assert.ok(f.cache.counts.evictions > 0)
    assert.deepEqual(f.warnings, [])
  })

  test('only to be read gives what it has, and one warning', async (t) => {
    const disk = await smallDisk(t, '8m')
    if (disk === undefined) return
    const before = await CacheFixture.open(t, disk)
    const [first, second] = [blocks[0]!, blocks[1]!]
    await before.fill(first.hash, makeSource('a', first.data))
    await before.cache.close()
    execFileSync('mount', ['-o', 'remount,ro', disk])
    const f = await CacheFixture.open(t, disk)
    for (let i = 0; i < 3; i++) {
      assert.ok((await f.read(first.hash, [])).equals(first.data))
      const place = makeSource('b', second.data)
      assert.ok((await f.read(second.hash, [place])).equals(second.data))
    }
    await f.cache.close()
    assert.equal(f.warnings.length, 1, f.warnings.join('\n'))
    assert.match(f.warnings[0]!, /EROFS/)
  })
})
