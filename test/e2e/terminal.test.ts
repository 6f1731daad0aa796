/** Names that would move a terminal's cursor, in all that keepgw prints about them. */
import assert from 'node:assert/strict'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, it } from 'node:test'
import { keepgw, keepgwOk, type Outcome, temporary } from './keepgw.ts'

const NAMES = ['a\x1b[2J', 'b\u009b31mred', 'c\x07\x08\r', 'd\x7f', 'e\nkeepgw: all is well']

let scratch: Awaited<ReturnType<typeof temporary>>
before(async () => {
  scratch = await temporary()
})
after(() => scratch?.remove())

it('keys are printed without control bytes, by every command, to a terminal and to cron', async () => {
  const [root, mapping] = [join(scratch.dir, 'data'), join(scratch.dir, 'mapping')]
  const env = { PATH: process.env.PATH, HOME: scratch.dir, KEEPGW_MAPPINGS: scratch.dir }
  await mkdir(root)
  for (const name of NAMES) await writeFile(join(root, name), `data of ${name}`)
  await writeFile(join(root, 'stays'), 'data')
  const assertPlain = ({ stdout, stderr }: Outcome, named: RegExp): void => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    assert.doesNotMatch(stdout + stderr, /[\0-\x08\x0b-\x1f\x7f-\x9f]/)
    assert.match(stdout + stderr, named)
    assert.doesNotMatch(stdout + stderr, /^keepgw: all is well/m)
  }
  await keepgwOk(['index', root, '--mappings', mapping], env)
  assertPlain(await keepgwOk(['verify', '--mappings', mapping, '--all'], env), /b%C2%9B31mred/)
  for (const name of NAMES) await rm(join(root, name))
  const args = ['--mappings', mapping, '--all', '--repair', '--allow-drop', '100']
  assertPlain(await keepgw(['verify', ...args], env), /gone .*a%1B\[2J.*# No file/)
  assertPlain(await keepgwOk(['status', '--mappings', mapping, '--lost'], env), /%C2%9B31mred/)
  assertPlain(await keepgw(['manifest', root, '--mappings', mapping], env), /left out: .*%0A/)
  assertPlain(await keepgw(['index', 'no\x1bbucket'], env), /no%1Bbucket/)
})
