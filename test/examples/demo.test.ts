import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const DEMO = fileURLToPath(new URL('../../examples/demo.ts', import.meta.url))

test('the demo shows what it says, ends with 0, and takes its mapping away again', () => {
  const env = { ...process.env, AWS_PROFILE: 'none', AWS_ENDPOINT_URL: 'http://127.0.0.1:1' }
  const options = { encoding: 'utf8', env, timeout: 120_000 } as const
  const { status, stdout, stderr } = spawnSync(process.execPath, [DEMO], options)
  assert.equal(status, 0, stderr)
  assert.match(stdout, /All was as it should be\.\n$/)
  const mappings = /export KEEPGW_MAPPINGS=(\S+)/.exec(stdout)?.[1]
  assert.ok(mappings !== undefined && !existsSync(mappings))
})
