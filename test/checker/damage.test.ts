/**
 * Every file of a mapping, damaged in every way (KEEPGW_TEST_SEED repeats the bytes): the next index
 * mends it or says what is bad, nothing dies of it, and after check --repair and an index the mapping is
 * what a new one would be.
 */
import assert from 'node:assert/strict'
import { appendFile, cp, mkdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { KeepgwError } from '../../src/errors.ts'
import { announce, seededRandom, share } from '../crashes/moments.ts'
import { Bench, hashFiles } from './fixture.ts'

const OBJECTS: [string, string][] = Array.from({ length: 60 }, (_, i) => [
  `d${i % 3}/object ${i}`,
  i % 5 === 0 ? 'the same' : `content ${i}`,
])

type Damage = (file: string, random: () => number) => Promise<unknown>
const DAMAGES: [name: string, damage: Damage][] = [
  ['emptied', (file) => writeFile(file, '')],
  ['deleted', (file) => rm(file)],
  [
    'cut short',
    async (file, random) => {
      const { length } = await readFile(file)
      await truncate(file, Math.floor(random() * length))
    },
  ],
  ['with garbage at its end', (file) => appendFile(file, 'garbage\0\xff, and more of it')],
  ['of garbage', (file) => writeFile(file, 'garbage\n'.repeat(2000))],
  [
    'a directory',
    async (file) => {
      await rm(file)
      await mkdir(file)
    },
  ],
]
const FLIP: Damage = async (file, random) => {
  const bytes = await readFile(file)
  bytes[Math.floor(random() * bytes.length)]! ^= 1 << Math.floor(8 * random())
  await writeFile(file, bytes)
}
const FLIPS = share(1, 20)

describe('a mapping with one file', () => {
  const random = seededRandom()
  let bench: Bench
  before(async () => {
    announce('damage')
    bench = await Bench.make(OBJECTS)
  })
  after(() => bench[Symbol.asyncDispose]())

  const files: [name: string, find: (dir: string) => Promise<string>][] = [
    ['data.mdb', async () => '.keepgw/catalog/data.mdb'],
    ['lock.mdb', async () => '.keepgw/catalog/lock.mdb'],
    ['remote.json', async () => '.keepgw/remote.json'],
    ['proofs', async () => '.keepgw/proofs'],
    [
      'of a hash',
      async (dir) => {
        const all = await hashFiles(dir)
        return all[Math.floor(random() * all.length)]!
      },
    ],
    [
      'beside one of a hash',
      async (dir) => {
        const [file = ''] = await hashFiles(dir)
        return file.replace('/', '/.').concat('.new')
      },
    ],
  ]
  for (const [file, find] of files) {
    const flips = Array.from({ length: FLIPS }, (_, i): [string, Damage] => [
      `bit ${i} flipped`,
      FLIP,
    ])
    for (const [how, damage] of [...DAMAGES, ...flips]) {
      it(`${file}, ${how}, is made good`, async () => {
        const dir = await bench.copy()
        const name = await find(dir)
        if (/proofs|\.new$/.test(name)) await writeFile(join(dir, name), 'a line\n'.repeat(10))
        await damage(join(dir, name), random)
        const spare = await bench.copy()
        await rm(spare, { recursive: true })
        await cp(dir, spare, { recursive: true })
        await says(() => bench.index(spare), name)
        await bench.check(dir)
        await says(() => bench.repair(dir), name)
        await indexed(dir)
        await bench.repair(dir)
        await bench.assertGood(dir)
        await rm(dir, { recursive: true })
        await rm(spare, { recursive: true })
      })
    }
  }

  /** What goes wrong names a file, or the catalog, and what to do. */
  async function says(work: () => Promise<unknown>, name: string): Promise<void> {
    try {
      await work()
    } catch (error) {
      assert.ok(error instanceof KeepgwError, `${name}: ${error}`)
      assert.ok(error.hint, error.message)
      // A description may be one of another remote by now.
      assert.match(error.message, /remote\.json|catalog|[0-9a-f]{32}|proofs|mapping \S+ is of/)
    }
  }

  /** A description that is bad is to be removed by hand. */
  async function indexed(dir: string): Promise<void> {
    try {
      await bench.index(dir)
    } catch (error) {
      assert.match(String(error), /remote\.json is damaged|mapping \S+ is of/)
      await rm(join(dir, '.keepgw/remote.json'), { recursive: true })
      await bench.index(dir)
    }
  }
})
