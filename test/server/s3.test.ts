import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { writeDescription } from '../../src/mapping/description.ts'
import { openVolume, parseVolume } from '../../src/volume/spec.ts'
import { startFauxqs } from '../servers/fauxqs.ts'
import { makeBlock } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(300_000)
const path = `/${hash}+${data.length}`

test('a block is served from a bucket for as long as one of its objects is there', async (t) => {
  const s3 = await startFauxqs()
  const { endpoint, region, accessKeyId, secretAccessKey } = s3
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
  const mappings = await mkdtemp(join(tmpdir(), 'keepgw-s3-'))
  t.after(async () => {
    client.destroy()
    await rm(mappings, { recursive: true })
  })
  const put = async (Key: string, Body: Buffer) => {
    const { ETag } = await client.send(new PutObjectCommand({ Bucket: 'bucket', Key, Body }))
    return ETag!.replaceAll('"', '')
  }
  await client.send(new CreateBucketCommand({ Bucket: 'bucket' }))
  const tags = [await put('one', data), await put('two', Buffer.concat([Buffer.from('x'), data]))]
  const lines = [
    `0:${data.length}:one\tetag=${tags[0]}\n`,
    `1:${data.length}:two\tetag=${tags[1]}\n`,
  ]
  const remote = { kind: 's3', bucket: 'bucket', endpoint, region, pathStyle: true } as const
  await writeDescription(mappings, { version: 1, remote, ifMatch: true })
  await mkdir(join(mappings, hash.slice(0, 3)))
  await writeFile(join(mappings, hash.slice(0, 3), hash), lines.join(''))
  const credentials = join(mappings, 'credentials')
  await writeFile(
    credentials,
    `[default]\naws_access_key_id=${accessKeyId}\naws_secret_access_key=${secretAccessKey}\n`,
  )

  const volume = await openVolume(parseVolume(`s3:${mappings}:bucket:${credentials}`))
  t.after(() => volume.close())
  const h = await Harness.start(t, { volumes: [volume] })
  const head = async () => (await h.send('HEAD', path)).status
  assert.ok((await h.get(path)).body.equals(data))
  assert.equal(await head(), 200)

  await put('one', Buffer.from('another object'))
  assert.ok((await h.get(path)).body.equals(data))
  assert.equal((await h.logLine(({ msg }) => msg === 'failover')).cause, 'changed')
  assert.equal(await head(), 200)

  await client.send(new DeleteObjectCommand({ Bucket: 'bucket', Key: 'two' }))
  assert.equal((await h.get(path)).status, 404)
  assert.equal(await head(), 404)

  await s3.stop()
  assert.equal((await h.get(path)).status, 503)
  assert.equal(await head(), 503)
})
