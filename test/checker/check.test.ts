import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { appendFile, chmod, mkdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { open } from 'lmdb'
import { check } from '../../src/checker/check.ts'
import type { Finding } from '../../src/checker/findings.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import { acquireLock } from '../../src/mapping/lock.ts'
import { Recorder } from '../../src/mapping/recorder.ts'
import { Bench, contentsOf, hashFiles } from './fixture.ts'

const OBJECTS: [string, string][] = Array.from({ length: 60 }, (_, i) => [
  `d${i % 3}/object ${i}`,
  i % 4 === 0 ? 'the same' : `content ${i}`,
])

describe('a check', () => {
  let bench: Bench
  before(async () => {
    bench = await Bench.make([...OBJECTS, ['empty', ''], ['odd/a:b 100%', 'odd']])
  })
  after(() => bench[Symbol.asyncDispose]())

  it('finds nothing in a mapping that is whole, in any number of passes', async () => {
    for (const placesAtOnce of [1_000_000, 10, 1]) {
      const { tally, counts } = await bench.check(bench.good, { placesAtOnce })
      assert.deepEqual(tally.counts(), {}, JSON.stringify(bench.findings))
      assert.equal(counts.objects, 62)
      assert.equal(counts.segments, 61)
      assert.equal(counts.blocks, 47)
    }
  })

  /** A damage to the files of a copy, and what a check calls it. */
  type Damage = (dir: string, file: string) => Promise<unknown>
  const damages: [name: string, kinds: string[], damage: Damage][] = [
    ['a file that is gone', ['missing'], (dir, file) => rm(join(dir, file))],
    ['an empty file', ['missing', 'torn'], (dir, file) => writeFile(join(dir, file), '')],
    [
      'a line without its end',
      ['missing', 'torn'],
      async (dir, file) => {
        const text = await readFile(join(dir, file), 'utf8')
        await writeFile(join(dir, file), text.slice(0, -1))
      },
    ],
    ['the beginning of a line more', ['torn'], (dir, file) => appendFile(join(dir, file), '0:5:')],
    ['no line', ['bad'], (dir, file) => appendFile(join(dir, file), 'garbage\n')],
    [
      'bytes that are not UTF-8',
      ['bad'],
      (dir, file) => appendFile(join(dir, file), Buffer.from('303a353a61ff0a', 'hex')),
    ],
    [
      'each line twice',
      ['doubled'],
      async (dir, file) => appendFile(join(dir, file), await readFile(join(dir, file))),
    ],
    [
      'another ETag in its line',
      ['wrong'],
      async (dir, file) => {
        const text = await readFile(join(dir, file), 'utf8')
        await writeFile(join(dir, file), text.replace(/etag=./g, 'etag=x'))
      },
    ],
    [
      'a mark of trust that is not true',
      ['wrong'],
      async (dir, file) => {
        const text = await readFile(join(dir, file), 'utf8')
        await writeFile(join(dir, file), text.replaceAll('\n', '\tproof=etag\n'))
      },
    ],
    [
      'lines of another hash',
      ['stale'],
      async (dir, file) => {
        const other = (await hashFiles(dir)).find((each) => each !== file)!
        await appendFile(join(dir, other), await readFile(join(dir, file)))
      },
    ],
    [
      'its file in the wrong directory',
      ['misplaced', 'missing'],
      async (dir, file) => {
        const wrong = join(dir, 'fff')
        await mkdir(wrong, { recursive: true })
        await rename(join(dir, file), join(wrong, file.slice(4)))
      },
    ],
    [
      'a directory in place of its file',
      ['missing', 'unreadable'],
      async (dir, file) => {
        await rm(join(dir, file))
        await mkdir(join(dir, file))
        await writeFile(join(dir, file, 'something'), '')
      },
    ],
    [
      'a file in place of its directory',
      ['missing', 'unreadable'],
      async (dir, file) => {
        await rm(join(dir, file.slice(0, 3)), { recursive: true })
        await writeFile(join(dir, file.slice(0, 3)), 'x')
      },
    ],
    [
      'what a rewrite has left',
      ['leftover'],
      (dir, file) => writeFile(join(dir, file.slice(0, 4), `.${file.slice(4)}.new`), 'x'),
    ],
    [
      'a line of an object that is not there',
      ['stray'],
      async (dir, file) => {
        const [, length] = (await readFile(join(dir, file), 'utf8')).split(':')
        await appendFile(join(dir, file), `0:${length}:gone\tetag=e\n`)
      },
    ],
    [
      'a line of another length',
      ['length'],
      (dir, file) => appendFile(join(dir, file), '0:5:gone\tetag=e\n'),
    ],
  ]
  for (const [name, kinds, damage] of damages) {
    it(`finds ${name}, a repair mends it, and nothing is read for it`, async () => {
      for (const nth of [0, 11]) {
        const dir = await bench.copy()
        await damage(dir, (await hashFiles(dir))[nth]!)
        await bench.check(dir)
        assert.deepEqual(bench.kinds(), kinds, JSON.stringify(bench.findings))
        const { tally } = await bench.repair(dir)
        assert.deepEqual(tally.counts(), {}, JSON.stringify(bench.findings))
        await bench.assertGood(dir)
        assert.equal(await bench.index(dir), 0)
        await bench.assertGood(dir)
      }
    })
  }

  /** Changes the bytes of a record as they lie in the catalog. */
  async function rewrite(
    dir: string,
    change: (record: Buffer, key: string) => Buffer,
  ): Promise<void> {
    const root = open({ path: join(dir, '.keepgw/catalog'), overlappingSync: false, maxDbs: 8 })
    const objects = root.openDB<Buffer, Buffer>({
      name: 'objects',
      encoding: 'binary',
      keyEncoding: 'binary',
    })
    root.transactionSync(() => {
      for (const { key, value } of [...objects.getRange()]) {
        objects.put(Buffer.from(key), change(Buffer.from(value), key.toString()))
      }
    })
    await root.close()
  }
  const isVictim = (key: string): boolean => key === 'd1/object 1'
  const flipped = (record: Buffer, at: number): Buffer => {
    record[(at + record.length) % record.length]! ^= 4
    return record
  }

  it('finds a record that has changed on disk; it comes back without a read', async () => {
    for (const at of [0, 3, 12, 20, -6]) {
      const dir = await bench.copy()
      await rewrite(dir, (record, key) => (isVictim(key) ? flipped(record, at) : record))
      await assert.rejects(bench.index(dir), /catalog is damaged/)
      await bench.check(dir)
      assert.ok(bench.kinds().includes('record'), JSON.stringify(bench.findings))
      const { adopted } = await bench.repair(dir)
      assert.equal(adopted, 1)
      assert.equal(await bench.index(dir), 0)
      await bench.assertGood(dir)
    }
  })

  describe('of a catalog whose records have no checksums yet', () => {
    const unsealed = (record: Buffer): Buffer => {
      record[0]! -= 1
      return record.subarray(0, -4)
    }

    it('finds nothing where it is whole', async () => {
      const dir = await bench.copy()
      await rewrite(dir, unsealed)
      await bench.assertGood(dir)
    })

    // The last byte of its hash, and a byte of its ETag.
    for (const at of [-1, 22]) {
      it(`asks the store who is right where line and record disagree (${at})`, async () => {
        const dir = await bench.copy()
        await rewrite(dir, (record, key) => {
          return isVictim(key) ? flipped(unsealed(record), at) : unsealed(record)
        })
        const { lines } = await contentsOf(dir)
        await bench.check(dir)
        assert.ok(bench.kinds().includes('conflict'), JSON.stringify(bench.findings))
        const { tally, adopted } = await bench.repair(dir)
        assert.equal(tally.total('damage'), 0)
        assert.equal(adopted, 1)
        // The line that may be true is there all the time.
        assert.deepEqual((await contentsOf(dir)).lines, lines)
        assert.equal(await bench.index(dir), 0)
        await bench.assertGood(dir)
      })
    }
  })

  it('keeps a line by hand of an object that is there, and drops one that is gone', async () => {
    const dir = await bench.copy()
    const [file = ''] = await hashFiles(dir)
    const good = await readFile(join(dir, file), 'utf8')
    const length = good.split(':')[1]
    await bench.put('by-hand', 'x'.repeat(Number(length)))
    await appendFile(join(dir, file), `0:${length}:by-hand\n0:${length}:nowhere\n`)
    const { tally, dropped } = await bench.repair(dir)
    await rm(join(bench.spec.root, 'by-hand'))
    assert.deepEqual(tally.counts(), { stray: 1 })
    assert.equal(dropped, 1)
    assert.equal(await readFile(join(dir, file), 'utf8'), `${good}0:${length}:by-hand\n`)
  })

  it('keeps the lines of a misplaced file whose objects have bad records', async () => {
    const dir = await bench.copy()
    const { lines } = await contentsOf(dir)
    const hash = lines.find((line) => line.includes('d1/object 1\t'))!.slice(0, 32)
    await mkdir(join(dir, 'fff'), { recursive: true })
    await rename(join(dir, hash.slice(0, 3), hash), join(dir, 'fff', hash))
    await rewrite(dir, (record, key) => (isVictim(key) ? flipped(record, 3) : record))
    const { adopted } = await bench.repair(dir)
    assert.equal(adopted, 1)
    assert.equal(await bench.index(dir), 0)
    await bench.assertGood(dir)
  })

  it('keeps the lines of a directory that is empty: its disk may not be mounted', async () => {
    const dir = await bench.copy()
    await rm(join(dir, '.keepgw/catalog'), { recursive: true })
    const disk = join(bench.spec.root, 'odd')
    await rename(disk, `${disk}-unmounted`)
    await mkdir(disk)
    try {
      const { tally, dropped } = await bench.repair(dir)
      assert.deepEqual([tally.counts(), dropped], [{ stray: 1 }, 0])
    } finally {
      await rmdir(disk)
      await rename(`${disk}-unmounted`, disk)
    }
    const { tally, adopted } = await bench.repair(dir)
    assert.deepEqual([tally.counts(), adopted], [{}, 1])
  })

  it('stops where a repair would let go of most objects', async () => {
    const dir = await bench.copy()
    await rewrite(dir, (record) => flipped(record, 0))
    await assert.rejects(bench.repair(dir), /62 of 62 objects .*20 %/)
    const { tally } = await bench.repair(dir, { allowDrop: 100 })
    assert.equal(tally.total('damage'), 0)
    await bench.index(dir)
    await bench.assertGood(dir)
  })

  it('does not take a file that goes while it looks for one that is empty', async () => {
    const dir = await bench.copy()
    const [file = ''] = await hashFiles(dir)
    const [first, second] = ['0', '1'].map((digit) => file.slice(0, 7) + digit.repeat(29))
    for (const empty of [first, second]) await writeFile(join(dir, empty!), '')
    const found: string[] = []
    const report = ({ kind, where }: Finding): void => {
      if (kind === 'torn') rmSync(join(dir, second!))
      found.push(`${kind} ${where}`)
    }
    await check({ dir, signal: new AbortController().signal, report })
    assert.deepEqual(found, [`torn ${first}`])
  })

  for (const [whose, holder] of [
    ['this machine', { pid: 2 ** 22 + 1 }],
    ['another machine, which is silent', { machineId: 'other', heartbeat: '2026-01-01T00:00:00Z' }],
  ] as const) {
    it(`calls nothing damaged of a batch that was cut short, on ${whose}`, async () => {
      const dir = await bench.copy()
      const catalog = Catalog.open(dir)
      const lock = await acquireLock(catalog, 'index')
      const recorder = new Recorder(dir, catalog, lock.id)
      catalog.finish = () => Promise.reject(new Error('killed'))
      const dropped = ['d1/object 1', 'd2/object 2', 'd0/object 3'].map((key) => {
        return { key, before: catalog.get(key)!, after: null }
      })
      await assert.rejects(recorder.record(dropped), /killed/)
      await catalog.updateLock((held) => ({ ...held!, ...holder }))
      await recorder.close()
      await catalog.close()
      // A power cut could have torn one of its files, too.
      const hash = dropped[0]!.before.hashes.toString('hex')
      await mkdir(join(dir, hash.slice(0, 3)), { recursive: true })
      await writeFile(join(dir, hash.slice(0, 3), hash), '0:9:d1')
      const { tally } = await bench.check(dir)
      assert.deepEqual(tally.counts(), { batch: 1 }, JSON.stringify(bench.findings))
      const unlocked = Catalog.open(dir)
      await unlocked.updateLock(() => undefined)
      await unlocked.close()
      assert.equal(await bench.index(dir), 3)
      await bench.assertGood(dir)
    })
  }

  it('calls nothing damaged that it may not read', async () => {
    const dir = await bench.copy()
    for (const denied of ['.keepgw/catalog', '.keepgw']) {
      await chmod(join(dir, denied), 0)
      await asOther(() => assert.rejects(bench.check(dir), /permission denied.*/i))
      assert.deepEqual(bench.findings, [])
      await chmod(join(dir, denied), 0o755)
    }
    await bench.assertGood(dir)
  })

  /** Nothing is denied to root: then it is somebody else who asks. */
  async function asOther(work: () => Promise<unknown>): Promise<void> {
    if (process.getuid!() !== 0) return void (await work())
    await chmod(bench.root, 0o755)
    process.seteuid!(65_534)
    try {
      await work()
    } finally {
      process.seteuid!(0)
    }
  }

  it('finds wrong counts, and a repair counts anew', async () => {
    const dir = await bench.copy()
    const catalog = Catalog.open(dir)
    const lock = await acquireLock(catalog, 'test')
    catalog.mend({ stats: { ...catalog.stats(), objects: 1, blocks: 1000 } }, lock.id)
    await lock.release()
    await catalog.close()
    await bench.check(dir)
    assert.deepEqual(bench.kinds(), ['counts'])
    await bench.repair(dir)
    await bench.assertGood(dir)
  })

  it('takes a tree that is gone from the catalog', async () => {
    const dir = await bench.copy()
    for (const shard of new Set((await hashFiles(dir)).map((file) => file.slice(0, 3)))) {
      await rm(join(dir, shard), { recursive: true })
    }
    const { tally } = await bench.check(dir)
    assert.deepEqual(tally.counts(), { missing: 61 })
    await bench.repair(dir)
    await bench.assertGood(dir)
  })

  for (const [how, lose] of [
    ['gone', (file: string) => rm(join(file, '..'), { recursive: true })],
    ['empty', (file: string) => writeFile(file, '')],
    ['garbage', (file: string) => writeFile(file, Buffer.alloc(50_000, 'x'))],
  ] as const) {
    it(`makes a catalog that is ${how} anew, from the tree and the listing`, async () => {
      const dir = await bench.copy()
      await lose(join(dir, '.keepgw/catalog/data.mdb'))
      const before = await bench.check(dir)
      assert.deepEqual(before.tally.counts(), { catalog: 1 })
      const { adopted, tally } = await bench.repair(dir)
      assert.equal(adopted, 61)
      assert.equal(tally.total('damage'), 0)
      // An empty object has no line; nothing is read for it.
      assert.equal(await bench.index(dir), 1)
      await bench.assertGood(dir)
    })
  }
})
