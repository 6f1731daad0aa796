import assert from 'node:assert/strict'
import {
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { UsageError } from '../../../src/errors.ts'
import { BlockCache } from '../../../src/volume/cache/cache.ts'
import { BrokenEntry, Entry } from '../../../src/volume/cache/entry.ts'
import { PIECE } from '../../../src/volume/cache/format.ts'
import { readThrough } from '../../../src/volume/cache/read-through.ts'
import { BlockError } from '../../../src/volume/source-walk.ts'
import { corrupted, failing, makeBlock, makeSource, makeVolume } from '../fakes.ts'
import { CacheFixture, filesIn, scratch } from './fixture.ts'

const { data, hash } = makeBlock(3 * PIECE + 1000)

describe('a cache', () => {
  test('gives a block that was read, also when its place has gone', async (t) => {
    const f = await CacheFixture.open(t, await scratch(t))
    const place = makeSource('a', data)
    assert.ok((await f.read(hash, [place])).equals(data))
    await f.settled()
    assert.ok((await f.read(hash, [failing('a', data, 'gone')])).equals(data))
    assert.ok((await f.read(hash, [])).equals(data))
    assert.ok((await f.read(hash, [place], data.length)).equals(data))
    assert.equal(place.reads.length, 1)
    const { hits, misses, hitBytes, stored } = f.cache.counts
    assert.deepEqual([hits, misses, hitBytes, stored], [3, 1, 3 * data.length, 1])
    assert.deepEqual(f.warnings, [])
  })

  test('is still one after a restart, and one for several processes', async (t) => {
    const dir = await scratch(t)
    const first = await CacheFixture.open(t, dir)
    const second = await CacheFixture.open(t, dir)
    await first.fill(hash, makeSource('a', data))
    assert.ok((await second.read(hash, [])).equals(data))
    await first.cache.close()
    const third = await CacheFixture.open(t, dir)
    assert.ok((await third.read(hash, [])).equals(data))
  })

  for (const size of [1, PIECE, 2 * PIECE, 67_108_864]) {
    test(`holds a block of ${size} bytes as it is`, async (t) => {
      const f = await CacheFixture.open(t, await scratch(t))
      const block = makeBlock(size)
      await f.fill(block.hash, makeSource('a', block.data))
      assert.ok((await f.read(block.hash, [])).equals(block.data))
    })
  }

  test('does not hold the empty block, which needs no place', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir)
    assert.equal((await f.read('d41d8cd98f00b204e9800998ecf8427e', [])).length, 0)
    assert.deepEqual(await filesIn(dir), [])
  })

  test('takes a block once that many read at the same time', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir)
    const reads = Array.from({ length: 5 }, () => f.read(hash, [makeSource('a', data)]))
    for (const read of await Promise.all(reads)) assert.ok(read.equals(data))
    await f.cache.close()
    assert.deepEqual(await filesIn(dir), [hash])
    assert.equal(f.cache.counts.stored, 1)
  })

  test('gives nothing to those who ask for another length', async (t) => {
    const f = await CacheFixture.open(t, await scratch(t))
    await f.fill(hash, makeSource('a', data))
    await assert.rejects(f.read(hash, [], 17), isNotFound)
  })

  test('is not made where others could have it touch files that are not its own', async (t) => {
    const dir = await scratch(t)
    await chmod(dir, 0o777)
    const open = () => BlockCache.open({ dir, limit: 200_000_000 })
    await assert.rejects(open(), (error) => {
      return error instanceof UsageError && /everybody may write to it/.test(error.message)
    })
    assert.deepEqual(await readdir(dir), [])
    await chmod(dir, 0o755)
    await (await open()).close()
    if (process.geteuid?.() !== 0) return t.diagnostic('only root can give a directory away')
    await chown(dir, 65_534, 65_534)
    await assert.rejects(open(), /belongs to another user/)
  })

  test('follows no link among its directories, and deletes nothing behind one', async (t) => {
    const [dir, keep] = [await scratch(t), await scratch(t)]
    const others = Array.from({ length: 3 }, (_, i) => `ab${String(i).repeat(30)}`)
    for (const name of others) await writeFile(join(keep, name), Buffer.alloc(1_000_000))
    await symlink(keep, join(dir, 'ab'))
    const f = await CacheFixture.open(t, dir, { limit: 1_200_000 })
    for (let seed = 1; seed < 6; seed++) {
      const block = makeBlock(500_000, seed)
      await f.fill(block.hash, makeSource('a', block.data))
    }
    assert.ok(f.cache.counts.evictions > 0)
    assert.deepEqual((await readdir(keep)).sort(), others)
  })

  test('is not readable for other users', async (t) => {
    const dir = join(await scratch(t), 'cache')
    const f = await CacheFixture.open(t, dir)
    await f.fill(hash, makeSource('a', data))
    assert.equal((await stat(dir)).mode & 0o777, 0o700)
    assert.equal((await stat(f.cache.nameOf(hash))).mode & 0o777, 0o600)
  })
})

