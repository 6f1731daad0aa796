import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { requestToken, sameToken, tokenName, withoutToken } from '../../src/keep/token.ts'
import { runs } from '../fuzz.ts'

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`
const cookie = (token: string) =>
  `a=b; arvados_api_token=${Buffer.from(token).toString('base64url')}; c=d`

test('a token is taken from each of its places', () => {
  assert.equal(requestToken({ authorization: 'Bearer abc' }), 'abc')
  assert.equal(requestToken({ authorization: 'OAuth2 v2/x/y' }), 'v2/x/y')
  assert.equal(requestToken({ authorization: basic('user:pass:word') }), 'pass:word')
  assert.equal(requestToken({ query: 'x=1&api_token=a%2Fb' }), 'a/b')
  assert.equal(requestToken({ cookie: cookie('v2/x/y?>~') }), 'v2/x/y?>~')
})

test('a request without one has none', () => {
  for (const authorization of ['', 'Bearer', 'Bearer ', 'Digest abc', 'Basic', basic('user:')]) {
    assert.equal(requestToken({ authorization }), undefined, authorization)
  }
  assert.equal(requestToken({ cookie: 'arvados_api_token=' }), undefined)
  assert.equal(requestToken({ query: 'api_tokens=x', cookie: 'xarvados_api_token=eA' }), undefined)
})

test('what no header can hold is no token', () => {
  for (const token of ['\u20acx', 'a b', 'a\nb', '\x7f']) {
    assert.equal(requestToken({ query: `api_token=${encodeURIComponent(token)}` }), undefined)
    assert.equal(requestToken({ authorization: basic(`user:${token}`) }), undefined)
    assert.equal(requestToken({ cookie: cookie(token) }), undefined)
  }
})

test('the header comes before the query, and the query before the cookie', () => {
  const all = { authorization: 'Bearer h', query: 'api_token=q', cookie: cookie('c') }
  assert.equal(requestToken(all), 'h')
  assert.equal(requestToken({ ...all, authorization: basic('u:b') }), 'b')
  assert.equal(requestToken({ ...all, authorization: undefined }), 'q')
})

test('tokens are the same only if they are equal', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      assert.equal(sameToken(a, a), true)
      assert.equal(sameToken(a, b), a === b)
    }),
  )
})

test('a query is logged without its token', () => {
  assert.equal(withoutToken('prefix=ab&x'), 'prefix=ab&x')
  assert.equal(withoutToken('a=%20&api_token=secret&b=+'), 'a=%20&b=+')
  assert.equal(withoutToken('api%5Ftoken=secret'), '')
})

test('a token is logged by its UUID, or by its last characters', () => {
  assert.equal(tokenName('v2/zzzzz-gj3su-0123456789abcde/secret'), 'zzzzz-gj3su-0123456789abcde')
  const secret = 'hocfupkn2pjhrpgp2vxv8rsku7tvtx49arbc9s4bvu7p7wxqvk'
  assert.equal(tokenName(secret), 'v1 token ending in wxqvk')
  assert.equal(tokenName('v2/something/else-that-is-long'), 'v1 token ending in -long')
  assert.equal(tokenName('short'), 'v1 token')
})

test('whatever the headers and the query hold, there is a token or none', () => {
  const text = fc.option(
    fc.oneof(
      fc.string({ unit: 'binary-ascii' }),
      fc
        .tuple(
          fc.constantFrom('Bearer ', 'OAuth2  ', 'Basic ', 'arvados_api_token=', 'api_token='),
          fc.string({ unit: 'binary-ascii' }),
        )
        .map((parts) => parts.join('')),
    ),
    { nil: undefined },
  )
  fc.assert(
    fc.property(text, text, text, (authorization, cookie, query) => {
      const token = requestToken({ authorization, cookie, query })
      assert.ok(token === undefined || token.length > 0)
    }),
    runs(1000),
  )
})

test('no log shows a token, however its query was written', () => {
  const secret = fc.stringMatching(/^[a-z0-9]{20,40}$/)
  const pair = fc.constantFrom('prefix=ab', 'x', '=', '%', '%zz=1', 'api_tokens=no', '')
  const name = fc.constantFrom(
    'api_token',
    'API_Token',
    'api%5Ftoken',
    'api%5ftoken',
    '%61pi_token',
  )
  const queries = fc.tuple(fc.array(pair), name, fc.array(pair), fc.constantFrom('&', ';'))
  fc.assert(
    fc.property(queries, secret, ([before, name, after, separator], token) => {
      const query = [...before, `${name}=${token}`, ...after].join(separator)
      const logged = withoutToken(query)
      assert.ok(!logged.includes(token), logged)
      for (const each of before) assert.ok(logged.includes(each), `${each} in ${logged}`)
    }),
  )
})

test('the name of a token gives no more than its last characters away', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[b-uw-z0-9/-]{20,60}$/), (token) => {
      const name = tokenName(token)
      for (let at = 0; at + 6 <= token.length; at++) {
        assert.ok(!name.includes(token.slice(at, at + 6)), name)
      }
    }),
  )
})
