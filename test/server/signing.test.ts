import assert from 'node:assert/strict'
import { Socket } from 'node:net'
import { describe, test } from 'node:test'
import { type SigningKey, signLocator } from '../../src/keep/signature.ts'
import { makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(1000)
const signing: SigningKey = { key: 'the signing key', ttl: 1_209_600 }
const token = 'v2/zzzzz-gj3su-0123456789abcde/secret'
const volumes = [makeVolume({ blocks: { [hash]: [makeSource('a', data)] } })]
const bearer = { Authorization: `Bearer ${token}` }
const now = () => Math.floor(Date.now() / 1000)
const signed = (expiry: number, locator = `${hash}+1000`) =>
  `/${signLocator(locator, token, expiry, signing)}`

describe('with signatures', () => {
  const good = signed(now() + 3600)
  const other = { ...signing, key: 'another key' }
  const byOther = signLocator(`${hash}+1000`, token, now() + 3600, other)
  const cases: [string, string, Record<string, string>, number, string][] = [
    ['no token', good, {}, 401, 'no token provided in Authorization header'],
    ['expired', signed(now() - 10), bearer, 401, 'expired signature'],
    ['missing', `/${hash}+1000`, bearer, 400, 'invalid signature'],
    ['missing, no token', `/${hash}+1000`, {}, 401, 'no token provided in Authorization header'],
    ['malformed', `/${hash}+1000+Axyz`, bearer, 400, 'invalid signature'],
    ['of another key', `/${byOther}`, bearer, 400, 'invalid signature'],
    ['of another token', good, { Authorization: 'Bearer x' }, 400, 'invalid signature'],
    ['for an unknown block', signed(now() + 9, `${'0'.repeat(32)}+3`), bearer, 404, 'Not Found'],
    ['of a bad locator', `/${hash}+1000++Z`, {}, 400, 'bad locator: an empty hint'],
  ]
  for (const [name, path, headers, status, text] of cases) {
    test(`${name}: ${status}`, async (t) => {
      const h = await Harness.start(t, { volumes, signing })
      const answer = await h.get(path, headers)
      assert.deepEqual([answer.status, answer.body.toString()], [status, `${text}\n`])
      assert.equal((await h.send('HEAD', path, headers)).status, status)
    })
  }

  test('a signed locator gives the block, however the token is sent', async (t) => {
    const h = await Harness.start(t, { volumes, signing })
    const ways: [string, Record<string, string>][] = [
      ['', bearer],
      ['', { Authorization: `OAuth2 ${token}` }],
      ['', { Authorization: `Basic ${Buffer.from(`x:${token}`).toString('base64')}` }],
      [`?api_token=${encodeURIComponent(token)}`, {}],
      ['', { Cookie: `arvados_api_token=${Buffer.from(token).toString('base64url')}` }],
    ]
    for (const [query, headers] of ways) {
      const answer = await h.get(good + query, headers)
      assert.ok(answer.status === 200 && answer.body.equals(data), JSON.stringify(headers))
      assert.equal((await h.send('HEAD', good + query, headers)).status, 200)
    }
  })

  test('other hints may stand beside it, and the size may be left out', async (t) => {
    const h = await Harness.start(t, { volumes, signing })
    const hint = good.slice(good.indexOf('+A'))
    const gateway = '+K@zzzzz-bi6l4-0123456789abcde'
    for (const rest of [`+1000${gateway}${hint}`, `+1000${hint}${gateway}`, hint]) {
      assert.equal((await h.get(`/${hash}${rest}`, bearer)).status, 200, rest)
    }
  })

  test('what is cached by a browser depends on the signature asked for', async (t) => {
    const h = await Harness.start(t, { volumes, signing })
    for (const path of [good, `/${hash}`]) {
      assert.equal((await h.get(path, bearer)).headers.vary, 'X-Keep-Signature')
    }
  })

  test('index, mounts and what would write ask for none', async (t) => {
    const h = await Harness.start(t, { volumes, signing })
    assert.equal((await h.get('/index')).status, 200)
    assert.equal((await h.get('/mounts')).status, 200)
    assert.equal((await h.send('PUT', `/${hash}+1000`)).status, 405)
  })
})

test('without them, nothing is checked', async (t) => {
  const h = await Harness.start(t, { volumes })
  for (const path of [`/${hash}`, signed(1), `/${hash}+1000+Axyz`]) {
    assert.equal((await h.get(path)).status, 200, path)
  }
})

test('nobody is asked for a block but the volumes, whatever the request names', async (t) => {
  const h = await Harness.start(t, { volumes: [] })
  const connects = t.mock.method(Socket.prototype, 'connect').mock
  const own = connects.callCount()
  const block = `/${'0'.repeat(32)}+3`
  const gateway = 'zzzzz-bi6l4-0123456789abcde'
  const requests: [path: string, headers: Record<string, string>][] = [
    [`${block}+K@xyzzy`, {}],
    [`${block}+K@${gateway}`, { 'X-Keep-Signature': 'remote, xyzzy', Host: 'example.org' }],
    [`http://example.org:81${block}`, { 'X-Forwarded-Host': 'example.org' }],
  ]
  for (const [path, headers] of requests) assert.equal((await h.get(path, headers)).status, 404)
  assert.equal(connects.callCount() - own, requests.length, 'only this test has connected')
})
