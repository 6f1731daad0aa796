import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { KeepgwError, printable } from '../src/errors.ts'
import { showKey } from '../src/remote/key.ts'

const texts = fc.string({ unit: 'binary' })

it('an error is one line without control characters, whatever it is about', () => {
  fc.assert(
    fc.property(texts, texts, (message, hint) => {
      const error = new KeepgwError(message, { hint })
      for (const text of [error.message, error.hint!]) assert.doesNotMatch(text, /\p{Cc}/u)
    }),
  )
})

it('a control character is shown as in a key', () => {
  assert.equal(printable('a\x1b[2J\nb\x9b\x7f é'), 'a%1B[2J%0Ab%C2%9B%7F é')
  fc.assert(
    fc.property(texts, (text) => {
      const plain = text.replace(/[\p{Zl}\p{Zp}]/gu, '')
      assert.equal(printable(plain), showKey(plain))
    }),
  )
})
