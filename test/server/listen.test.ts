import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { UsageError } from '../../src/errors.ts'
import { formatListen, isLoopbackOnly, parseListen } from '../../src/server/listen.ts'

describe('an address to listen at', () => {
  const cases: [string, string, number, boolean][] = [
    ['127.0.0.1:25107', '127.0.0.1', 25_107, true],
    ['127.1.2.3:0', '127.1.2.3', 0, true],
    ['[::1]:80', '::1', 80, true],
    ['localhost:80', 'localhost', 80, true],
    ['0.0.0.0:80', '0.0.0.0', 80, false],
    [':80', '::', 80, false],
    ['[::]:80', '::', 80, false],
    ['10.0.0.5:80', '10.0.0.5', 80, false],
    ['keep.example.org:65535', 'keep.example.org', 65_535, false],
    ['127.0.0.1.example.org:80', '127.0.0.1.example.org', 80, false],
  ]
  for (const [text, host, port, local] of cases) {
    test(text, () => {
      assert.deepEqual(parseListen(text), { host, port })
      assert.equal(isLoopbackOnly({ host, port }), local)
      assert.deepEqual(parseListen(formatListen({ host, port })), { host, port })
    })
  }

  for (const bad of ['', '80', '127.0.0.1', 'host:', 'host:x', 'host:65536', '::1:80', 'a b:80']) {
    test(`"${bad}" is none`, () => {
      assert.throws(() => parseListen(bad), UsageError)
    })
  }
})
