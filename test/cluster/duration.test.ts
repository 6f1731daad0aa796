import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseDuration } from '../../src/cluster/duration.ts'

test('durations are written as Go has it', () => {
  const texts: [string, number][] = [
    ['336h', 1_209_600],
    ['1h30m', 5400],
    ['336h0m0s', 1_209_600],
    ['1.5h', 5400],
    ['500ms', 0.5],
    ['.5s', 0.5],
    ['2.s', 2],
    ['1.5ns', 1e-9],
    ['0', 0],
  ]
  for (const [text, seconds] of texts) assert.equal(parseDuration(text), seconds, text)
  for (const bad of ['', '336', 'h', '2 h', '14d', '-1h', '1h-', '1hh']) {
    assert.equal(parseDuration(bad), undefined, bad)
  }
})

test('whole seconds are whole, however they are written', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 100_000 }),
      fc.integer({ min: 0, max: 99 }),
      (h, part) => {
        const tenths = `${Math.floor(h / 10)}.${h % 10}h`
        assert.equal(parseDuration(tenths), h * 360, tenths)
        const sum = `${h}h${part}m0.${String(part).padStart(2, '0')}0s`
        assert.equal(Math.floor(parseDuration(sum)!), h * 3600 + part * 60, sum)
      },
    ),
    // Which floating point makes a little less of.
    {
      examples: [
        [41, 0],
        [82, 1],
        [333, 59],
      ],
    },
  )
})

test('any text is a duration that Go can hold, or none', () => {
  const part = fc.tuple(
    fc.stringMatching(/^[0-9]{0,30}\.?[0-9]{0,30}$/),
    fc.constantFrom('ns', 'us', 'µs', 'ms', 's', 'm', 'h', '', '-', ' '),
  )
  const texts = fc.oneof(
    fc.string(),
    fc.array(part).map((parts) => parts.flat().join('')),
  )
  fc.assert(
    fc.property(texts, (text) => {
      const seconds = parseDuration(text)
      if (seconds !== undefined) assert.ok(seconds >= 0 && seconds < 2 ** 63 / 1e9, text)
    }),
  )
  // 2^63 - 1 ns; Go refuses one nanosecond more.
  assert.ok(parseDuration('9223372036854775807ns'))
  for (const text of ['9223372036854775808ns', '2562048h', '9'.repeat(1000).concat('h')]) {
    assert.equal(parseDuration(text), undefined, text)
  }
})
