import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { type MappingDescription, writeDescription } from '../../src/mapping/description.ts'
import { type MappingReader, MappingUnreachable, type Place } from '../../src/mapping/mapping.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import { ProofJournal } from '../../src/mapping/proofs.ts'
import { blockFile } from '../../src/mapping/tree.ts'
import {
  type ReadRequest,
  RemoteError,
  type RemoteObject,
  type RemoteStore,
} from '../../src/remote/remote.ts'
import { deviceIdOf, MappedVolume } from '../../src/volume/mapped.ts'
import { openVolume, parseVolume } from '../../src/volume/spec.ts'
import { makeTree } from '../mapping/fixture.ts'
import { startFauxqs } from '../servers/fauxqs.ts'
import { type VolumeFixture, volumeSuite } from '../suites/volume.ts'
import { failure } from './fakes.ts'

const signal = new AbortController().signal
const description: MappingDescription = {
  version: 1,
  remote: { kind: 's3', bucket: 'b' },
  ifMatch: true,
}
const place: Place = { offset: 10, length: 5, key: 'k', etag: 'e' }

/** A volume over one remote object, with what its remotes were asked. */
function makeMapped(overrides: {
  places?: MappingReader['places']
  read?: (request: ReadRequest, ifMatch: boolean) => void
  stat?: () => RemoteObject
  description?: () => MappingDescription
  proofs?: ProofJournal
}) {
  const asked: ReadRequest[] = []
  const opened: boolean[] = []
  const closed: boolean[] = []
  const onePlace = async function* () {
    yield place
  }
  const volume = new MappedVolume({
    mapping: {
      toString: () => '/mappings',
      places: overrides.places ?? onePlace,
      async *blocks() {},
    },
    ...(overrides.proofs === undefined ? {} : { proofs: overrides.proofs }),
    description,
    readDescription: async () => overrides.description?.() ?? description,
    openRemote({ ifMatch }) {
      opened.push(ifMatch)
      const store: Partial<RemoteStore> = {
        toString: () => 's3://b',
        async read(request) {
          asked.push(request)
          overrides.read?.(request, ifMatch)
        },
        async stat() {
          if (overrides.stat === undefined) throw failure('gone')
          return overrides.stat()
        },
        async close() {
          closed.push(ifMatch)
        },
      }
      return store as RemoteStore
    },
  })
  const onlySource = async () => {
    for await (const source of volume.sources('0'.repeat(32))) return source
    throw new Error('no source')
  }
  return { volume, asked, opened, closed, onlySource }
}

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-mapped-'))
after(() => rm(scratch, { recursive: true }))

/** Adds a block to a mapping, with its places. */
async function addLines(mapping: string, hash: string, places: Place[]): Promise<void> {
  await mkdir(join(mapping, hash.slice(0, 3)), { recursive: true })
  const lines = places.map((each) => `${formatPlace(each)}\n`)
  await writeFile(blockFile(mapping, hash), lines.join(''))
}

volumeSuite('mapped volume of a directory', 'reads', async (): Promise<VolumeFixture> => {
  const dir = await mkdtemp(join(scratch, 'directory-'))
  const [root, mapping] = [join(dir, 'root'), join(dir, 'mapping')]
  await mkdir(root)
  const remote = { kind: 'directory', root } as const
  await writeDescription(mapping, { version: 1, remote, ifMatch: true })
  const volume = await openVolume(parseVolume(`file:${mapping}:${root}`))
  return {
    volume,
    async add(hash, data) {
      const { length } = data
      await writeFile(join(root, `${hash} whole`), data)
      await writeFile(join(root, `${hash} middle`), Buffer.concat([Buffer.from('x'), data]))
      await addLines(mapping, hash, [
        { offset: 0, length, key: `${hash} whole` },
        { offset: 1, length, key: `${hash} middle` },
      ])
    },
    cutOff: () => rename(dir, `${dir}-gone`),
    teardown: () => volume.close(),
  }
})

volumeSuite('mapped volume of a bucket', 'reads', async (): Promise<VolumeFixture> => {
  const s3 = await startFauxqs()
  const { endpoint, region, accessKeyId, secretAccessKey } = s3
  const credentials = { accessKeyId, secretAccessKey }
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials })
  await client.send(new CreateBucketCommand({ Bucket: 'bucket' }))
  const mapping = await mkdtemp(join(scratch, 'bucket-'))
  const remote = { kind: 's3', bucket: 'bucket', endpoint, region, pathStyle: true } as const
  await writeDescription(mapping, { version: 1, remote, ifMatch: true })
  const file = `${mapping}-credentials`
  const lines = [`aws_access_key_id=${accessKeyId}`, `aws_secret_access_key=${secretAccessKey}`]
  await writeFile(file, ['[default]', ...lines, ''].join('\n'))
  const volume = await openVolume(parseVolume(`s3:${mapping}:bucket:${file}`))
  let isStopped = false
  const stop = async () => {
    if (!isStopped) await s3.stop()
    isStopped = true
  }
  return {
    volume,
    async add(hash, data) {
      const put = async (key: string, body: Uint8Array) => {
        const object = new PutObjectCommand({ Bucket: 'bucket', Key: key, Body: body })
        return (await client.send(object)).ETag!.replaceAll('"', '')
      }
      const { length } = data
      const middle = Buffer.concat([Buffer.from('x'), data])
      const [whole, rest] = [`${hash} whole`, `${hash} middle`]
      await addLines(mapping, hash, [
        { offset: 0, length, key: whole, etag: await put(whole, data) },
        { offset: 1, length, key: rest, etag: await put(rest, middle) },
      ])
    },
    async cutOff() {
      await stop()
      await rename(mapping, `${mapping}-gone`)
    },
    async teardown() {
      await volume.close()
      client.destroy()
      await stop()
    },
  }
})

