import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { KeepgwError, UsageError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import {
  findDescription,
  readDescription,
  writeDescription,
} from '../../src/mapping/description.ts'
import { MappingUnreachable } from '../../src/mapping/mapping.ts'
import {
  assertSame,
  openForWriting,
  reach,
  settleDescription,
} from '../../src/mapping/open-mapping.ts'
import type { RemoteSpec, S3Spec } from '../../src/remote/remote.ts'
import { runs } from '../fuzz.ts'
import { description, makeTree } from './fixture.ts'

const bucket: S3Spec = { kind: 's3', bucket: 'b', prefix: 'p/', endpoint: 'http://s3.test' }

describe('the description of a mapping', () => {
  it('is made with its directories, and remembers no credentials', async () => {
    await using tree = await makeTree()
    const dir = join(tree.dir, 'made/here')
    assert.equal(await findDescription(dir), undefined)
    const asked = { ...bucket, profile: 'mine', credentialsFile: '/secret', region: 'r' }
    await settleDescription(dir, asked)
    const text = await readFile(join(dir, '.keepgw/remote.json'), 'utf8')
    assert.doesNotMatch(text, /mine|secret/)
    const found = await readDescription(dir)
    assert.deepEqual(found, { version: 1, remote: { ...bucket, region: 'r' }, ifMatch: true })
    assert.deepEqual(reach(found.remote, { ...bucket, profile: 'other' }), {
      ...found.remote,
      profile: 'other',
    })
    assert.deepEqual(await readdir(join(dir, '.keepgw')), ['remote.json'])
  })

  it('keeps what was settled, and takes on what only says how to get there', async () => {
    await using tree = await makeTree()
    const settled = { version: 1, remote: { ...bucket, pathStyle: true }, ifMatch: false } as const
    await writeDescription(tree.dir, settled)
    const { endpoint: _endpoint, ...named } = bucket
    assert.deepEqual(await settleDescription(tree.dir, named), settled)
    const asked: S3Spec = { ...named, region: 'r2', endpoint: 'http://s3.test/' }
    const now = await settleDescription(tree.dir, asked)
    assert.equal(now.ifMatch, false)
    assert.equal((now.remote as S3Spec).region, 'r2')
    assert.deepEqual(await readDescription(tree.dir), now)
  })

  it('remembers that a bucket is public, until somebody says whom to ask as', async () => {
    await using tree = await makeTree()
    const isPublic: S3Spec = { ...bucket, anonymous: true }
    const remembered = async (asked: S3Spec) => (await settleDescription(tree.dir, asked)).remote
    assert.deepEqual(await remembered(isPublic), isPublic)
    assert.deepEqual(await remembered(bucket), isPublic)
    assert.deepEqual(reach(isPublic, bucket), isPublic)
    for (const named of [{ profile: 'lab' }, { credentialsFile: '/secret' }]) {
      assert.deepEqual(reach(isPublic, { ...bucket, ...named }), { ...bucket, ...named })
      assert.deepEqual(await remembered({ ...isPublic, ...named }), isPublic)
      assert.deepEqual(await remembered({ ...bucket, ...named }), bucket)
    }
    assert.deepEqual(await remembered(isPublic), isPublic)
    assert.deepEqual(await remembered({ ...bucket, anonymous: false }), bucket)
  })

  it('is reached as is said now: by region, path style, and who pays', () => {
    const how = { region: 'r', pathStyle: false, requestPayer: 'requester' } as const
    const described: S3Spec = { ...bucket, region: 'old', pathStyle: true }
    assert.deepEqual(reach(described, { ...bucket, ...how }), { ...bucket, ...how })
    assert.deepEqual(reach(described, bucket), described)
  })

  const others: RemoteSpec[] = [
    { ...bucket, bucket: 'c' },
    { ...bucket, prefix: 'q/' },
    { kind: 's3', bucket: 'b' },
    { ...bucket, endpoint: 'http://other.test' },
    { kind: 'directory', root: '/b' },
  ]
  for (const other of others) {
    it(`is not that of ${JSON.stringify(other)}`, async () => {
      assert.throws(() => assertSame('/m', bucket, other), UsageError)
      await using tree = await makeTree()
      await writeDescription(tree.dir, { version: 1, remote: bucket, ifMatch: true })
      await mkdir(join(tree.dir, 'abc'))
      await assert.rejects(settleDescription(tree.dir, other), UsageError)
      assert.deepEqual((await readDescription(tree.dir)).remote, bucket)
      // As long as nothing is recorded, what was named first may have been a mistake.
      await rmdir(join(tree.dir, 'abc'))
      assert.deepEqual((await settleDescription(tree.dir, other)).remote, other)
    })
  }

  it('that is damaged is not taken for a new mapping’s', async () => {
    await using tree = await makeTree()
    await writeFile(join(tree.dir, '.keepgw/remote.json'), '')
    await assert.rejects(settleDescription(tree.dir, bucket), MappingUnreachable)
    assert.equal(await readFile(join(tree.dir, '.keepgw/remote.json'), 'utf8'), '')
  })

  it('that cannot be written is an error with a hint, and leaves nothing behind', async () => {
    await using tree = await makeTree()
    const own = join(tree.dir, '.keepgw')
    await rm(join(own, 'remote.json'))
    await mkdir(join(own, 'remote.json'))
    const failed = (error: unknown) => error instanceof KeepgwError && error.hint !== undefined
    await assert.rejects(writeDescription(tree.dir, description), failed)
    assert.deepEqual(await readdir(own), ['remote.json'])
    await writeFile(join(tree.dir, 'file'), '')
    await assert.rejects(writeDescription(join(tree.dir, 'file/dir'), description), failed)
  })
})

describe('a mapping opened for writing', () => {
  it('is locked until it is closed, also where it cannot be opened', async () => {
    await using tree = await makeTree()
    const open = () => openForWriting(tree.dir, description, { command: 'test' })
    const first = await open()
    await assert.rejects(open(), { exitCode: 4 })
    assert.notEqual(first.catalog.lockRecord(), undefined)
    await first.close()
    const second = await open()
    assert.equal(second.recovered, 0)
    await second.close()
  })

  it('has a catalog that one of several made, and nothing of what they did in vain', async () => {
    await using tree = await makeTree()
    const own = join(tree.dir, '.keepgw')
    await mkdir(join(own, 'catalog-of-a-killed-run'))
    await Promise.all([1, 2, 3, 4].map(() => Catalog.make(tree.dir)))
    assert.deepEqual((await readdir(own)).sort(), ['catalog', 'remote.json'])
    await (await openForWriting(tree.dir, description, { command: 'test' })).close()
  })
})

describe('a remote.json of any content', () => {
  it('is a description or out of reach, never another error', async () => {
    await using tree = await makeTree()
    const file = join(tree.dir, '.keepgw/remote.json')
    const odd = fc.constantFrom<unknown>(null, 5, true, '', [], {}, 'text', ['x'])
    const remote = fc.record(
      {
        kind: fc.oneof(fc.constantFrom('s3', 'directory'), odd),
        bucket: fc.oneof(fc.constant('b'), odd),
        root: fc.oneof(fc.constant('/b'), odd),
        prefix: odd,
        endpoint: odd,
        region: odd,
        pathStyle: odd,
        profile: odd,
      },
      { requiredKeys: ['kind'] },
    )
    const json = fc.record({
      version: fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: odd }),
      remote: fc.oneof({ weight: 5, arbitrary: remote }, { weight: 1, arbitrary: odd }),
      ifMatch: odd,
      etagIsMd5: odd,
    })
    const texts = fc.oneof(
      { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
      { weight: 1, arbitrary: fc.json() },
      { weight: 5, arbitrary: json.map((each) => JSON.stringify(each)) },
    )
    await fc.assert(
      fc.asyncProperty(texts, async (text) => {
        await writeFile(file, text)
        try {
          const { remote } = await readDescription(tree.dir)
          if (remote.kind === 'directory') return assert.ok(remote.root.startsWith('/'))
          const { bucket, ...others } = remote
          const { pathStyle, anonymous, requestPayer, kind: _kind, ...texts } = others
          for (const one of [bucket, ...Object.values(texts)]) assert.equal(typeof one, 'string')
          for (const one of [pathStyle, anonymous]) assert.match(typeof one, /boolean|undefined/)
          assert.ok(requestPayer === undefined || requestPayer === 'requester')
          // Nobody but the one who asks says what to sign with.
          assert.equal(remote.profile ?? remote.credentialsFile, undefined)
        } catch (error) {
          assert.ok(error instanceof MappingUnreachable, String(error))
        }
      }),
      runs(500),
    )
  })
})
