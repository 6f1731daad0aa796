/** What every volume must do, whatever its blocks lie in. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { RemoteError } from '../../src/remote/remote.ts'
import { FailureMemory } from '../../src/volume/failure-memory.ts'
import { readBlock } from '../../src/volume/read-block.ts'
import type { BlockSource, Volume } from '../../src/volume/volume.ts'
import {
  hasTrash,
  isWritable,
  type TrashVolume,
  type WritableVolume,
} from '../../src/volume/volume.ts'
import { makeBlock } from '../volume/fakes.ts'

/** An empty volume, and the means to fill it from outside. */
export interface VolumeFixture {
  volume: Volume
  /** Puts a block there, without the volume's help. */
  add(hash: string, data: Uint8Array): Promise<void>
  /** Makes all that it reads from be out of reach, for good. */
  cutOff(): Promise<void>
  teardown(): Promise<void>
}

const PATIENCE = { timeout: 60_000 }
const signal = new AbortController().signal
const WANTED = { replicas: 1, classes: [] }

/** Returns a block as a server would read it from this volume. */
export async function readFrom(volume: Volume, hash: string, size?: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  const failures = new FailureMemory()
  const reader = { locator: size === undefined ? hash : `${hash}+${size}` }
  const query = { volumes: [volume], hash, size, reader, signal, failures, idleLimit: 20_000 }
  await readBlock(query, {
    begin() {},
    write: (chunk) => void chunks.push(Buffer.from(chunk)),
  })
  return Buffer.concat(chunks)
}

async function sourcesOf(volume: Volume, hash: string): Promise<BlockSource[]> {
  const all: BlockSource[] = []
  for await (const source of volume.sources(hash)) all.push(source)
  return all
}

async function indexOf(volume: Volume, prefix = ''): Promise<string[]> {
  const all: string[] = []
  for await (const { hash, length } of volume.blocks(prefix)) all.push(`${hash}+${length}`)
  return all.sort()
}

/** What a volume can do: read, or also write, or also throw away. */
export type Abilities = 'reads' | 'writes' | 'trashes'

/** Describes a volume of this kind; each `describe` gets one of its own. */
export function volumeSuite(
  name: string,
  abilities: Abilities,
  open: () => Promise<VolumeFixture>,
): void {
  describe(`${name}: reading`, PATIENCE, () => readingTests(abilities, open))
  if (abilities !== 'reads') describe(`${name}: writing`, PATIENCE, () => writingTests(open))
  if (abilities === 'trashes') describe(`${name}: trash`, PATIENCE, () => trashTests(open))
  describe(`${name}: out of reach`, PATIENCE, () => outageTests(open))
}

function readingTests(abilities: Abilities, open: () => Promise<VolumeFixture>): void {
  let fixture: VolumeFixture
  before(async () => {
    fixture = await open()
  })
  after(() => fixture.teardown())

  it('says what it can do', () => {
    assert.equal(isWritable(fixture.volume), abilities !== 'reads')
    assert.equal(hasTrash(fixture.volume), abilities === 'trashes')
  })

  it('gives whole blocks of any size', async () => {
    for (const size of [1, 65_536, 1_000_003]) {
      const { data, hash } = makeBlock(size, size)
      await fixture.add(hash, data)
      assert.ok((await readFrom(fixture.volume, hash, size)).equals(data), `${size} bytes`)
      assert.ok((await readFrom(fixture.volume, hash)).equals(data), `${size} bytes, unsaid`)
    }
  })

  it('gives a block from any byte on', async () => {
    const { data, hash } = makeBlock(300_000, 7)
    await fixture.add(hash, data)
    const [source] = await sourcesOf(fixture.volume, hash)
    assert.equal(source?.length, data.length)
    for (const from of [0, 1, 262_144, 299_999]) {
      const chunks: Buffer[] = []
      await source?.read(from, (chunk) => void chunks.push(Buffer.from(chunk)), signal)
      assert.ok(Buffer.concat(chunks).equals(data.subarray(from)), `from ${from}`)
    }
  })

  it('ends with the error of a sink, and with its signal', async () => {
    const { data, hash } = makeBlock(100_000, 8)
    await fixture.add(hash, data)
    const [source] = await sourcesOf(fixture.volume, hash)
    const full = new Error('the sink is full')
    const failing = source!.read(0, () => Promise.reject(full), signal)
    await assert.rejects(failing, (error) => error === full)
    const ended = AbortSignal.abort(new Error('nobody waits'))
    await assert.rejects(source!.read(0, () => {}, ended))
    assert.ok((await readFrom(fixture.volume, hash)).equals(data))
  })

  it('knows what it has not', async () => {
    const { hash } = makeBlock(10, 99)
    await assert.rejects(readFrom(fixture.volume, hash, 10), { failure: 'not-found' })
    await assert.rejects(readFrom(fixture.volume, hash), { failure: 'not-found' })
  })

  it('names each source the same at every request', async () => {
    const { data, hash } = makeBlock(10, 9)
    await fixture.add(hash, data)
    const names = async () => (await sourcesOf(fixture.volume, hash)).map(String)
    assert.deepEqual(await names(), await names())
    assert.ok((await names()).length > 0)
  })

  it('lists its blocks, and those of a prefix', async () => {
    const blocks = Array.from({ length: 20 }, (_, seed) => makeBlock(seed + 1, seed + 1000))
    for (const { data, hash } of blocks) await fixture.add(hash, data)
    const all = await indexOf(fixture.volume)
    for (const { data, hash } of blocks) assert.ok(all.includes(`${hash}+${data.length}`))
    for (const length of [1, 2, 3, 4, 32]) {
      const prefix = blocks[0]!.hash.slice(0, length)
      const expected = all.filter((each) => each.startsWith(prefix))
      assert.deepEqual(await indexOf(fixture.volume, prefix), expected, prefix)
    }
    const now = BigInt(Date.now()) * 1_000_000n
    for await (const { mtimeNs } of fixture.volume.blocks('')) {
      assert.ok(mtimeNs > now - 600_000_000_000n && mtimeNs < now + 600_000_000_000n, `${mtimeNs}`)
    }
  })
}

