/**
 * Flips bits of a catalog's file, one at a time, and reads and writes what is left: it must be whole, or
 * refused. A process of its own (flip-catalog.ts SEED COUNT), since lmdb ends one that it fails in.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { Intent } from '../../src/mapping/catalog-contents.ts'
import { acquireLock } from '../../src/mapping/lock.ts'
import { seededRandom } from '../crashes/moments.ts'
import { makeTree } from './fixture.ts'

const OBJECTS = 3000
const [seed, count] = process.argv.slice(2).map(Number)
const random = seededRandom(seed!)
const digest = (text: string) => createHash('md5').update(text).digest()

await using good = await makeTree()
await fillCatalog(good.dir)
const file = join(good.dir, '.keepgw/catalog/data.mdb')
const bytes = await readFile(file)
let refused = 0
for (let i = 0; i < count!; i++) {
  await using tree = await makeTree()
  const dir = join(tree.dir, '.keepgw/catalog')
  await mkdir(dir)
  await copyFile(file, join(dir, 'data.mdb'))
  const flipped = Buffer.from(bytes)
  // Most of them where pages have their numbers, and what points at their entries.
  const page = 4096 * Math.floor((random() * bytes.length) / 4096)
  const at = page + Math.floor(random() * (random() < 0.7 ? 64 : 4096))
  flipped[at]! ^= 1 << Math.floor(8 * random())
  await writeFile(join(dir, 'data.mdb'), flipped)
  try {
    await readAndWrite(tree.dir)
  } catch (error) {
    assert.ok(error instanceof KeepgwError && error.hint, `byte ${at}: ${error}`)
    refused += 1
  }
}
console.log(`${count} flips, ${refused} refused`)

async function fillCatalog(dir: string): Promise<void> {
  await Catalog.make(dir)
  const catalog = Catalog.open(dir)
  const lock = await acquireLock(catalog, 'test')
  for (let batch = 0; batch < 6; batch++) {
    const changes = Array.from({ length: OBJECTS / 6 }, (_, i) => {
      const key = `d${i % 7}/${batch}-${i}`
      const hashes = Buffer.concat(i === 0 ? Array(400).fill(digest(key)) : [digest(key)])
      const size = i === 0 ? 400 * 67_108_864 : 5
      return { key, before: null, after: { etag: 'e', size, lastModified: 1, hashes } }
    })
    const intent: Intent = {
      changes,
      delta: { objects: 500, segments: 0, bytes: 0, blocks: 0, blockBytes: 0, trusted: 0 },
      lost: [[digest(`${batch}`).toString('hex'), { length: 4, keys: ['k'], since: '' }]],
      found: [],
    }
    await catalog.begin(intent, lock.id)
    await catalog.finish(intent, lock.id)
  }
  await lock.release()
  await catalog.close()
}

async function readAndWrite(dir: string): Promise<void> {
  for (const readOnly of [true, false]) {
    const catalog = Catalog.open(dir, { readOnly })
    try {
      let objects = 0
      for (const { record } of catalog.entries()) objects += Number(record.hashes.length > 0)
      assert.equal(objects, OBJECTS, 'the end of the catalog came too early')
      for (const _ of catalog.lostBlocks()) catalog.stats()
      if (readOnly) continue
      const lock = await acquireLock(catalog, 'test')
      for (let i = 0; i < 300; i++) await catalog.unseen.add(`k${i}`)
      for (const _ of catalog.unseen.keys()) catalog.intent()
      catalog.unseen.clear()
      await lock.release()
    } finally {
      await catalog.close()
    }
  }
}
