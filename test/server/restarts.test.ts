import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Restarts } from '../../src/server/restarts.ts'

const LONG = 3_600_000

describe('a process that has ended is followed by another one', () => {
  test('soon, and later each time that it ends at once', () => {
    const restarts = new Restarts(1)
    const pauses = [restarts.next(5), restarts.next(5), restarts.next(5), restarts.next(5)]
    assert.deepEqual(pauses, [100, 200, 400, 800])
    assert.equal(restarts.next(5), undefined)
  })

  test('always, where it has lived a while', () => {
    const restarts = new Restarts(1)
    for (let i = 0; i < 100; i++) assert.equal(restarts.next(LONG), 100)
    for (let i = 0; i < 3; i++) restarts.next(5)
    assert.equal(restarts.next(LONG), 100)
    assert.equal(restarts.next(5), 200)
  })

  test('and all of several may end together', () => {
    const restarts = new Restarts(8)
    for (let i = 0; i < 8; i++) assert.equal(restarts.next(5), 100)
    assert.equal(restarts.next(5), 200)
  })
})
