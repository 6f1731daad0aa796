import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FailureMemory } from '../../src/volume/failure-memory.ts'

test('failures are forgotten after their time', () => {
  let now = 0
  const memory = new FailureMemory({ expiry: 100, now: () => now })
  memory.add('a')
  now = 99
  assert.equal(memory.has('a'), true)
  memory.add('b')
  now = 100
  assert.deepEqual([memory.has('a'), memory.has('b')], [false, true])
  memory.add('c')
  assert.equal(memory.size, 2, 'what is over takes no room')
})

test('a new failure counts from its own time, and success ends it', () => {
  let now = 0
  const memory = new FailureMemory({ expiry: 100, now: () => now })
  memory.add('a')
  now = 60
  memory.add('a')
  now = 120
  assert.equal(memory.has('a'), true)
  memory.delete('a')
  assert.equal(memory.has('a'), false)
})

test('it never holds more than its capacity, and drops the oldest', () => {
  const memory = new FailureMemory({ capacity: 3 })
  for (const name of ['a', 'b', 'c', 'a', 'd']) memory.add(name)
  assert.equal(memory.size, 3)
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((name) => memory.has(name)),
    [true, false, true, true],
  )
})
