/** A bucket held to what every remote must do: on a real server, and on fauxqs for the oddest keys. */
import { describe, it } from 'node:test'
import { openS3 } from '../../../src/remote/s3/s3.ts'
import { startFauxqs } from '../../servers/fauxqs.ts'
import { makeBucket, NO_S3, type S3Access, sharedS3, type TestBucket } from '../../servers/s3.ts'
import { type RemoteFixture, remoteSuite } from '../../suites/remote.ts'

/** What a store does in its own way, found out by trying. */
interface Habits {
  /** An object may lie "below" another: `a/b` beside `a`. */
  nests: boolean
  /** Lists in the order of the keys' bytes, as S3 does. */
  ordered: boolean
}

async function habitsOf(scratch: TestBucket): Promise<Habits> {
  const keys = ['B', 'a', 'a!', 'a/b', 'a0']
  for (const key of keys) await scratch.put(key, key)
  const listed = (await scratch.list()).map(({ key }) => key)
  for (const key of keys.toReversed()) await scratch.remove(key)
  const nests = listed.includes('a/b')
  return { nests, ordered: listed.join() === keys.filter((key) => nests || key !== 'a/b').join() }
}

async function bucketFixture(server: S3Access): Promise<RemoteFixture> {
  process.env.AWS_ACCESS_KEY_ID = server.accessKeyId
  process.env.AWS_SECRET_ACCESS_KEY = server.secretAccessKey
  const [bucket, scratch] = [await makeBucket(server), await makeBucket(server)]
  const { nests, ordered } = await habitsOf(scratch)
  const { endpoint, region } = server
  const open = (name: string) => openS3({ kind: 's3', bucket: name, endpoint, region })
  const store = open(bucket.name)
  const held = new Set<string>()
  const isAlone = (key: string) =>
    ![...held].some((other) => key.startsWith(`${other}/`) || other.startsWith(`${key}/`))
  /** Keys that a store refuses or rewrites are its own affair, not the remote's. */
  const isTakenExactly = async (key: string) => {
    try {
      return (await scratch.put(key, '')).exact
    } catch {
      return false
    } finally {
      await scratch.remove(key).catch(() => {})
    }
  }
  return {
    store,
    ordered,
    canHold: async (key) => (nests || isAlone(key)) && isTakenExactly(key),
    async put(key, data) {
      await bucket.put(key, data)
      held.add(key)
    },
    async remove(key) {
      await bucket.remove(key)
      held.delete(key)
    },
    openMissing: () => open(`${bucket.name}-missing`),
    async teardown() {
      await store.close()
      await Promise.all([bucket.destroy(), scratch.destroy()])
    },
  }
}

const shared = sharedS3()
if (shared === undefined) {
  describe('a bucket on a real server', () => {
    it('is a remote', { skip: NO_S3 })
  })
} else {
  remoteSuite('a bucket on a real server', () => bucketFixture(shared))
}

remoteSuite('a bucket on fauxqs', async () => {
  const server = await startFauxqs()
  const fixture = await bucketFixture(server)
  return {
    ...fixture,
    async teardown() {
      await fixture.teardown()
      await server.stop()
    },
  }
})
