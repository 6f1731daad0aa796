import assert from 'node:assert/strict'
import fs, {
  type FileHandle,
  lutimes,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { mountOf } from '../../../src/volume/unix/device-id.ts'
import { parseName } from '../../../src/volume/unix/files.ts'
import { UnixVolume } from '../../../src/volume/unix/unix.ts'
import { VolumeFull } from '../../../src/volume/volume.ts'
import { readFrom, type VolumeFixture, volumeSuite } from '../../suites/volume.ts'
import { corrupted, makeBlock } from '../fakes.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-unix-'))
after(() => rm(scratch, { recursive: true }))

const signal = new AbortController().signal
const WANTED = { replicas: 1, classes: [] }
const { data, hash } = makeBlock(100_000)

async function newRoot(): Promise<string> {
  return mkdtemp(join(scratch, 'root-'))
}

/** Where keepstore puts a block. */
function fileOf(root: string, name: string): string {
  return join(root, name.slice(0, 3), name)
}

async function addFile(root: string, name: string, content: Uint8Array): Promise<void> {
  await mkdir(dirname(fileOf(root, name)), { recursive: true })
  await writeFile(fileOf(root, name), content)
}

for (const serialize of [false, true]) {
  volumeSuite(
    `unix volume, serialize ${serialize}`,
    'trashes',
    async (): Promise<VolumeFixture> => {
      const root = await newRoot()
      return {
        volume: await UnixVolume.open(root, { serialize }),
        add: (name, content) => addFile(root, name, content),
        async cutOff() {
          // A disk that is unmounted leaves the empty directory it was mounted on.
          await rename(root, `${root}-gone`)
          await mkdir(root)
        },
        async teardown() {},
      }
    },
  )
}

volumeSuite('unix volume, read only', 'reads', async (): Promise<VolumeFixture> => {
  const root = await newRoot()
  return {
    volume: await UnixVolume.open(root, { readOnly: true }),
    add: (name, content) => addFile(root, name, content),
    cutOff: () => rm(root, { recursive: true }),
    async teardown() {},
  }
})

