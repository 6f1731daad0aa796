import assert from 'node:assert/strict'
import { chmod, chown, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, it } from 'node:test'
import { compileCacheDir } from '../src/compile-cache.ts'

const { XDG_CACHE_HOME, NODE_COMPILE_CACHE } = process.env
let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'keepgw-home-'))
  process.env.XDG_CACHE_HOME = home
  delete process.env.NODE_COMPILE_CACHE
})
afterEach(async () => {
  for (const [name, value] of Object.entries({ XDG_CACHE_HOME, NODE_COMPILE_CACHE })) {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  await rm(home, { recursive: true })
})

it('compiled code is kept in a directory for its owner alone', async () => {
  const dir = join(home, 'keepgw')
  assert.equal(compileCacheDir(), dir)
  assert.equal((await stat(dir)).mode & 0o777, 0o700)
  assert.equal(compileCacheDir(), dir)
})

it('no code is taken from where another user could have put it', async (t) => {
  const dir = join(home, 'keepgw')
  await mkdir(dir)
  await chmod(dir, 0o777)
  assert.equal(compileCacheDir(), undefined)
  await chmod(dir, 0o755)
  assert.equal(compileCacheDir(), dir)
  if (process.geteuid?.() !== 0) return t.diagnostic('only root can give a directory away')
  await chown(dir, 65_534, 65_534)
  assert.equal(compileCacheDir(), undefined)
})
