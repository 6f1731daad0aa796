import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { pump } from '../../../src/remote/s3/body.ts'
import { failsWith } from '../../suites/remote.ts'

const options = { length: 6, what: 'the object' }
const PATIENCE = { timeout: 30_000 }

/** A body that is fed by hand. */
function openBody(): Readable {
  return new Readable({ read() {} })
}

test('a sink that is busy with the last chunk holds back the end', PATIENCE, async () => {
  const body = openBody()
  const { promise, resolve } = Promise.withResolvers<void>()
  let isOver = false
  const pumped = pump(body, options, () => promise).then(() => {
    isOver = true
  })
  body.push('abcdef')
  body.push(null)
  for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(isOver, false)
  resolve()
  await pumped
})

test('a body that breaks waits for a busy sink, and for its error', PATIENCE, async () => {
  const reasons = [new Error('the sink is full'), undefined]
  for (const reason of reasons) {
    const body = openBody()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let isOver = false
    const pumped = pump(body, options, () => promise)
    pumped.catch(() => {
      isOver = true
    })
    body.push('abc')
    while (!body.isPaused()) await new Promise((resolve) => setImmediate(resolve))
    body.destroy(new Error('reset'))
    for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve))
    assert.equal(isOver, false)
    if (reason === undefined) {
      resolve()
      assert.equal((await failsWith(pumped, 'unreachable')).delivered, 3)
    } else {
      reject(reason)
      await assert.rejects(pumped, (thrown) => thrown === reason)
    }
  }
})

test('a body that was destroyed before it was looked at is lost', PATIENCE, async () => {
  for (const error of [new Error('socket hang up'), undefined]) {
    const body = openBody().on('error', () => {})
    body.destroy(error)
    await new Promise((resolve) => body.once('close', resolve))
    const pumped = pump(body, options, () => assert.fail('nothing came'))
    const { delivered, message } = await failsWith(pumped, 'unreachable')
    assert.equal(delivered, 0)
    assert.match(message, /^the object: the answer broke off after 0 of 6 bytes/)
  }
})

test('a break behind the last byte does no harm', PATIENCE, async () => {
  const body = openBody()
  const pumped = pump(body, options, () => {
    setImmediate(() => body.destroy(new Error('reset')))
  })
  body.push('abcdef')
  await pumped
})

test('a body of another length is lost', PATIENCE, async () => {
  for (const [chunks, delivered] of [
    [['abc'], 3],
    [[], 0],
    [['abc', 'defg'], 3],
    [['abcdef', 'g'], 6],
  ] as const) {
    const pumped = pump(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), options, () => {})
    assert.equal((await failsWith(pumped, 'unreachable')).delivered, delivered)
  }
})
