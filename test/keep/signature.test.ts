import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { parseLocator } from '../../src/keep/locator.ts'
import { checkSignature, type SigningKey, signLocator } from '../../src/keep/signature.ts'

/** The test vector of the Keep protocol. */
const LOCATOR = 'acbd18db4cc2f85cedef654fccc4a4d8+3'
const TOKEN = 'hocfupkn2pjhrpgp2vxv8rsku7tvtx49arbc9s4bvu7p7wxqvk'
const EXPIRY = 0x7fffffff
const HINT = '+A89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff'
const signing: SigningKey = {
  key: '13u9fkuccnboeewr0ne3mvapk28epf68a3bhj9q8sb4l6e4e5mkkp6nhj2mmpscgu1zze5h5enydxfe3j215024u16ij4hjaiqs5u4pzsl3nczmaoxncljkm4875xqn4xv058koz3vkptmzhyheiy6wzevzjmdvxhvcqsvr5abhl15c2d4o4jhl0s91lojy1mtrzqqvprqcverls0xvy9vai9t1l1lvvazpuadafm71jl4mrwq2ygokee3eamvjy8qq1fvy238838enjmy5wzy2md7yvsitp5vztft6j4q866efym7e6vu5wm9fpnwjyxfldw3vbo01mgjs75rgo7qioh8z8ij7jpyp8508okhgbbex3ceei786u5rw2a9gx743dj3fgq2irk',
  ttl: 1_209_600,
}

const check = (locator: string, token = TOKEN, now = 0, key = signing) =>
  checkSignature(parseLocator(locator), token, now, key)

describe('the protocol’s test vector', () => {
  test('is what is signed', () => {
    assert.equal(signLocator(LOCATOR, TOKEN, EXPIRY, signing), LOCATOR + HINT)
  })

  test('verifies, also with other hints before and after it', () => {
    for (const rest of [HINT, `+K@xyzzy${HINT}`, `${HINT}+K@xyzzy`, `+Z${HINT}+K@xyzzy`]) {
      assert.equal(check(LOCATOR + rest), 'valid', rest)
    }
    assert.equal(check(LOCATOR.slice(0, 32) + HINT), 'valid', 'without a size')
  })

  test('does not verify with another token, key, TTL or block', () => {
    assert.equal(check(LOCATOR + HINT, `${TOKEN}x`), 'invalid')
    assert.equal(check(LOCATOR + HINT, TOKEN, 0, { ...signing, key: 'another' }), 'invalid')
    assert.equal(check(LOCATOR + HINT, TOKEN, 0, { ...signing, ttl: 1 }), 'invalid')
    assert.equal(check(`37b51d194a7513e45b56f6524f2d51f2+3${HINT}`), 'invalid')
  })
})

describe('a signature', () => {
  test('is good up to its expiry, and then expired, whatever it was', () => {
    assert.equal(check(LOCATOR + HINT, TOKEN, EXPIRY), 'valid')
    assert.equal(check(LOCATOR + HINT, TOKEN, EXPIRY + 0.5), 'expired')
    assert.equal(check(`${LOCATOR}+A${'0'.repeat(40)}@00000001`, TOKEN, 2), 'expired')
  })

  test('that is missing or malformed is invalid', () => {
    const digest = HINT.slice(2, 42)
    for (const hint of ['', '+A', `+A${digest}`, `+A${digest}@`, `+A${digest.slice(1)}@7fffffff`]) {
      assert.equal(check(LOCATOR + hint), 'invalid', hint)
    }
    for (const hint of [
      `+A${digest}0@7fffffff`,
      `+A${digest}@07fffffff`,
      `+A${digest.toUpperCase()}@7fffffff`,
      `+A${digest}@7FFFFFFF`,
    ]) {
      assert.equal(check(LOCATOR + hint), 'invalid', hint)
    }
  })

  test('of which there are two is invalid, as keepstore has it, even if one is right', () => {
    const wrong = `+A${'0'.repeat(40)}@7fffffff`
    for (const hints of [wrong + HINT, HINT + wrong, HINT + HINT, `${HINT}+Z+Ax`]) {
      assert.equal(check(LOCATOR + hints), 'invalid', hints)
    }
  })
})

const tokens = fc.string({ minLength: 1, maxLength: 80 })
const keys = fc.record({ key: fc.string({ minLength: 1 }), ttl: fc.nat() })
const hashes = fc.stringMatching(/^[0-9a-f]{32}$/)
const times = fc.integer({ min: 1, max: 0xffffffff })

test('what is signed verifies with its token and key, until its time', () => {
  fc.assert(
    fc.property(hashes, tokens, times, keys, (hash, token, expiry, key) => {
      const signed = signLocator(`${hash}+5`, token, expiry, key)
      assert.equal(check(signed, token, expiry - 1, key), 'valid')
      assert.equal(check(signed, token, expiry + 1, key), 'expired')
      assert.equal(check(signed, `${token}.`, expiry - 1, key), 'invalid')
    }),
  )
})

test('no other digit of a signature verifies', () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 39 }),
      fc.constantFrom(...'0123456789abcdef'),
      fc.boolean(),
      (at, digit, inExpiry) => {
        const place = inExpiry ? HINT.length - 1 - (at % 8) : 2 + at
        const forged = HINT.slice(0, place) + digit + HINT.slice(place + 1)
        if (forged !== HINT) assert.equal(check(LOCATOR + forged), 'invalid')
      },
    ),
  )
})

test('Python’s hmac module makes the same signatures', (t) => {
  const script = `
import hashlib, hmac, json, sys
for line in sys.stdin:
    key, token, hash, expiry, ttl = json.loads(line)
    message = "@".join([hash, token, "%08x" % expiry, "%x" % ttl])
    print(hmac.new(key.encode(), message.encode(), hashlib.sha1).hexdigest())
`
  const cases = fc.sample(
    fc.tuple(fc.stringMatching(/^[!-~é]{1,90}$/), tokens, hashes, times, fc.nat()),
    50,
  )
  const input = cases.map((each) => JSON.stringify(each)).join('\n')
  const { stdout, error } = spawnSync('python3', ['-c', script], { input, encoding: 'utf8' })
  if (error !== undefined) return t.skip('python3 is not installed')
  const digests = stdout.trim().split('\n')
  assert.equal(digests.length, cases.length)
  for (const [at, [key, token, hash, expiry, ttl]] of cases.entries()) {
    const signed = signLocator(`${hash}+1`, token, expiry, { key, ttl })
    assert.equal(signed.split('+A')[1]?.split('@')[0], digests[at])
  }
})

test('any hint is a verdict, and none that was not made with the key is valid', () => {
  const hints = fc.array(
    fc.oneof(
      fc.stringMatching(/^A[0-9a-f]{40}@[0-9a-f]{8}$/),
      fc.stringMatching(/^A[A-Za-z0-9@_-]{0,60}$/),
      fc.constantFrom('K@xyzzy', 'Z'),
    ),
  )
  fc.assert(
    fc.property(hashes, hints, fc.string({ unit: 'binary' }), (hash, hints, token) => {
      const verdict = checkSignature({ hash, hints }, token, 1, signing)
      assert.match(verdict, /^(expired|invalid)$/)
    }),
  )
})
