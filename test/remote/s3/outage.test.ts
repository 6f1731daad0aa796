import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Outage, type OutageLimits } from '../../../src/remote/s3/outage.ts'

/** Returns one, and who lets time pass for it. */
function outageOf(limits: OutageLimits) {
  let now = 1000
  const pass = (milliseconds: number): void => {
    now += milliseconds
  }
  return { outage: new Outage(limits, () => now), pass }
}

test('a store that answers nobody is away, but not for ever', () => {
  const { outage, pass } = outageOf({ outage: 60_000 })
  outage.answered()
  const { answers } = outage
  pass(3_600_000)
  assert.equal(outage.failed(answers), true)
  pass(59_999)
  assert.equal(outage.failed(answers), true)
  pass(1)
  assert.equal(outage.failed(answers), false)
  outage.answered()
  assert.equal(outage.failed(outage.answers), true)
})

test('a store that answers others is not away', () => {
  const { outage } = outageOf({ outage: 60_000 })
  outage.answered()
  const { answers } = outage
  outage.answered()
  assert.equal(outage.failed(answers), false)
  assert.equal(outage.failed(outage.answers), true)
})

test('a store that has never answered is not away, unless it has answered others', () => {
  assert.equal(outageOf({ outage: 60_000 }).outage.failed(0), false)
  const { outage } = outageOf({ outage: 60_000, hasAnswered: true })
  assert.equal(outage.failed(outage.answers), true)
})

test('nobody waits for a store unless told', () => {
  const { outage } = outageOf({ hasAnswered: true })
  assert.equal(outage.failed(outage.answers), false)
})