function isFailure(kind: string) {
  return (error: unknown) => error instanceof RemoteError && error.failure === kind
}

test('a source reads its segment from the byte asked for, as it was indexed', async () => {
  const { onlySource, asked } = makeMapped({})
  const source = await onlySource()
  await source.read(2, () => {}, signal)
  assert.equal(source.length, 5)
  assert.deepEqual(asked, [{ key: 'k', offset: 12, length: 3, etag: 'e', willProve: true }])
})

test('a place without an ETag is read as it is, and cannot be known unchanged', async () => {
  const { onlySource, asked } = makeMapped({
    async *places() {
      yield { offset: 0, length: 5, key: 'k' }
    },
  })
  const source = await onlySource()
  await source.read(0, () => {}, signal)
  assert.deepEqual(asked, [{ key: 'k', offset: 0, length: 5, willProve: true }])
  assert.equal(await source.unchanged(signal), false)
})

test('a place is unchanged if the object is the one that was indexed', async () => {
  const object = { key: 'k', size: 15, etag: 'e', lastModified: 0, archived: false }
  const ask = async (stat: RemoteObject) =>
    (await makeMapped({ stat: () => stat }).onlySource()).unchanged(signal)
  assert.equal(await ask(object), true)
  await assert.rejects(ask({ ...object, etag: 'other' }), isFailure('changed'))
  await assert.rejects(ask({ ...object, size: 14 }), isFailure('changed'))
  await assert.rejects(ask({ ...object, archived: true }), isFailure('unreachable'))
  await assert.rejects((await makeMapped({}).onlySource()).unchanged(signal), isFailure('gone'))
})

test('a mapping out of reach is an unreachable volume, not an unknown hash', async () => {
  const { volume, onlySource } = makeMapped({
    // biome-ignore lint/correctness/useYield: it fails before its first place.
    async *places() {
      throw new MappingUnreachable('not mounted')
    },
  })
  await assert.rejects(onlySource(), isFailure('unreachable'))
  assert.equal(String(volume), 's3://b by /mappings')
})

test('when a store turns out not to know If-Match, a read is tried again without', async () => {
  let ifMatch = true
  const { volume, onlySource, opened, closed } = makeMapped({
    description: () => ({ ...description, ifMatch }),
    read(_, isMatched) {
      if (isMatched) throw failure('changed')
    },
  })
  const source = await onlySource()
  await assert.rejects(
    source.read(0, () => {}, signal),
    isFailure('changed'),
  )
  ifMatch = false
  await Promise.all([source.read(0, () => {}, signal), source.read(0, () => {}, signal)])
  await source.read(0, () => {}, signal)
  assert.deepEqual(opened, [true, false], 'opened once')
  await volume.close()
  assert.deepEqual(closed, [true, false])
})

test('what was delivered in part is not read again', async () => {
  const { onlySource, asked } = makeMapped({
    description: () => ({ ...description, ifMatch: false }),
    read() {
      throw failure('changed', 3)
    },
  })
  await assert.rejects(
    (await onlySource()).read(0, () => {}, signal),
    isFailure('changed'),
  )
  assert.equal(asked.length, 1)
})

test('a device is named by its storage alone', () => {
  const s3 = { kind: 's3', bucket: 'b' } as const
  assert.equal(deviceIdOf(s3), 'keepgw:s3://s3.amazonaws.com/b')
  assert.equal(
    deviceIdOf({ ...s3, endpoint: 'https://S3.example.org:9000/', prefix: 'x/y/', profile: 'p' }),
    'keepgw:s3://s3.example.org:9000/b/x/y/',
  )
  assert.equal(deviceIdOf({ kind: 'directory', root: '/data' }), 'keepgw:file:///data')
})

test('what a source has proven is in the journal once the volume is closed', async () => {
  await using tree = await makeTree()
  const trusted: Place = { ...place, trusted: true }
  const proofs = new ProofJournal(tree.dir)
  const places = async function* () {
    yield trusted
  }
  const { volume, onlySource } = makeMapped({ places, proofs })
  const source = await onlySource()
  assert.equal(source.trusted, true)
  source.proven?.()
  await volume.close()
  const text = await readFile(join(tree.dir, '.keepgw/proofs'), 'utf8')
  assert.equal(text, `${'0'.repeat(32)} ${formatPlace(trusted)}\n`)
})
