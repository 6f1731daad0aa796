import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type LimitReached, RunBudget } from '../../src/indexer/budget.ts'

function countObjects(budget: RunBudget): number {
  let count = 0
  while (count < 1000 && budget.takeObject()) count += 1
  return count
}

describe('a run’s budget', () => {
  it('has so many objects, and those that could not be read once more', () => {
    const budget = new RunBudget({ maxObjects: 3 })
    assert.equal(countObjects(budget), 3)
    budget.returnObject()
    assert.equal(countObjects(budget), 1)
    assert.equal(countObjects(new RunBudget({})), 1000)
  })

  it('calls once the time is up', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const reached: LimitReached[] = []
    const budget = new RunBudget({ maxSeconds: 90 })
    t.mock.timers.tick(1_000_000)
    budget.start((limit) => reached.push(limit))
    t.mock.timers.tick(89_999)
    assert.deepEqual(reached, [])
    t.mock.timers.tick(1)
    assert.deepEqual(
      reached.map(({ limit }) => limit),
      ['max-duration'],
    )
  })

  it('does not call after the run', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const budget = new RunBudget({ maxSeconds: 90 })
    budget.start(() => assert.fail('called'))
    budget.stop()
    t.mock.timers.tick(100_000)
  })
})