describe('a keepstore directory', () => {
  test('takes blocks where keepstore looks for them', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    await volume.put({ hash, data }, WANTED, signal)
    assert.deepEqual(await readdir(root), [hash.slice(0, 3)])
    assert.deepEqual(await readdir(join(root, hash.slice(0, 3))), [hash])
    assert.ok((await readFile(fileOf(root, hash))).equals(data))
  })

  test('lists and gives nothing but blocks', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const shard = join(root, hash.slice(0, 3))
    await mkdir(shard)
    const strangers = [`tmp${hash}123`, `${hash}.trash.1`, `${hash}x`, 'full', hash.toUpperCase()]
    for (const name of strangers) await writeFile(join(shard, name), data)
    const elsewhere = hash.startsWith('0') ? `1${hash.slice(1)}` : `0${hash.slice(1)}`
    await writeFile(join(shard, elsewhere), data)
    await writeFile(join(root, hash), data)
    await mkdir(join(root, 'notashard'))
    for await (const block of volume.blocks('')) assert.fail(block.hash)
    await assert.rejects(readFrom(volume, hash), { failure: 'not-found' })
  })

  test('follows no link, neither of a block nor of a directory', async () => {
    const [root, outside] = [await newRoot(), await newRoot()]
    await addFile(outside, hash, data)
    const volume = await UnixVolume.open(root)
    await symlink(join(outside, hash.slice(0, 3)), join(root, hash.slice(0, 3)))
    await assert.rejects(readFrom(volume, hash), { failure: 'not-found' })
    for await (const block of volume.blocks('')) assert.fail(block.hash)
    const policy = { minAge: 0, lifetime: 0 }
    assert.equal(await volume.trash(hash, policy), 'not-found')
    await assert.rejects(volume.put(makeBlockIn(hash.slice(0, 3)), WANTED, signal))
    await rm(join(root, hash.slice(0, 3)))
    await mkdir(join(root, hash.slice(0, 3)))
    await symlink(fileOf(outside, hash), fileOf(root, hash))
    await assert.rejects(readFrom(volume, hash), { failure: 'not-found' })
    await volume.put({ hash, data }, WANTED, signal)
    assert.ok((await readFrom(volume, hash)).equals(data))
    assert.deepEqual(await readdir(join(outside, hash.slice(0, 3))), [hash])
  })

  test('has a block whose file is exchanged, or trashed and put back, as it is opened', async (t) => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const file = fileOf(root, hash)
    await addFile(root, hash, data)
    const exchanges: Instead[] = [
      async (_path, look) => {
        await writeFile(`${file}.new`, data)
        await rename(`${file}.new`, file)
        return look()
      },
      async (_path, look) => {
        await rename(file, `${file}.trash.1`)
        const seen = await look()
        await rename(`${file}.trash.1`, file)
        return seen
      },
    ]
    const plain: Instead = (_path, look) => look()
    let next = plain
    replace(t, 'readlink', (path, look) => {
      const exchange = next
      next = plain
      return exchange(path, look)
    })
    for (const exchange of exchanges) {
      next = exchange
      assert.ok((await readFrom(volume, hash, data.length)).equals(data))
    }
  })

  test('is out of reach once it was moved, also where a link leads to it', async () => {
    const root = await newRoot()
    await addFile(root, hash, data)
    const volume = await UnixVolume.open(root)
    await rename(root, `${root}-moved`)
    await symlink(`${root}-moved`, root)
    await assert.rejects(readFrom(volume, hash, data.length), { failure: 'unreachable' })
    // There is no such block, wherever it was moved.
    await assert.rejects(readFrom(volume, makeBlock(10).hash, 10), { failure: 'not-found' })
  })

  test('touches a good block that is written again, and replaces a bad one', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const long = new Date('2020-01-01')
    for (const content of [data, corrupted(data, 5), data.subarray(1)]) {
      await addFile(root, hash, content)
      await utimes(fileOf(root, hash), long, long)
      const { ino } = await stat(fileOf(root, hash))
      await volume.put({ hash, data }, WANTED, signal)
      const after = await stat(fileOf(root, hash))
      assert.ok(Date.now() - after.mtimeMs < 60_000)
      assert.equal(after.ino === ino, content === data)
      assert.ok((await readFrom(volume, hash)).equals(data))
    }
  })

  test('answers for a block when it outlasts a power cut, whoever wrote it', async (t) => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const shard = join(root, hash.slice(0, 3))
    const synced = await syncsOf(t)
    await addFile(root, hash, data)
    await volume.put({ hash, data }, WANTED, signal)
    assert.deepEqual(synced.splice(0), [fileOf(root, hash), shard, root])
    // The directory's own name is on disk by now.
    await volume.put({ hash, data }, WANTED, signal)
    assert.deepEqual(synced.splice(0), [fileOf(root, hash), shard])
    // What another process has made may be lost, although a block in it is not.
    const other = await UnixVolume.open(root)
    await other.put(makeBlockIn(hash.slice(0, 3)), WANTED, signal)
    assert.deepEqual(synced.splice(0).slice(1), [shard, root])
    await volume.trash(hash, { minAge: 0, lifetime: 1000 })
    await volume.untrash(hash)
    assert.deepEqual(synced.splice(0), [shard])
  })

  test('keeps what it trashes under the name that keepstore gives it', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    await volume.put({ hash, data }, WANTED, signal)
    const start = Math.floor(Date.now() / 1000)
    await volume.trash(hash, { minAge: 0, lifetime: 1000 })
    const [name = '', ...more] = await readdir(join(root, hash.slice(0, 3)))
    assert.deepEqual(more, [])
    const [, deadline] = /^[0-9a-f]{32}\.trash\.(\d+)$/.exec(name) ?? []
    assert.ok(Number(deadline) >= start + 1000 && Number(deadline) <= start + 1060, name)
  })

  test('empties its trash, and removes what broken writes have left', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const now = Math.floor(Date.now() / 1000)
    const kept = [hash, `${hash}.trash.${now + 1000}`, `tmp${hash}2`, 'strange']
    for (const name of [...kept, `${hash}.trash.${now - 1}`, `tmp${hash}1`]) {
      await mkdir(join(root, hash.slice(0, 3)), { recursive: true })
      await writeFile(join(root, hash.slice(0, 3), name), data)
    }
    const long = new Date('2020-01-01')
    for (const name of [hash, 'strange', `tmp${hash}1`]) {
      await lutimes(join(root, hash.slice(0, 3), name), long, long)
    }
    await volume.emptyTrash()
    assert.deepEqual((await readdir(join(root, hash.slice(0, 3)))).sort(), kept.sort())
  })

  test('empties the rest of its trash where something of it cannot be deleted', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const name = (shard: string, time: number) => `${shard.padEnd(32, '0')}.trash.${time}`
    for (const shard of ['000', '777', 'fff']) {
      for (const time of [1, 2, 3]) await addFile(root, name(shard, time), data)
      // No rm without more ado removes a directory.
      await mkdir(fileOf(root, name(shard, 4)))
      await addFile(root, name(shard, 5), data)
    }
    const whatFailed = /000\/0{32}\.trash\.4.*, and 2 more failures/
    await assert.rejects(volume.emptyTrash(), whatFailed)
    for (const shard of ['000', '777', 'fff']) {
      assert.deepEqual(await readdir(join(root, shard)), [name(shard, 4)])
    }
  })

  test('removes what broken writes have left, also where all of the trash stays', async (t) => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const long = new Date('2020-01-01')
    const [left, done] = [`tmp${hash}1`, `tmp${hash}2`].map((name) => join(hash.slice(0, 3), name))
    await addFile(root, `${hash}.trash.1`, data)
    for (const file of [left, done]) {
      await writeFile(join(root, file!), data)
      await utimes(join(root, file!), long, long)
    }
    // A write may be over as soon as its file was seen.
    replace(t, 'lstat', async (path, look) => {
      if (path.endsWith(done!)) await rm(path)
      return look()
    })
    await volume.emptyTrash({ trashStays: true })
    assert.deepEqual(await readdir(join(root, hash.slice(0, 3))), [`${hash}.trash.1`])
  })

  test('takes nothing for an hour after it was full, and marks that as keepstore does', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    const now = Math.floor(Date.now() / 1000)
    await symlink(String(now - 60), join(root, 'full'))
    await assert.rejects(volume.put({ hash, data }, WANTED, signal), VolumeFull)
    assert.deepEqual(await readdir(root), ['full'])
    await rm(join(root, 'full'))
    await symlink(String(now - 3700), join(root, 'full'))
    await volume.put({ hash, data }, WANTED, signal)
    // What is there already needs no room.
    await rm(join(root, 'full'))
    await symlink(String(now), join(root, 'full'))
    await volume.put({ hash, data }, WANTED, signal)
  })

  test('has bad data where a block was cut short, and none where a reader has its size wrong', async () => {
    const root = await newRoot()
    const volume = await UnixVolume.open(root)
    for (const length of [0, 99_999]) {
      await addFile(root, hash, data.subarray(0, length))
      await assert.rejects(readFrom(volume, hash, data.length), { failure: 'corrupt' }, `${length}`)
    }
    await addFile(root, hash, data)
    await assert.rejects(readFrom(volume, hash, data.length - 1), { failure: 'not-found' })
  })

  test('cannot be opened where there is none, or no directory', async () => {
    for (const path of [join(scratch, 'nowhere'), import.meta.filename]) {
      await assert.rejects(UnixVolume.open(path), (error) => {
        return error instanceof Error && 'hint' in error && error.message.includes(path)
      })
    }
  })
})