function writingTests(open: () => Promise<VolumeFixture>): void {
  let fixture: VolumeFixture
  let volume: WritableVolume
  before(async () => {
    fixture = await open()
    volume = fixture.volume as WritableVolume
  })
  after(() => fixture.teardown())

  it('keeps what it is given', async () => {
    for (const size of [0, 1, 1_000_003]) {
      const { data, hash } = makeBlock(size, size + 1)
      const stored = await volume.put({ hash, data }, WANTED, signal)
      assert.ok(stored.replicas >= 1)
      assert.ok((await readFrom(volume, hash, size)).equals(data))
      assert.ok((await indexOf(volume)).includes(`${hash}+${size}`))
    }
  })

  it('takes one block many times at once', async () => {
    const { data, hash } = makeBlock(300_000, 11)
    const puts = Array.from({ length: 8 }, () => volume.put({ hash, data }, WANTED, signal))
    await Promise.all(puts)
    assert.ok((await readFrom(volume, hash)).equals(data))
    assert.deepEqual(await indexOf(volume, hash), [`${hash}+${data.length}`])
  })

  it('ends with its signal', async () => {
    const { data, hash } = makeBlock(5_000_000, 12)
    const reason = new Error('the writer went away')
    const put = volume.put({ hash, data }, WANTED, AbortSignal.abort(reason))
    await assert.rejects(put, (error) => error === reason)
    assert.deepEqual(await indexOf(volume, hash), [])
  })
}

function trashTests(open: () => Promise<VolumeFixture>): void {
  const policy = { minAge: 0, lifetime: 3600 }
  const { data, hash } = makeBlock(5_000, 21)
  let fixture: VolumeFixture
  let volume: TrashVolume
  before(async () => {
    fixture = await open()
    volume = fixture.volume as TrashVolume
  })
  after(() => fixture.teardown())

  const mtime = async () => {
    for await (const block of volume.blocks(hash)) return block.mtimeNs
    return undefined
  }

  it('throws away, and takes back', async () => {
    await volume.put({ hash, data }, WANTED, signal)
    assert.equal(await volume.trash(hash, policy), 'trashed')
    assert.deepEqual(await indexOf(volume), [])
    await assert.rejects(readFrom(volume, hash), { failure: 'not-found' })
    assert.equal(await volume.trash(hash, policy), 'not-found')
    assert.equal(await volume.untrash(hash), true)
    assert.ok((await readFrom(volume, hash)).equals(data))
    assert.equal(await volume.untrash(hash), false)
  })

  it('leaves what is young, and what is not the block that was meant', async () => {
    await volume.put({ hash, data }, WANTED, signal)
    assert.equal(await volume.trash(hash, { ...policy, minAge: 60 }), 'too-new')
    assert.equal(await volume.trash(hash, policy, (await mtime())! - 1n), 'other-mtime')
    assert.ok((await readFrom(volume, hash)).equals(data))
    assert.equal(await volume.trash(hash, policy, await mtime()), 'trashed')
  })

  it('deletes at once where nothing is kept in the trash', async () => {
    await volume.untrash(hash)
    await volume.put({ hash, data }, WANTED, signal)
    assert.equal(await volume.trash(hash, { ...policy, lifetime: 0 }), 'trashed')
    assert.equal(await volume.untrash(hash), false)
  })

  it('touches what is there', async () => {
    assert.equal(await volume.touch(hash), false)
    await volume.put({ hash, data }, WANTED, signal)
    const then = (await mtime())!
    assert.equal(await volume.touch(hash), true)
    assert.ok((await mtime())! >= then)
  })
}

function outageTests(open: () => Promise<VolumeFixture>): void {
  it('is never taken for an empty volume', async (t) => {
    const fixture = await open()
    t.after(() => fixture.teardown())
    const { volume } = fixture
    const { data, hash } = makeBlock(1_000, 31)
    await fixture.add(hash, data)
    await fixture.cutOff()
    await assert.rejects(readFrom(volume, hash, data.length), { failure: 'unreachable' })
    await assert.rejects(readFrom(volume, hash), { failure: 'unreachable' })
    await assert.rejects(indexOf(volume), RemoteError)
    if (isWritable(volume)) {
      await assert.rejects(volume.put({ hash, data }, WANTED, signal), RemoteError)
    }
    if (hasTrash(volume)) {
      await assert.rejects(volume.touch(hash), RemoteError)
      await assert.rejects(volume.trash(hash, { minAge: 0, lifetime: 0 }), RemoteError)
      await assert.rejects(volume.untrash(hash), RemoteError)
    }
  })
}
