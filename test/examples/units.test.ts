import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readCommands } from '../../man/commands.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const INSTALLED = '/usr/local/bin/keepgw'
const units = globSync('examples/*.{service,timer}', { cwd: ROOT }).map((file) => join(ROOT, file))

test('systemd finds nothing wrong with the units', async (t) => {
  assert.equal(units.length, 3)
  if (spawnSync('systemd-analyze', ['--version']).error) return t.skip('systemd is not installed')
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-units-'))
  t.after(() => rm(dir, { recursive: true }))
  const copies = units.map((unit) => join(dir, basename(unit)))
  for (const [at, unit] of units.entries()) {
    // systemd wants the program to be there.
    const text = readFileSync(unit, 'utf8').replaceAll(INSTALLED, process.execPath)
    await writeFile(copies[at]!, text)
  }
  const checked = spawnSync('systemd-analyze', ['verify', '--man=no', ...copies], {
    encoding: 'utf8',
  })
  const ours = checked.stderr.split('\n').filter((line) => line.includes('keepgw'))
  assert.deepEqual(ours, [])
})

test('examples and documents name only commands and flags that there are', async () => {
  const commands = await readCommands()
  const files = globSync(['examples/*', 'docs/{operations,architecture,attach}.md'], { cwd: ROOT })
  let seen = 0
  for (const file of files) {
    const lines = readFileSync(join(ROOT, file), 'utf8').split('\n')
    for (const line of lines.filter((line) => !line.startsWith('#'))) {
      const [, name, rest = ''] = /\bkeepgw (index|serve|verify|status)\b(.*)/.exec(line) ?? []
      if (name === undefined) continue
      const flags = commands.find((command) => command.name === name)!.flags
      for (const flag of rest.match(/(?<=^| |`)--[a-z][a-z-]+/g) ?? []) {
        assert.ok(
          flags.some((known) => `--${known.name}` === flag),
          `${file}: ${line}`,
        )
        seen += 1
      }
    }
  }
  assert.ok(seen > 3)
})