/** What is done where a path is to be looked at. */
type Instead = (path: string, look: () => Promise<unknown>) => Promise<unknown>

/** Has something done in place of one of the file system's functions. */
function replace(t: TestContext, name: 'lstat' | 'readlink', instead: Instead): void {
  const original = fs[name] as (path: string, ...rest: unknown[]) => Promise<unknown>
  const mock = t.mock.method(fs, name, (path: string, ...rest: unknown[]) => {
    return instead(path, () => original(path, ...rest))
  })
  syncBuiltinESMExports()
  t.after(() => {
    mock.mock.restore()
    syncBuiltinESMExports()
  })
}

/** Returns what is synced from now on, by its path, as it comes. */
async function syncsOf(t: TestContext): Promise<string[]> {
  const synced: string[] = []
  const handle = await open(import.meta.filename)
  const prototype = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const { sync } = prototype
  t.mock.method(prototype, 'sync', async function (this: FileHandle) {
    synced.push(await readlink(`/proc/self/fd/${this.fd}`))
    return sync.call(this)
  })
  return synced
}

/** A block whose hash starts so. */
function makeBlockIn(shard: string) {
  for (let seed = 100; ; seed++) {
    const block = makeBlock(8, seed)
    if (block.hash.startsWith(shard)) return block
  }
}

test('a name stands for a block, for trash, for a half-written file, or for nothing', () => {
  const digits = fc.stringMatching(/^[0-9a-f]{32}$/)
  fc.assert(
    fc.property(digits, fc.nat(), (each, number) => {
      const shard = each.slice(0, 3)
      assert.deepEqual(parseName(each, shard), { kind: 'block', hash: each })
      assert.deepEqual(parseName(`${each}.trash.${number}`, shard), {
        kind: 'trash',
        hash: each,
        deadline: number,
      })
      assert.deepEqual(parseName(`tmp${each}${number}`, shard), { kind: 'temporary', hash: each })
      assert.equal(parseName(each, `x${shard.slice(1)}`), undefined)
    }),
  )
  fc.assert(
    fc.property(digits, fc.string({ minLength: 1 }), (each, more) => {
      assert.notEqual(parseName(each + more, each.slice(0, 3))?.kind, 'block')
    }),
  )
})

test('the mount of a path is the longest above it, the last of two', () => {
  const mountinfo = [
    '22 1 8:2 / / rw - ext4 /dev/sda2 rw',
    '30 22 8:3 / /mnt rw shared:1 - ext4 /dev/sda3 rw',
    '31 30 8:4 / /mnt/a\\040b rw - xfs /dev/sda4 rw',
    '32 22 8:5 / /mnt rw - ext4 /dev/sda5 rw',
    '33 22 0:40 /@one /one rw - btrfs /dev/sda6 rw',
    '34 22 0:40 /@two /two rw - btrfs /dev/sda6 rw',
    '35 22 8:3 /dir /bound rw - ext4 /dev/sda3 rw',
  ].join('\n')
  assert.deepEqual(mountOf('/mnt/a b/keep', mountinfo), { point: '/mnt/a b', source: '/dev/sda4' })
  assert.deepEqual(mountOf('/mnt/x', mountinfo), { point: '/mnt', source: '/dev/sda5' })
  assert.deepEqual(mountOf('/mntx', mountinfo), { point: '/', source: '/dev/sda2' })
  // Parts of a file system: their paths below the mount points are no names for them.
  for (const path of ['/one', '/two/keep', '/bound']) {
    assert.equal(mountOf(path, mountinfo), undefined)
  }
})
