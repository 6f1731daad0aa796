import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseDuration } from '../../src/cluster/duration.ts'

test('durations are written as Go has it', () => {
  const texts: [string, number][] = [
    ['336h', 1_209_600],
    ['1h30m', 5400],
    ['336h0m0s', 1_209_600],
    ['1.5h', 5400],
    ['500ms', 0.5],
    ['0', 0],
  ]
  for (const [text, seconds] of texts) assert.equal(parseDuration(text), seconds, text)
  for (const bad of ['', '336', 'h', '2 h', '14d', '-1h', '1h-', '1hh']) {
    assert.equal(parseDuration(bad), undefined, bad)
  }
})
