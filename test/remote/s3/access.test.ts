/** When credentials are asked for, and which ones are used meanwhile. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { AccessCache, type AccessQuery, type S3Access } from '../../../src/remote/s3/access.ts'

/** Whoever gives out credentials, and time that passes only when it is told to. */
function provider(t: TestContext) {
  const asked: AccessQuery[] = []
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const cache = new AccessCache(async (query) => {
    asked.push(query)
    return accessOf(`KEY-${asked.length}`)
  })
  const pass = (milliseconds: number): void => {
    now += milliseconds
  }
  return { cache, asked, pass }
}

function accessOf(accessKeyId: string): S3Access {
  const credentials = { accessKeyId, secretAccessKey: 'secret', tokenHeader: 'x' }
  const where = { origin: 'http://h', host: 'h', path: '/b', region: 'r', service: 's3' }
  return { ...where, credentials, expires: false }
}

const keyOf = ({ credentials }: S3Access): string => credentials!.accessKeyId

test('credentials that are refused are asked for once, by all who meet that', async (t) => {
  const { cache, asked } = provider(t)
  const refused = await cache.get()
  const all = [1, 2, 3].map(() => cache.renew(refused, { refresh: true }))
  assert.deepEqual((await Promise.all(all)).map(keyOf), ['KEY-2', 'KEY-2', 'KEY-2'])
  assert.equal(keyOf(await cache.renew(refused, { refresh: true })), 'KEY-2')
  assert.equal(asked.length, 2)
})

test('credentials that are refused again are left for a while', async (t) => {
  const { cache, asked, pass } = provider(t)
  const access = await cache.renew(await cache.get(), { refresh: true })
  assert.equal(await cache.renew(access, { refresh: true }), access)
  pass(10_000)
  assert.equal(keyOf(await cache.renew(access, { refresh: true })), 'KEY-3')
  assert.deepEqual(asked, [{}, { refresh: true }, { refresh: true }])
})

test('another region is asked for at once', async (t) => {
  const { cache } = provider(t)
  const access = await cache.renew(await cache.get(), { refresh: true })
  assert.equal(keyOf(await cache.renew(access, { region: 'eu-west-1' })), 'KEY-3')
})
