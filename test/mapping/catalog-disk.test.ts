import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import { makeTree } from './fixture.ts'

describe('a catalog whose file is bad', () => {
  /** Returns the bytes of a catalog as it is made. */
  async function goodFile(): Promise<Buffer> {
    await using tree = await makeTree()
    await Catalog.make(tree.dir)
    return readFile(join(tree.dir, '.keepgw/catalog/data.mdb'))
  }

  const damages: [string, (good: Buffer) => Buffer][] = [
    ['cut within its head', (good) => good.subarray(0, 100)],
    ['cut by one byte', (good) => good.subarray(0, -1)],
    ['without its second page', (good) => good.subarray(0, 4096)],
    ['of random bytes', (good) => randomBytes(good.length)],
    ['of zeros', (good) => Buffer.alloc(good.length)],
  ]
  for (const [how, damage] of damages) {
    it(`${how}: is an error that says what to do, for readers and writers`, async () => {
      await using tree = await makeTree()
      const dir = join(tree.dir, '.keepgw/catalog')
      await mkdir(dir, { recursive: true })
      await writeFile(join(dir, 'data.mdb'), damage(await goodFile()))
      for (const readOnly of [true, false]) {
        const isTelling = (error: unknown): boolean =>
          error instanceof KeepgwError && /is damaged/.test(error.message) && !!error.hint
        assert.throws(() => Catalog.open(tree.dir, { readOnly }), isTelling)
      }
    })
  }

  it('that a killed run has not made, or left empty, is made by the next one, and no reader takes it for one', async () => {
    await using tree = await makeTree()
    const dir = join(tree.dir, '.keepgw/catalog')
    const isNone = /there is no catalog.*making it/
    for (const readOnly of [true, false]) {
      assert.throws(() => Catalog.open(tree.dir, { readOnly }), isNone)
    }
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, 'data.mdb'), '')
    assert.throws(() => Catalog.open(tree.dir, { readOnly: true }), isNone)
    const catalog = Catalog.open(tree.dir)
    assert.equal(catalog.stats().objects, 0)
    await catalog.close()
  })
})
