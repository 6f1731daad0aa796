/** Opening small files, at once or by threads: either way must come to the same. */
import assert from 'node:assert/strict'
import { closeSync, readdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { QuickOpen } from '../../src/mapping/quick-open.ts'
import { makeTree } from './fixture.ts'

/** A directory that cannot be asked what it lies on counts as far away. */
const FAR = '/keepgw-test-no-such-directory'

for (const [how, isNear] of [
  ['at once', true],
  ['by threads', false],
] as const) {
  describe(`a file that is opened ${how}`, () => {
    it('comes with its beginning, or all of it', async () => {
      await using made = await makeTree()
      const file = join(made.dir, 'file')
      await writeFile(file, 'a few bytes')
      const files = new QuickOpen(isNear ? made.dir : FAR)
      for (const [length, expected] of [
        [5, 'a few'],
        [100, 'a few bytes'],
      ] as const) {
        const { fd, head } = await files.open(file, length)
        closeSync(fd)
        assert.equal(head.toString(), expected)
      }
    })

    it('is not left open where it cannot be read', async () => {
      await using made = await makeTree()
      await mkdir(join(made.dir, 'directory'))
      const files = new QuickOpen(isNear ? made.dir : FAR)
      const open = () => readdirSync('/proc/self/fd').length
      const before = open()
      for (let i = 0; i < 20; i++) {
        await assert.rejects(files.open(join(made.dir, 'directory'), 10), { code: 'EISDIR' })
        await assert.rejects(files.open(join(made.dir, 'missing'), 10), { code: 'ENOENT' })
      }
      assert.ok(open() < before + 20)
    })
  })
}