function isNotFound(error: unknown): boolean {
  return error instanceof BlockError && error.failure === 'not-found'
}

describe('a file that is not what was written', () => {
  const spoilt: [what: string, spoil: (file: Buffer) => Buffer][] = [
    ['has its first byte flipped', (file) => corrupted(file, 0)],
    ['has a byte flipped in the middle', (file) => corrupted(file, PIECE + 77)],
    ['has the last byte of its data flipped', (file) => corrupted(file, data.length - 1)],
    ['has its last byte flipped', (file) => corrupted(file, file.length - 1)],
    ['is empty', () => Buffer.alloc(0)],
    ['lacks its last byte', (file) => file.subarray(0, -1)],
    ['ends in the middle', (file) => file.subarray(0, 2 * PIECE)],
    ['has more behind it', (file) => Buffer.concat([file, Buffer.from('x')])],
    ['has zeros where a page was not written', (file) => Buffer.from(file).fill(0, 4096, 8192)],
    ['is bare data', () => data],
  ]
  for (const [what, spoil] of spoilt) {
    test(`and ${what} is dropped, and no client notices`, async (t) => {
      const dir = await scratch(t)
      const f = await CacheFixture.open(t, dir)
      const place = makeSource('a', data)
      await f.fill(hash, place)
      const file = f.cache.nameOf(hash)
      await writeFile(file, spoil(await readFile(file)))
      assert.ok((await f.read(hash, [place])).equals(data))
      assert.equal(f.cache.counts.broken, 1)
      assert.equal(f.warnings.length, 1)
      // Asked for again it is cached anew, and good.
      await f.cache.close()
      const again = await CacheFixture.open(t, dir)
      await again.read(hash, [place])
      await again.settled()
      assert.ok((await again.read(hash, [])).equals(data))
    })
  }

  test('makes no difference to what is said of a block without places', async (t) => {
    const f = await CacheFixture.open(t, await scratch(t))
    await f.fill(hash, makeSource('a', data))
    const file = f.cache.nameOf(hash)
    await writeFile(file, corrupted(await readFile(file), PIECE))
    await assert.rejects(f.read(hash, []), isNotFound)
    assert.deepEqual(await filesIn(join(file, '..')), [])
  })

  test('of another block is dropped, too', async (t) => {
    const f = await CacheFixture.open(t, await scratch(t))
    const other = makeBlock(data.length, 2)
    await f.fill(hash, makeSource('a', data))
    await f.fill(other.hash, makeSource('b', other.data))
    await writeFile(f.cache.nameOf(hash), await readFile(f.cache.nameOf(other.hash)))
    assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
    assert.equal(f.cache.counts.broken, 1)
  })

  test('is used again at once when it was written anew', async (t) => {
    const f = await CacheFixture.open(t, await scratch(t))
    const place = makeSource('a', data)
    await f.fill(hash, place)
    await truncate(f.cache.nameOf(hash), PIECE)
    await f.read(hash, [place])
    await f.settled()
    await f.read(hash, [place])
    assert.equal(place.reads.length, 2)
    assert.equal(f.cache.counts.hits, 1)
  })
})

