import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { open } from 'lmdb'
import { KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import { META } from '../../src/mapping/catalog-disk.ts'
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
    const isNone = { name: 'CatalogMissing', message: /there is no catalog.*making it/ }
    for (const readOnly of [true, false]) {
      assert.throws(() => Catalog.open(tree.dir, { readOnly }), isNone)
    }
    await mkdir(dir, { recursive: true })
    await writeFile(join(dir, 'data.mdb'), '')
    assert.throws(() => Catalog.open(tree.dir, { readOnly: true }), isNone)
    // A run that was killed before it had made the tables.
    await open({ path: dir }).close()
    assert.throws(() => Catalog.open(tree.dir, { readOnly: true }), isNone)
    const catalog = Catalog.open(tree.dir)
    assert.equal(catalog.stats().objects, 0)
    await catalog.close()
  })

  it('and is a directory, is damaged as any other', async () => {
    await using tree = await makeTree()
    await mkdir(join(tree.dir, '.keepgw/catalog/data.mdb'), { recursive: true })
    for (const readOnly of [true, false]) {
      const isDamaged = { name: 'CatalogDamaged', message: /data\.mdb is no file/ }
      assert.throws(() => Catalog.open(tree.dir, { readOnly }), isDamaged)
    }
  })

  it('is not one that ends before pages that lmdb took, and gave up again unwritten', async () => {
    await using tree = await makeTree()
    await mkdir(join(tree.dir, '.keepgw'), { recursive: true })
    await Catalog.make(tree.dir)
    const catalog = Catalog.open(tree.dir)
    const keys = Array.from({ length: 500 }, (_, i) => `${i}`.padEnd(200, 'x'))
    const count = () => [...catalog.unseen.keys()].length
    for (const key of keys) await catalog.unseen.add(key)
    assert.equal(count(), 500)
    // A listing that is out of order shows them after all.
    for (const key of keys) await catalog.unseen.delete(key)
    assert.equal(count(), 0)
    const file = join(tree.dir, '.keepgw/catalog/data.mdb')
    const { pages, size } = pagesOf(await readFile(file))
    assert.ok(size < pages, `${size} of ${pages} pages`)
    for (const options of [{ readOnly: true }, { readOnly: true, allPages: false }]) {
      await Catalog.open(tree.dir, options).close()
    }
    await catalog.unseen.add('one')
    assert.equal(count(), 1)
    await catalog.close()
    await truncate(file, (await stat(file)).size / 2)
    for (const allPages of [true, false]) {
      const isDamaged = { name: 'CatalogDamaged' }
      assert.throws(() => Catalog.open(tree.dir, { readOnly: true, allPages }), isDamaged)
    }
  })
})

/** Returns the pages that the newer head counts, and those that are in the file. */
function pagesOf(file: Buffer): { pages: number; size: number } {
  const pageSize = file.readUInt32LE(META.pageSize)
  const heads = [0, pageSize].map((at) => file.subarray(at))
  const [first, second] = heads.map((head) => ({
    transaction: head.readBigUInt64LE(META.transaction),
    pages: Number(head.readBigUInt64LE(META.lastPage)) + 1,
  }))
  const { pages } = first!.transaction > second!.transaction ? first! : second!
  return { pages, size: file.length / pageSize }
}
