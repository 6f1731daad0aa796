import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { UsageError } from '../src/errors.ts'
import { parseBytes, parseSeconds } from '../src/units.ts'

it('bytes are written as the GNU tools have it', () => {
  const texts: [string, number][] = [
    ['0', 0],
    ['1048576', 1_048_576],
    ['7B', 7],
    ['500K', 512_000],
    ['50M', 52_428_800],
    ['50m', 52_428_800],
    ['50MB', 50_000_000],
    ['50MiB', 52_428_800],
    ['1.5G', 1_610_612_736],
    ['2T', 2_199_023_255_552],
  ]
  for (const [text, bytes] of texts) assert.equal(parseBytes(text), bytes, text)
})

it('spans of time have a unit', () => {
  const texts: [string, number][] = [
    ['3600s', 3600],
    ['90m', 5400],
    ['2h', 7200],
    ['1.5H', 5400],
    ['1d', 86_400],
  ]
  for (const [text, seconds] of texts) assert.equal(parseSeconds(text), seconds, text)
})

it('nothing else is taken for an amount', () => {
  for (const text of ['', 'M', '-1M', '1e3', '50X', '5iB', '5i', '1 M', '.5M', '1.M', '50M/s']) {
    assert.throws(() => parseBytes(text), UsageError, text)
  }
  for (const text of ['', '90', 'h', '-1h', '1h30m', '1 h', '2w']) {
    assert.throws(() => parseSeconds(text), UsageError, text)
  }
})

it('an amount is a number that computers can count to, or a mistake of the user', () => {
  const digits = fc.stringMatching(/^[0-9]{1,400}(\.[0-9]{1,20})?$/)
  const units = fc.constantFrom('', 'B', 'K', 'MB', 'GiB', 'P', 's', 'm', 'h', 'd', 'D')
  const texts = fc.oneof(
    fc.string(),
    fc.tuple(digits, units).map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(texts, (text) => {
      for (const parse of [parseBytes, parseSeconds]) {
        try {
          const amount = parse(text)
          assert.ok(amount >= 0 && amount <= Number.MAX_SAFE_INTEGER, `${text}: ${amount}`)
          if (parse === parseBytes) assert.ok(Number.isInteger(amount), text)
        } catch (error) {
          assert.ok(error instanceof UsageError, String(error))
        }
      }
    }),
  )
  for (const text of ['99999999P', '9'.repeat(400)])
    assert.throws(() => parseBytes(text), UsageError)
  for (const text of ['99999999999999999999d', `${'9'.repeat(400)}s`]) {
    assert.throws(() => parseSeconds(text), UsageError)
  }
})
