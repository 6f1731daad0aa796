import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { inTurns } from '../../src/server/request-log.ts'

const MODULE = new URL('../../src/server/request-log.ts', import.meta.url).href

test('lines of one turn of the event loop are written at once, and in their order', async () => {
  const written: string[] = []
  const stream = inTurns({ write: (text: string) => void written.push(text) })
  stream.write('a\n')
  stream.write('b\n')
  assert.deepEqual(written, [])
  await setImmediate()
  stream.write('c\n')
  await setImmediate()
  assert.deepEqual(written, ['a\nb\n', 'c\n'])
})

test('what is left when the process ends is written', () => {
  const script = `const { inTurns } = await import(${JSON.stringify(MODULE)})
inTurns(process.stdout).write('the last words')
process.exit()`
  const args = ['--input-type=module', '-e', script]
  assert.equal(execFileSync(process.execPath, args, { encoding: 'utf8' }), 'the last words')
})