describe('a block is not cached', () => {
  test('that was not proven', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir)
    const places = [makeSource('bad', corrupted(data, 7))]
    await assert.rejects(f.read(hash, places), BlockError)
    await f.cache.close()
    assert.deepEqual(await filesIn(dir), [])
  })

  test('whose client went away', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir)
    const query = {
      volumes: [makeVolume({ blocks: { [hash]: [makeSource('a', data)] } })],
      hash,
      signal: new AbortController().signal,
      failures: f.failures,
      idleLimit: 20_000,
    }
    const output = {
      begin() {},
      write() {
        throw new Error('the client went away')
      },
    }
    await assert.rejects(readThrough(f.cache, query, output), /went away/)
    await f.cache.close()
    assert.deepEqual(await filesIn(dir), [])
  })

  test('that is larger than the cache', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir, { limit: data.length })
    await f.fill(hash, makeSource('a', data))
    assert.deepEqual(await filesIn(dir), [])
    assert.equal(f.cache.counts.skipped, 1)
  })

  test('where the cache’s directory cannot be made: each read goes on, and one warning comes', async (t) => {
    const dir = await scratch(t)
    await writeFile(join(dir, 'file'), '')
    const f = await CacheFixture.open(t, join(dir, 'file', 'cache'))
    for (let i = 0; i < 3; i++) {
      assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
    }
    assert.equal(f.warnings.length, 1, f.warnings.join('\n'))
    assert.ok(f.cache.counts.errors >= 3)
  })

  test('where the directory has gone under way', async (t) => {
    const dir = join(await scratch(t), 'cache')
    const f = await CacheFixture.open(t, dir)
    await f.fill(hash, makeSource('a', data))
    await rm(dir, { recursive: true })
    assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
    assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
    await mkdir(dir)
    assert.ok((await f.read(hash, [makeSource('a', data)])).equals(data))
  })
})

test('a block that has to make room while it is read is read to its end', async (t) => {
  const f = await CacheFixture.open(t, await scratch(t))
  await f.fill(hash, makeSource('a', data))
  const chunks: Buffer[] = []
  const { signal } = new AbortController()
  const query = { volumes: [], hash, signal, failures: f.failures, idleLimit: 20_000 }
  await readThrough(f.cache, query, {
    begin() {},
    async write(chunk) {
      chunks.push(Buffer.from(chunk))
      await rm(f.cache.nameOf(hash), { force: true })
    },
  })
  assert.ok(Buffer.concat(chunks).equals(data))
  await f.cache.close()
  assert.deepEqual(f.warnings, [])
})

test('a cache may be emptied at any time', async (t) => {
  const dir = await scratch(t)
  const f = await CacheFixture.open(t, dir)
  const place = makeSource('a', data)
  await f.fill(hash, place)
  for (const name of await readdir(dir)) await rm(join(dir, name), { recursive: true })
  await f.fill(hash, place)
  await f.read(hash, [])
  assert.equal(place.reads.length, 2)
  assert.deepEqual(f.warnings, [])
})

