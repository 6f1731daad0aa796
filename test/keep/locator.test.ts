import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { BadLocator, isLocatorLike, parseLocator } from '../../src/keep/locator.ts'

const HASH = 'acbd18db4cc2f85cedef654fccc4a4d8'
const SIGNATURE = 'A89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff'

describe('a good locator', () => {
  const cases: [string, number | undefined, string[]][] = [
    ['', undefined, []],
    ['+3', 3, []],
    ['+0', 0, []],
    ['+67108864', 67_108_864, []],
    ['+3+Z+K@xyzzy', 3, ['Z', 'K@xyzzy']],
    [`+3+${SIGNATURE}`, 3, [SIGNATURE]],
    [`+3+${SIGNATURE}+K@xyzzy`, 3, [SIGNATURE, 'K@xyzzy']],
    ['+3+K@zzzzz-bi6l4-0123456789abcde', 3, ['K@zzzzz-bi6l4-0123456789abcde']],
    ['+K@xyzzy', undefined, ['K@xyzzy']],
  ]
  for (const [rest, size, hints] of cases) {
    test(HASH + rest, () => {
      const expected = size === undefined ? { hash: HASH, hints } : { hash: HASH, size, hints }
      assert.deepEqual(parseLocator(HASH + rest), expected)
    })
  }
})

describe('a bad locator', () => {
  const cases = {
    empty: '',
    'no hash': '+3',
    'short hash': `${HASH.slice(1)}+3`,
    'long hash': `${HASH}0+3`,
    'capital hash': `${HASH.toUpperCase()}+3`,
    'no hex': `g${HASH.slice(1)}+3`,
    'trailing plus': `${HASH}+3+`,
    'plus alone': `${HASH}+`,
    'empty part': `${HASH}+3++Z`,
    'two sizes': `${HASH}+3+3`,
    'size after a hint': `${HASH}+Z+3`,
    'small letter': `${HASH}+3+k@xyzzy`,
    'odd character': `${HASH}+3+K=x`,
    'negative size': `${HASH}+-3`,
    'line feed': `${HASH}+3\n`,
    'line feed after a hint': `${HASH}+3+Z\n`,
    'remote signature': `${HASH}+3+Rzzzzz-89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff`,
  }
  for (const [name, text] of Object.entries(cases)) {
    test(name, () => {
      assert.throws(() => parseLocator(text), BadLocator)
    })
  }
})

test('what is put together is taken apart again', () => {
  const hex = fc.stringMatching(/^[0-9a-f]{32}$/)
  const hint = fc.stringMatching(/^[A-QS-Z][A-Za-z0-9@_-]{0,40}$/)
  fc.assert(
    fc.property(hex, fc.nat(), fc.array(hint), (hash, size, hints) => {
      const text = [hash, size, ...hints].join('+')
      assert.deepEqual(parseLocator(text), { hash, size, hints })
      assert.equal(isLocatorLike(text), true)
    }),
  )
})

test('any text is a locator or BadLocator, and the message is one line', () => {
  const part = fc.oneof(fc.constantFrom(HASH, '', '3', 'Z', 'K@xyzzy', '\n'), fc.string())
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      try {
        const { hash } = parseLocator(parts.join('+'))
        assert.match(hash, /^[0-9a-f]{32}$/)
      } catch (error) {
        assert.ok(error instanceof BadLocator)
        assert.ok(!error.message.includes('\n'))
      }
    }),
  )
})
