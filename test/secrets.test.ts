/** The watch over secrets must be able to see one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { it } from 'node:test'
import fc from 'fast-check'
import { assertKeepsSecrets, secretsOf, watch } from './secrets.ts'

it('a secret is seen in every form, behind and before anything', () => {
  const secrets = fc.stringMatching(/^[a-zA-Z0-9+/=%& ]{12,40}$/)
  const around = fc.string({ unit: 'binary-ascii', maxLength: 5 })
  fc.assert(
    fc.property(secrets, around, around, (text, before, after) => {
      const whole = `${before}${text}${after}`
      const forms = [
        whole,
        encodeURIComponent(text),
        Buffer.from(whole).toString('base64'),
        Buffer.from(whole).toString('base64url'),
        Buffer.from(text).toString('hex'),
      ]
      for (const form of forms) {
        assert.throws(() => assertKeepsSecrets(`log: ${form} end`, [text], 'it'), /shows a secret/)
      }
      assertKeepsSecrets('log: nothing of that kind', [text], 'it')
    }),
  )
})

it('of a v2 token, the UUID is no secret', () => {
  const env = { ARVADOS_API_TOKEN: 'v2/zzzzz-gj3su-0123456789abcde/thesecretpart' }
  assertKeepsSecrets('zzzzz-gj3su-0123456789abcde', secretsOf(env), 'it')
  assert.throws(() => assertKeepsSecrets('thesecretpart', secretsOf(env), 'it'))
})

for (const [what, printed] of [
  ['a secret', 'console.log("the-signing-key")'],
  ['a raw byte', 'console.error("\\x1b[2J")'],
]) {
  it(`a process that prints ${what} is told on`, async () => {
    const env = { KEEPGW_BLOB_SIGNING_KEY: 'the-signing-key' }
    const child = spawn(process.execPath, ['-e', printed!], { stdio: ['ignore', 'pipe', 'pipe'] })
    const told = new Promise<unknown>((resolve) => void watch(child, env, resolve))
    assert.ok((await told) instanceof assert.AssertionError)
  })
}