describe('a cache that is full', () => {
  const blocks = Array.from({ length: 12 }, (_, at) => makeBlock(PIECE, at + 1))
  const source = (at: number) => makeSource(`place ${at}`, blocks[at]!.data)
  /** Room for eight of them. */
  const file = PIECE + 8192
  const limit = 8 * file

  test('forgets what was read least lately', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir, { limit })
    for (let at = 0; at < 6; at++) {
      await f.fill(blocks[at]!.hash, source(at))
      // So that the order does not hang on the clock.
      const time = new Date(1_700_000_000_000 + at * 1000)
      await utimes(f.cache.nameOf(blocks[at]!.hash), time, time)
    }
    await f.read(blocks[0]!.hash, [])
    await f.cache.close()
    const again = await CacheFixture.open(t, dir, { limit })
    for (let at = 6; at < 9; at++) await again.fill(blocks[at]!.hash, source(at))
    await again.cache.close()
    const left = await filesIn(dir)
    assert.equal(again.cache.counts.stored, 3)
    assert.ok(again.cache.counts.evictions > 0)
    assert.ok(left.includes(blocks[0]!.hash), 'what was read just now is gone')
    const gone = blocks.slice(0, 9).filter(({ hash }) => !left.includes(hash))
    const oldest = blocks.slice(1, 1 + gone.length)
    assert.deepEqual(gone, oldest)
  })

  test('stays within its size, but for a block of another one who fills it', async (t) => {
    const dir = await scratch(t)
    const all = [
      await CacheFixture.open(t, dir, { limit, sharers: 2 }),
      await CacheFixture.open(t, dir, { limit, sharers: 2 }),
    ]
    for (let round = 0; round < 3; round++) {
      for (const [at, block] of blocks.entries()) {
        await all[at % 2]!.fill(block.hash, source(at))
        assert.ok((await bytesIn(dir)) <= limit + file)
      }
    }
    for (const { cache } of all) assert.ok(cache.counts.evictions > 0)
  })

  test('is as large as it was after a restart', async (t) => {
    const dir = await scratch(t)
    const f = await CacheFixture.open(t, dir, { limit })
    for (let at = 0; at < 4; at++) await f.fill(blocks[at]!.hash, source(at))
    const { bytes } = f.cache
    assert.equal(bytes, await bytesIn(dir))
    const again = await CacheFixture.open(t, dir, { limit })
    await again.fill(blocks[4]!.hash, source(4))
    assert.equal(again.cache.bytes, await bytesIn(dir))
  })

  test('leaves files alone that are none of its own', async (t) => {
    const dir = await scratch(t)
    await mkdir(join(dir, 'ab'))
    const strangers = ['notes.txt', 'ab/letter', `ab/${'0'.repeat(32)}`, `${'a'.repeat(32)}`]
    for (const name of strangers) await writeFile(join(dir, name), Buffer.alloc(limit))
    const f = await CacheFixture.open(t, dir, { limit })
    for (let at = 0; at < 12; at++) await f.fill(blocks[at]!.hash, source(at))
    await f.cache.close()
    for (const name of strangers) assert.equal((await stat(join(dir, name))).size, limit)
  })
})

async function bytesIn(dir: string): Promise<number> {
  let bytes = 0
  for (const name of await filesIn(dir)) {
    // A file may be evicted between two looks.
    const file = stat(join(dir, name === 'tmp' ? name : join(name.slice(0, 2), name)))
    const { size } = await file.catch(() => ({ size: 0 }))
    bytes += Math.ceil(size / 4096) * 4096
  }
  return bytes
}

test('a flipped byte in a cached file, wherever it is, reaches nobody', async (t) => {
  const dir = await scratch(t)
  const block = makeBlock(2 * PIECE + 77)
  const f = await CacheFixture.open(t, dir)
  await f.fill(block.hash, makeSource('a', block.data))
  const path = f.cache.nameOf(block.hash)
  const good = await readFile(path)
  const { signal } = new AbortController()
  await fc.assert(
    fc.asyncProperty(
      fc.nat({ max: good.length - 1 }),
      fc.integer({ min: 1, max: 255 }),
      fc.nat({ max: block.data.length - 1 }),
      async (at, mask, from) => {
        const spoilt = Buffer.from(good)
        spoilt[at]! ^= mask
        await writeFile(path, spoilt)
        const got: Buffer[] = []
        let error: unknown
        try {
          const entry = await Entry.open(path, block.hash)
          await entry!.read(from, (chunk) => void got.push(Buffer.from(chunk)), signal)
          await entry!.close()
        } catch (thrown) {
          error = thrown
        }
        const bytes = Buffer.concat(got)
        assert.ok(bytes.equals(block.data.subarray(from, from + bytes.length)))
        const isRead = at >= from - (from % PIECE)
        if (isRead) assert.ok(error instanceof BrokenEntry, String(error))
      },
    ),
  )
})
