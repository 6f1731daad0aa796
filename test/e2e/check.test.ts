/** `keepgw check` as it is run: beside an index, killed, on a full or a read-only disk, against S3. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { Catalog } from '../../src/mapping/catalog.ts'
import { acquireLock } from '../../src/mapping/lock.ts'
import {
  hasty,
  type Kill,
  killAfter,
  killAtCatalogWrite,
  killAtNewShard,
  killAtSync,
} from '../crashes/kill.ts'
import { announce, seededRandom } from '../crashes/moments.ts'
import { assertSameLines, inspect } from '../crashes/state.ts'
import { startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, start, summaryOf, temporary, treeLines } from './keepgw.ts'

const server = sharedS3()
const OBJECTS = 400

const shardsOf = async (mapping: string): Promise<string[]> => {
  return (await readdir(mapping)).filter((name) => /^[0-9a-f]{3}$/.test(name))
}

async function loseTree(mapping: string): Promise<void> {
  for (const shard of await shardsOf(mapping)) await rm(join(mapping, shard), { recursive: true })
}

describe('keepgw check', () => {
  const random = seededRandom()
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let objects: string
  let good: string
  let copies = 0

  const copy = (): string => {
    const to = join(scratch.dir, `copy${copies++}`)
    cpSync(good, to, { recursive: true })
    return to
  }

  before(async () => {
    announce('check')
    scratch = await temporary()
    env = { PATH: process.env.PATH, HOME: scratch.dir, KEEPGW_MAPPINGS: join(scratch.dir, 'home') }
    objects = join(scratch.dir, 'objects')
    await mkdir(objects)
    for (let i = 0; i < OBJECTS; i++) {
      await writeFile(join(objects, `o${i}`), i % 5 === 0 ? 'the same' : `content ${i}`)
    }
    await keepgwOk(['index', objects], env)
    const [name] = await readdir(join(scratch.dir, 'home'))
    good = join(scratch.dir, 'home', name!)
  })
  after(async () => {
    await scratch?.remove()
  })

  async function assertGood(mapping: string): Promise<void> {
    const { stdout } = await keepgwOk(['check', mapping, '--json'], env)
    assert.equal(JSON.parse(stdout).whole, true, stdout)
    assertSameLines(await treeLines(mapping), await treeLines(good), 'lines')
    const records = async (dir: string) => {
      return Array.from((await inspect(dir)).records, ([key, { etag, hashes }]) => {
        return `${key} ${etag} ${hashes.toString('hex')}`
      })
    }
    assertSameLines(await records(mapping), await records(good), 'records')
    const status = async (dir: string) => {
      const { stdout } = await keepgwOk(['status', '--mappings', dir, '--json'], env)
      const { objects, segments, blocks, blockBytes, lost } = JSON.parse(stdout)
      return { objects, segments, blocks, blockBytes, lost }
    }
    assert.deepEqual(await status(mapping), await status(good))
  }

  it('says in one line that the only mapping there is, is whole', async () => {
    const { stdout } = await keepgwOk(['check'], env)
    assert.match(stdout, /^whole: 400 objects, 400 segments, 321 blocks; findings: 0 .*\n$/)
  })

  it('names each finding, and ends with 1 until it is mended', async () => {
    const mapping = copy()
    const [shard] = await shardsOf(mapping)
    await rm(join(mapping, shard!), { recursive: true })
    const text = await keepgw(['check', mapping], env)
    assert.equal(text.code, 1)
    assert.match(
      text.stdout,
      /^missing [0-9a-f]{3}\/[0-9a-f]{32}: no line for o\d+ from byte 0 on\n/,
    )
    assert.match(text.stdout, /\ndamaged: .*findings: \d+ of damage, 0 to know of\n$/)
    const json = await keepgw(['check', mapping, '--json'], env)
    assert.equal(json.code, 1)
    const [finding] = json.stdout.split('\n')
    assert.equal(JSON.parse(finding!).kind, 'missing')
    assert.equal(summaryOf(json).whole, false)
    const repaired = await keepgwOk(['check', mapping, '--repair'], env)
    assert.match(repaired.stdout, /\nwhole: .*; mended: \d+,/)
    await assertGood(mapping)
  })

  it('ends with 1 where there is no mapping, and with 2 where it cannot know which', async () => {
    const none = await keepgw(['check', join(scratch.dir, 'nowhere')], env)
    assert.equal(none.code, 1)
    assert.match(none.stderr, /no mapping .*nowhere .*mounted/)
    const home = { ...env, KEEPGW_MAPPINGS: join(scratch.dir, 'empty') }
    const unknown = await keepgw(['check'], home)
    assert.equal(unknown.code, 2)
    assert.match(unknown.stderr, /Name its directory/)
  })

  it('drops nothing by most of the objects without a word', async () => {
    const mapping = copy()
    rmSync(join(mapping, '.keepgw/catalog'), { recursive: true })
    const elsewhere = join(scratch.dir, 'objects-elsewhere')
    await mkdir(elsewhere)
    await writeFile(join(elsewhere, 'o1'), 'content 1')
    const description = JSON.stringify({
      version: 1,
      remote: { kind: 'directory', root: elsewhere },
      ifMatch: true,
    })
    await writeFile(join(mapping, '.keepgw/remote.json'), description)
    const lines = await treeLines(mapping)
    const { code, stderr } = await keepgw(['check', mapping, '--repair'], env)
    assert.equal(code, 1)
    assert.match(stderr, /\d+ of \d+ objects of the tree are not in the listing.*--allow-drop/)
    assertSameLines(await treeLines(mapping), lines, 'lines')
  })

  it('finds nothing beside an index that is under way, however often it looks', async () => {
    const mapping = join(scratch.dir, 'under-way')
    const changing = join(scratch.dir, 'changing')
    cpSync(objects, changing, { recursive: true })
    const args = ['index', changing, '--mappings', mapping, '--json']
    let looks = 0
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < OBJECTS; i++) {
        if (i % 3 === round) await writeFile(join(changing, `o${i}`), `round ${round} ${i}`)
      }
      const index = start([...args, '--bandwidth-limit', '64K'], hasty(env))
      const ended = once(index, 'close')
      while (index.exitCode === null) {
        const { code, stdout, stderr } = await keepgw(['check', mapping, '--json'], env)
        // There may be no catalog yet.
        if (/no catalog|cut short|no mapping|missing; remove/.test(stdout + stderr)) continue
        assert.equal(code, 0, stdout + stderr)
        looks += 1
      }
      await ended
      assert.equal(index.exitCode, 0, index.output.stderr)
    }
    assert.ok(looks >= 3, `${looks} looks`)
  })

  it('repairs nothing under an index, and ends with 4', async () => {
    const mapping = copy()
    const catalog = Catalog.open(mapping)
    const lock = await acquireLock(catalog, 'index')
    const { code, stderr } = await keepgw(['check', mapping, '--repair'], env)
    await keepgwOk(['check', mapping], env)
    // Where the record of the lock cannot be read, the system tells who has the catalog open.
    const file = join(mapping, '.keepgw/catalog/data.mdb')
    const bytes = await readFile(file)
    await writeFile(file, Buffer.alloc(48), { flag: 'r+' })
    const damaged = await keepgw(['check', mapping, '--repair'], env)
    await writeFile(file, bytes, { flag: 'r+' })
    await lock.release()
    await catalog.close()
    assert.equal(code, 4, stderr)
    assert.match(stderr, /locked by keepgw index/)
    assert.equal(damaged.code, 4, damaged.stderr)
    assert.match(damaged.stderr, new RegExp(`process ${process.pid} has the damaged catalog open`))
  })

  it('tells a batch that was cut short from damage, and finishes it', async () => {
    const mapping = join(scratch.dir, 'cut-short')
    const args = ['index', objects, '--mappings', mapping]
    assert.ok(await killAtSync(1, 'before')({ args, env, mapping, scratch: scratch.dir }))
    const found = await keepgwOk(['check', mapping], env)
    assert.match(found.stdout, /^batch catalog: a batch of \d+ objects was cut short\nwhole: .*\n$/)
    const { stderr } = await keepgwOk(['check', mapping, '--repair'], env)
    assert.match(stderr, /finished a batch of \d+ objects/)
    await keepgwOk(args, env)
    await assertGood(mapping)
  })

  describe('--repair that is killed', () => {
    type Way = [name: string, kill: (at: number) => Kill]
    const anyTime = (i: number): Way => [`at any time (${i})`, (at) => killAfter(200 + at * 500)]
    const ways: Record<'tree' | 'catalog', Way[]> = {
      tree: [
        ['before a sync', () => killAtSync(1, 'before')],
        ['after a sync', () => killAtSync(1, 'after')],
        ['within the lines', (at) => killAtNewShard(1 + Math.floor(at * 200))],
        ['at a write to the catalog', (at) => killAtCatalogWrite(1 + Math.floor(at * 4))],
        anyTime(1),
      ],
      // No file of the tree changes, so that nothing is synced; and the catalog is moved aside.
      catalog: [['while it is moved', () => killAtCatalogWrite(1)], ...[1, 2, 3, 4].map(anyTime)],
    }
    const lose = {
      tree: loseTree,
      catalog: (mapping: string) => writeFile(join(mapping, '.keepgw/catalog/data.mdb'), 'x'),
    }
    let kills = 0
    for (const lost of ['tree', 'catalog'] as const) {
      for (const [way, kill] of ways[lost]) {
        it(`${way}, with the ${lost} lost, is made good by the next one`, async () => {
          const mapping = copy()
          await lose[lost](mapping)
          const args = ['check', mapping, '--repair']
          const victim = { args, env, mapping, scratch: scratch.dir }
          const killed = await kill(random())(victim)
          if (killed) kills += 1
          console.log(`check: ${lost} lost, killed ${way}: ${killed}`)
          const again = await keepgw(args, env)
          assert.equal(again.code, 0, again.stderr)
          const index = ['index', objects, '--mappings', mapping, '--json']
          assert.equal(summaryOf(await keepgwOk(index, env)).added, 0)
          await assertGood(mapping)
          const left = await readdir(join(mapping, '.keepgw'))
          assert.deepEqual(left.sort(), ['catalog', 'remote.json'])
        })
      }
    }

    it('was tried often enough', () => assert.ok(kills >= 5, `${kills} kills`))
  })

  describe('on a disk of its own', () => {
    async function mounted(t: TestContext, size: string): Promise<string | undefined> {
      const disk = join(scratch.dir, `disk${copies++}`)
      await mkdir(disk)
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'none', disk], {
          stdio: 'pipe',
        })
      } catch {
        t.skip('mounts need privileges')
        return undefined
      }
      t.after(() => execFileSync('umount', ['-l', disk]))
      cpSync(good, join(disk, 'mapping'), { recursive: true })
      return disk
    }

    it('that is full says so, and goes on when there is room', async (t) => {
      const disk = await mounted(t, '64m')
      if (disk === undefined) return
      const mapping = join(disk, 'mapping')
      for (const lose of [loseTree, (dir: string) => rm(join(dir, '.keepgw/catalog/data.mdb'))]) {
        await lose(mapping)
        const { bavail, bsize } = statfsSync(disk)
        for (const left of [20_000, 10_000_000]) {
          writeFileSync(join(disk, 'filler'), Buffer.alloc(bavail * bsize - left))
          const full = await keepgw(['check', mapping, '--repair'], env)
          assert.equal(full.code, 1, full.stdout)
          assert.match(full.stderr, /^keepgw: .*full: \d+ bytes left \(.*\n$/)
          await rm(join(disk, 'filler'))
        }
        await keepgwOk(['check', mapping, '--repair'], env)
        await assertGood(mapping)
      }
    })

    it('whose files have the numbers of those of another disk, which is in use', async (t) => {
      const disks = [await mounted(t, '64m'), await mounted(t, '64m')]
      if (disks.includes(undefined)) return
      const [mapping, other] = disks.map((disk) => join(disk!, 'mapping'))
      const [lock, otherLock] = [mapping!, other!].map((dir) =>
        join(dir, '.keepgw/catalog/lock.mdb'),
      )
      assert.equal(statSync(lock!).ino, statSync(otherLock!).ino)
      const catalog = Catalog.open(other!)
      try {
        await writeFile(join(mapping!, '.keepgw/catalog/data.mdb'), 'x')
        await keepgwOk(['check', mapping!, '--repair'], env)
      } finally {
        await catalog.close()
      }
      await assertGood(mapping!)
    })

    it('that fills up under an index stops it, and the next one leaves the mapping whole', async (t) => {
      const disk = await mounted(t, '40m')
      if (disk === undefined) return
      const mapping = join(disk, 'mapping')
      await rm(mapping, { recursive: true })
      const args = ['index', objects, '--mappings', mapping]
      // Not enough for the catalog; for the tree; and for the last lines of the tree.
      for (const left of [0, 4_000_000, 12_000_000, 17_500_000]) {
        const { bavail, bsize } = statfsSync(disk)
        writeFileSync(join(disk, 'filler'), Buffer.alloc(bavail * bsize - left))
        const { code, stderr } = await keepgw(args, hasty(env))
        await rm(join(disk, 'filler'))
        assert.equal(code, 1, `${left}: ${stderr}`)
        assert.match(stderr, /^keepgw: .*(full|ENOSPC|no space).*\(.*\)\n$/)
      }
      await keepgwOk(args, env)
      await assertGood(mapping)
    })

    it('that cannot be written to is checked, and neither repaired nor indexed', async (t) => {
      const disk = await mounted(t, '64m')
      if (disk === undefined) return
      const mapping = join(disk, 'mapping')
      const [shard] = await shardsOf(mapping)
      await rm(join(mapping, shard!), { recursive: true })
      execFileSync('mount', ['-o', 'remount,ro', disk])
      const found = await keepgw(['check', mapping, '--json'], env)
      assert.equal(found.code, 1, found.stderr)
      assert.ok(Number(summaryOf(found).damage) > 0)
      for (const args of [
        ['check', mapping, '--repair'],
        ['index', objects, '--mappings', mapping],
      ]) {
        const { code, stderr } = await keepgw(args, env)
        assert.equal(code, 1, stderr)
        assert.match(stderr, /^keepgw: .*(EROFS|[Rr]ead-only).*\n$/)
      }
    })
  })
})

describe('keepgw check of a bucket', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  before(async () => {
    bucket = await makeBucket(server!)
    scratch = await temporary()
    env = environment(server!, scratch.dir)
    for (let i = 0; i < 40; i++) await bucket.put(`o${i}`, `content ${i}`)
    await bucket.putLarge('large', Buffer.alloc(70_000_000, 'x'))
  })
  after(async () => {
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('makes a lost catalog anew without reading, and keeps the marks of what was trusted', async () => {
    await keepgwOk(['index', bucket.name, '--etag=trust'], env)
    const mapping = join(scratch.dir, bucket.name)
    const before = await inspect(mapping)
    const trusted = [...before.records.values()].filter((record) => record.trusted).length
    assert.ok(trusted > 0)
    await bucket.put('o3', 'another content')
    await bucket.remove('o4')
    await rm(join(mapping, '.keepgw/catalog'), { recursive: true })
    const offline = { ...env, AWS_ENDPOINT_URL: 'http://127.0.0.1:9' }
    const without = await keepgw(['check', mapping, '--repair'], offline)
    assert.equal(without.code, 0, 'the mapping knows its own endpoint')
    assert.equal(
      JSON.parse((await keepgwOk(['status', bucket.name, '--json'], env)).stdout).objects,
      39,
    )
    const after = await inspect(mapping)
    for (const key of ['o3', 'o4']) before.records.delete(key)
    assert.deepEqual(after.records, before.records)
    const index = summaryOf(await keepgwOk(['index', bucket.name, '--etag=trust', '--json'], env))
    assert.deepEqual([index.added, index.changed, index.unchanged], [1, 0, 39])
    const whole = await keepgwOk(['check', mapping, '--json'], env)
    assert.equal(JSON.parse(whole.stdout).notices, 0)
  })

  it('leaves the lines of an object alone that is listed without an ETag', async (t) => {
    const proxy = await startFaultProxy(server!)
    t.after(() => proxy.stop())
    const home = join(scratch.dir, 'proxied')
    const proxied = environment({ ...server!, endpoint: proxy.endpoint }, home)
    await keepgwOk(['index', bucket.name], proxied)
    const mapping = join(home, bucket.name)
    const lines = await treeLines(mapping)
    await rm(join(mapping, '.keepgw/catalog'), { recursive: true })
    const isListing = ({ path }: { path: string }): boolean => path.includes('list-type=2')
    const edit = (xml: string): string => xml.replace(/<ETag>[^<]*/, '<ETag>')
    proxy.on(isListing, { kind: 'edit', edit })
    await keepgwOk(['check', mapping, '--repair'], proxied)
    assertSameLines(await treeLines(mapping), lines, 'lines')
    assert.equal((await inspect(mapping)).records.size, 39)
  })

  it('leaves lines alone that it cannot ask about, and asks when it can', async () => {
    const mapping = join(scratch.dir, bucket.name)
    const [shard] = await shardsOf(mapping)
    const [hash] = await readdir(join(mapping, shard!))
    const lines = await treeLines(mapping)
    const line = lines.find((each) => each.startsWith(hash!))!.slice(33)
    const stray = line.replace(/^(\d+:\d+:)[^\t]*/, '$1nobody')
    await writeFile(join(mapping, shard!, hash!), `${stray}\n`, { flag: 'a' })
    const nobody = { ...env, AWS_ACCESS_KEY_ID: 'nobody', AWS_SECRET_ACCESS_KEY: 'wrong' }
    const asked = await keepgw(['check', mapping, '--repair'], nobody)
    assert.equal(asked.code, 0, asked.stderr)
    assert.match(asked.stderr, /1 lines are of objects .*; they stay/)
    assert.equal((await treeLines(mapping)).length, lines.length + 1)
    await keepgwOk(['check', mapping, '--repair'], env)
    assertSameLines(await treeLines(mapping), lines, 'lines')
  })
})
