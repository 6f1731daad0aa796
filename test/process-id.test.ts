import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isProvenAlive, isProvenDead, ownProcess, type ProcessId } from '../src/process-id.ts'

describe('a process is proven dead', () => {
  const changes: [string, boolean, Partial<ProcessId>][] = [
    ['is this very process', false, {}],
    ['had our number before us', true, { processStart: '1' }],
    ['has a number that nobody has', true, { pid: 2 ** 22 + 1 }],
    ['ran before this boot', true, { bootId: 'earlier', processStart: '1' }],
    ['is in another container', false, { pidNamespace: 'pid:[1]', pid: 2 ** 22 + 1 }],
    ['is on another machine', false, { machineId: 'other', pid: 2 ** 22 + 1 }],
    ['is on another machine, on another boot', false, { machineId: 'other', bootId: 'x' }],
    ['is on a machine unknown', false, { machineId: '', pid: 2 ** 22 + 1 }],
  ]
  for (const [what, dead, change] of changes) {
    it(`${dead ? 'where' : 'never where'} it ${what}`, () => {
      assert.equal(isProvenDead({ ...ownProcess(), ...change }), dead)
    })
  }
})

describe('a process is proven alive', () => {
  it('where it is seen to run, and nowhere else', () => {
    assert.equal(isProvenAlive(ownProcess()), true)
    assert.equal(isProvenAlive({ ...ownProcess(), processStart: '1' }), false)
    assert.equal(isProvenAlive({ ...ownProcess(), bootId: 'earlier' }), false)
  })
})
