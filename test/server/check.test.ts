import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { writeDescription } from '../../src/mapping/description.ts'
import type { RemoteSpec } from '../../src/remote/remote.ts'
import { reach } from '../../src/server/check.ts'
import { MappedVolume } from '../../src/volume/mapped.ts'
import { openVolume, parseVolume } from '../../src/volume/spec.ts'
import { startFauxqs } from '../servers/fauxqs.ts'
import { makeBucket, type S3Server, type TestBucket } from '../servers/s3.ts'
import { failing, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'

const signal = new AbortController().signal
const { data, hash } = makeBlock(1000)
const stateOf = async (volume: Parameters<typeof reach>[0]) =>
  (await reach(volume, 1000, signal)).state

describe('a volume with a block', () => {
  const cases = [
    ['unchanged', makeSource('a', data), 'reachable'],
    ['gone', failing('a', data, 'gone'), 'reachable'],
    ['changed', failing('a', data, 'changed'), 'reachable'],
    ['out of reach', failing('a', data, 'unreachable'), 'unreachable'],
  ] as const
  for (const [what, source, state] of cases) {
    test(`that is ${what} is ${state}`, async () => {
      assert.equal(await stateOf(makeVolume({ blocks: { [hash]: [source] } })), state)
    })
  }
})

describe('a mapping without a block', () => {
  let scratch: string
  let server: S3Server
  let bucket: TestBucket
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'keepgw-check-'))
    server = await startFauxqs()
    bucket = await makeBucket(server)
  })
  after(async () => {
    await bucket?.destroy()
    await server?.stop()
    await rm(scratch, { recursive: true })
  })

  async function open(remote: RemoteSpec): Promise<MappedVolume> {
    const mapping = await mkdtemp(join(scratch, 'mapping-'))
    await writeDescription(mapping, { version: 1, remote, ifMatch: true })
    const { accessKeyId, secretAccessKey } = server
    const keys = [`aws_access_key_id=${accessKeyId}`, `aws_secret_access_key=${secretAccessKey}`]
    await writeFile(join(mapping, 'credentials'), ['[default]', ...keys, ''].join('\n'))
    const volume =
      remote.kind === 's3'
        ? `s3:${mapping}:${remote.bucket}:${mapping}/credentials`
        : `file:${mapping}:${remote.root}`
    const opened = await openVolume(parseVolume(volume))
    assert.ok(opened instanceof MappedVolume)
    return opened
  }

  test('costs its bucket one request', async () => {
    const { endpoint, region } = server
    await using volume = closing(
      await open({ kind: 's3', bucket: bucket.name, endpoint, region, pathStyle: true }),
    )
    for (const objects of [0, 3]) {
      for (let i = 0; i < objects; i++) await bucket.put(`k${i}`, 'x')
      const asked = volume.opened.remote.requests().list
      assert.equal(await stateOf(volume.opened), 'empty')
      assert.deepEqual(volume.opened.remote.requests(), { list: asked + 1, get: 0, head: 0 })
    }
  })

  test('is out of reach where its bucket is', async () => {
    const { endpoint, region } = server
    const there = { kind: 's3', bucket: bucket.name, endpoint, region, pathStyle: true } as const
    for (const remote of [
      { ...there, bucket: 'no-such-bucket' },
      { ...there, endpoint: 'http://127.0.0.1:1' },
    ]) {
      await using volume = closing(await open(remote))
      const found = await reach(volume.opened, 1000, signal)
      assert.equal(found.state, 'unreachable')
      assert.match('reason' in found ? found.reason : '', /NoSuchBucket|ECONNREFUSED/)
    }
  })

  test('is out of reach where its directory is not there', async () => {
    const root = join(scratch, 'root')
    await using volume = closing(await open({ kind: 'directory', root }))
    assert.equal(await stateOf(volume.opened), 'unreachable')
    await mkdir(root)
    assert.equal(await stateOf(volume.opened), 'empty')
  })
})

function closing(opened: MappedVolume) {
  return { opened, [Symbol.asyncDispose]: () => opened.close() }
}
