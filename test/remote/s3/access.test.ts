/** When credentials are asked for, and which ones are used meanwhile. */
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { AccessCache, type AccessQuery, type S3Access } from '../../../src/remote/s3/access.ts'

/** Whoever gives out credentials, and time that passes only when it is told to. */
function provider(t: TestContext, expires = Infinity) {
  const asked: AccessQuery[] = []
  /** Questions that are not answered, the first one being 1. */
  const failing = new Set<number>()
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const cache = new AccessCache(async (query) => {
    if (failing.has(asked.push(query))) throw new Error('it is away')
    return accessOf(`KEY-${asked.length}`, expires)
  })
  const pass = (milliseconds: number): void => {
    now += milliseconds
  }
  return { cache, asked, pass, failing }
}

function accessOf(accessKeyId: string, expires: number): S3Access {
  const credentials = { accessKeyId, secretAccessKey: 'secret', tokenHeader: 'x' }
  const where = { origin: 'http://h', host: 'h', path: '/b', region: 'r', service: 's3' }
  return { ...where, credentials, expires }
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

test('credentials that end are asked for now and again', async (t) => {
  const { cache, asked, pass } = provider(t, Date.now() + 3_600_000)
  for (let i = 0; i < 3; i++) await cache.get()
  pass(60_001)
  assert.equal(keyOf(await cache.get()), 'KEY-2')
  assert.deepEqual(asked, [{}, {}])
})

test('credentials are used to their end while there are no others', async (t) => {
  const { cache, pass, failing } = provider(t, Date.now() + 3_600_000)
  failing.add(2)
  assert.equal(keyOf(await cache.get()), 'KEY-1')
  pass(60_001)
  const all = [1, 2, 3].map(() => cache.get())
  assert.deepEqual((await Promise.all(all)).map(keyOf), ['KEY-1', 'KEY-1', 'KEY-1'])
  pass(60_001)
  assert.equal(keyOf(await cache.get()), 'KEY-3')
})

test('credentials that have ended are not used on', async (t) => {
  const { cache, pass, failing } = provider(t, Date.now() - 1)
  failing.add(2)
  await cache.get()
  pass(60_001)
  await assert.rejects(cache.get(), /it is away/)
})

test('credentials that were refused are not used on', async (t) => {
  const { cache, failing } = provider(t, Date.now() + 3_600_000)
  failing.add(2)
  await assert.rejects(cache.renew(await cache.get(), { refresh: true }), /it is away/)
})
