import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { HeadBucketCommand } from '@aws-sdk/client-s3'
import { startFauxqs } from './fauxqs.ts'
import { connectTo, makeBucket, NO_S3, type S3Server, sharedS3 } from './s3.ts'
import { accepts } from './supervised.ts'

const shared = sharedS3()
const onSeaweedfs = shared?.kind === 'seaweedfs' ? false : 'holds for SeaweedFS alone'

async function holdsObjects(server: S3Server): Promise<void> {
  const bucket = await makeBucket(server)
  const { etag } = await bucket.put('a/small', 'foo')
  assert.equal(etag, 'acbd18db4cc2f85cedef654fccc4a4d8')
  const large = await bucket.putLarge('b/large', randomBytes(6 << 20), 5 << 20)
  assert.match(large.etag, /^[0-9a-f]{32}-2$/)
  assert.deepEqual(await bucket.list(), [
    { key: 'a/small', size: 3, etag },
    { key: 'b/large', size: 6 << 20, etag: large.etag },
  ])
  await bucket.remove('a/small')
  assert.deepEqual(await bucket.list('a'), [])
  assert.equal((await bucket.put('a b+%41', '')).exact, true)
  await bucket.destroy()
  const client = connectTo(server)
  await assert.rejects(client.send(new HeadBucketCommand({ Bucket: bucket.name })), {
    name: 'NotFound',
  })
  client.destroy()
}

test(
  'a bucket on the shared server holds objects until it is destroyed',
  {
    skip: shared === undefined && NO_S3,
  },
  () => holdsObjects(shared!),
)

test('a bucket on fauxqs holds objects until it is destroyed', async () => {
  const server = await startFauxqs()
  await holdsObjects(server)
  await server.stop()
})

test('put tells a key that the store has rewritten', { skip: onSeaweedfs }, async () => {
  const bucket = await makeBucket(shared!)
  assert.equal((await bucket.put('/a', 'foo')).exact, false)
  assert.equal((await bucket.put('b//c', 'foo')).exact, false)
  assert.equal((await bucket.put('d\n\u0001', 'foo')).exact, true)
  await bucket.destroy()
})

test('SeaweedFS ends with the process that started it', { skip: onSeaweedfs }, async () => {
  const script = `
    import { startSeaweedfs } from '${new URL('./seaweedfs.ts', import.meta.url)}'
    const { endpoint } = await startSeaweedfs()
    process.stdout.write(endpoint)`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script])
  const [endpoint] = await once(parent.stdout, 'data')
  const { port } = new URL(String(endpoint))
  assert.equal(await accepts(Number(port)), true)
  parent.kill('SIGKILL')
  while (await accepts(Number(port))) await delay(20)
})
