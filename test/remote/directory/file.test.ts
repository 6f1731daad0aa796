import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { mkdir, mkdtemp, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it, test } from 'node:test'
import {
  examine,
  type File,
  isReached,
  openFile,
  writtenPartOf,
} from '../../../src/remote/directory/file.ts'

test('the part of an ETag that a write changes is size and mtime', () => {
  const parts = ['5-1a-ff-2', '5--1a-ff-2', '5-1a--ff-2', '0-0-0-0', 'other'].map(writtenPartOf)
  assert.deepEqual(parts, ['5-1a', '5--1a', '5-1a', '0-0', 'other'])
})

describe('opening a file that was looked at before', () => {
  let top: string
  let base: string
  let file: File

  before(async () => {
    top = await realpath(await mkdtemp(join(tmpdir(), 'keepgw-file-')))
  })
  after(() => rm(top, { recursive: true }))

  let count = 0
  beforeEach(async () => {
    base = `${top}/${count++}/`
    await mkdir(`${base}d`, { recursive: true })
    await writeFile(`${base}d/object`, 'inside')
    assert.ok(await isReached(base, 'd/object'))
    file = (await examine(base, 'd/object'))!
    await mkdir(`${top}/outside`, { recursive: true })
    await writeFile(`${top}/outside/object`, 'secret')
  })

  it('gives the file', async () => {
    const handle = await openFile(file)
    assert.equal(String(await handle?.readFile()), 'inside')
    await handle?.close()
  })

  it('is not led out by a link that took the place of its directory', async () => {
    const descriptors = () =>
      existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0
    await rename(`${base}d`, `${base}old`)
    await symlink(`${top}/outside`, `${base}d`)
    assert.equal(await isReached(base, 'd/object'), false)
    const before = descriptors()
    assert.equal(await openFile(file), undefined)
    assert.equal(descriptors(), before)
  })

  it('is not led out by a link that took the place of the file', async () => {
    await rm(`${base}d/object`)
    await symlink(`${top}/outside/object`, `${base}d/object`)
    assert.equal(await examine(base, 'd/object'), undefined)
    await assert.rejects(openFile(file), { code: 'ELOOP' })
  })
})
