/**
 * Servers with a cache that are killed at seeded moments (moments.ts), while many clients read from them:
 * the next one on the same cache gives right bytes, and knows how much the cache holds.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type FSWatcher, mkdirSync, readdirSync, readFileSync, statSync, watch } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import {
  contents,
  environment,
  keepgwOk,
  md5,
  type Served,
  serve,
  temporary,
  until,
} from '../e2e/keepgw.ts'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { announce, pick, seededRandom, share } from './moments.ts'

const MANAGEMENT = 'the-management-token'
/** Kills of a server of one process, and as many of one with two workers. */
const KILLS = share(2, 26)
const READERS = 8
/** Together more than the smallest cache that there may be: some have to go to make room. */
const BLOCKS = 48
const LIMIT = 128 * 2 ** 20
/** How far each of those who share it may go beyond, until it looks at what the others have added. */
const SPARE = LIMIT / 16
/** A server lives no longer under load. */
const LONGEST_MS = 5000
const server = sharedS3()

/** Kills when it has come that far, 0 to 1; returns how to stop waiting for that. */
type Way = (at: number, cache: string, kill: () => void) => () => void

describe('kill -9 of a server with a cache', { skip: server === undefined && NO_S3 }, () => {
  const random = seededRandom()
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let volume: string
  let kills = 0
  const blocks = new Map<string, Buffer>()

  before(async () => {
    announce('serve kill')
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    const access = { ...server!, endpoint: proxy.endpoint }
    env = { ...environment(access, scratch.dir), KEEPGW_MANAGEMENT_TOKEN: MANAGEMENT }
    for (let i = 0; i < BLOCKS; i++) {
      const data = contents(2_000_000 + Math.floor(random() * 3_000_000), `block ${i}`)
      await bucket.put(`object/${i}`, data)
      blocks.set(md5(data), data)
    }
    await keepgwOk(['index', bucket.name], env)
    volume = `s3:${join(scratch.dir, bucket.name)}:${bucket.name}`
  })
  after(async () => {
    console.log(`serve kill: ${kills} kills`)
    await bucket?.destroy()
    await proxy?.stop()
    await scratch?.remove()
  })

  async function start(t: TestContext, cache: string, flags: string[]): Promise<Served> {
    const all = [`--cache=${cache}`, '--cache-size=128M', ...flags]
    const served = await serve([volume], env, all)
    t.after(() => served.process.kill('SIGKILL'))
    return served
  }

  /** Reads a block, and asserts that what came is true; false where the server has gone meanwhile. */
  async function read({ url }: Served, hash: string): Promise<boolean> {
    let body: Buffer
    try {
      const answer = await fetch(`${url}/${hash}`, { headers: { Connection: 'close' } })
      assert.equal(answer.status, 200)
      body = Buffer.from(await answer.arrayBuffer())
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error
      return false
    }
    assert.ok(body.equals(blocks.get(hash)!), `${hash} came with other bytes`)
    return true
  }

  async function status({ url }: Served): Promise<Record<string, number>> {
    const headers = { Authorization: `Bearer ${MANAGEMENT}`, Connection: 'close' }
    const answer = await fetch(`${url}/status.json`, { headers })
    return ((await answer.json()) as { cache: Record<string, number> }).cache
  }

  /** Has clients read blocks until the server is killed, all of its processes at once. */
  async function killUnderLoad(served: Served, cache: string, way: Way, at: number) {
    const { pid } = served.process
    const pids = [...childrenOf(pid!), pid!]
    const exited = once(served.process, 'exit')
    let isOver = false
    const kill = () => {
      if (!isOver) for (const each of pids) process.kill(each, 'SIGKILL')
      isOver = true
    }
    const stopWaiting = way(at, cache, kill)
    // It may not come that far: what is read may all be there.
    const timer = setTimeout(kill, LONGEST_MS)
    const hashes = [...blocks.keys()]
    const reader = async () => {
      while (await read(served, pick(hashes, random)));
    }
    await Promise.all(Array.from({ length: READERS }, reader))
    stopWaiting()
    clearTimeout(timer)
    await exited
    assert.equal(served.process.signalCode, 'SIGKILL')
    kills += 1
    return pids
  }

  const ways: [name: string, way: Way][] = [
    [
      'at a request to the store',
      (at, _cache, kill) => {
        const nth = 1 + Math.floor(at * BLOCKS)
        let seen = 0
        const run = () => {
          if (++seen === nth) kill()
        }
        proxy.on(() => true, { kind: 'before', run })
        return () => proxy.clear()
      },
    ],
    [
      'as a file is begun, written or given its name',
      (at, cache, kill) => killAtEvent([join(cache, 'tmp')], 1 + Math.floor(at * 200), kill),
    ],
    [
      'as a block has come or gone',
      (at, cache, kill) => {
        const shards = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'))
        const dirs = shards.map((shard) => join(cache, shard))
        return killAtEvent(dirs, 1 + Math.floor(at * 60), kill)
      },
    ],
    [
      'at any time',
      (at, _cache, kill) => {
        const timer = setTimeout(kill, 1000 * at)
        return () => clearTimeout(timer)
      },
    ],
  ]

  for (const workers of [1, 2]) {
    const what = workers === 1 ? 'one process' : 'two workers'
    it(`leaves a cache of ${what} that the next one can use`, async (t) => {
      const cache = join(scratch.dir, `cache-${workers}`)
      const flags = [`--workers=${workers}`]
      const most = workers === 1 ? LIMIT : LIMIT + workers * SPARE
      let served = await start(t, cache, flags)
      for (let i = 0; i < KILLS; i++) {
        const [name, way] = ways[(i + 2 * workers) % ways.length]!
        const dead = await killUnderLoad(served, cache, way, random())
        const left = filesIn(cache)
        const beside = left.filter(({ path }) => path.startsWith('tmp/'))
        console.log(
          `serve kill ${kills}: ${what}, ${name}: ${left.length - beside.length} blocks, ` +
            `${beside.length} under way, ${sum(left)} bytes`,
        )
        assert.ok(sum(left) <= most, `${sum(left)} bytes`)

        served = await start(t, cache, flags)
        const isOfDead = (file: string) => dead.includes(writerOf(file))
        await until(() => !readdirSync(join(cache, 'tmp')).some(isOfDead))
        // Of two workers, neither knows what the other has made room for meanwhile.
        if (workers === 1) await hasLooked(served, cache)
        await readAll(served)
        const { broken, errors } = await status(served)
        assert.deepEqual({ broken, errors }, { broken: 0, errors: 0 })
      }
      assert.equal(await served.stop(), 0)
      const files = filesIn(cache)
      assert.deepEqual(
        files.filter(({ path }) => path.startsWith('tmp/')),
        [],
      )
      assert.ok(sum(files) <= most, `${sum(files)} bytes`)
    })
  }

  async function readAll(served: Served): Promise<void> {
    const hashes = [...blocks.keys()]
    const reader = async () => {
      for (let hash = hashes.pop(); hash !== undefined; hash = hashes.pop()) {
        assert.ok(await read(served, hash), 'the server has gone')
      }
    }
    await Promise.all(Array.from({ length: READERS }, reader))
  }

  /** Resolves when a server that was just started knows of all that is in the cache, and of nothing else. */
  async function hasLooked(served: Served, cache: string): Promise<void> {
    const end = Date.now() + 60_000
    for (;;) {
      const { bytes } = await status(served)
      if (bytes === sum(filesIn(cache))) return
      assert.ok(Date.now() < end, `${bytes} bytes are known of ${sum(filesIn(cache))}`)
    }
  }
})

/** Kills at the `nth` event in any of the directories, which are made. */
function killAtEvent(dirs: string[], nth: number, kill: () => void): () => void {
  let seen = 0
  const watchers: FSWatcher[] = dirs.map((dir) => {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    return watch(dir, () => {
      if (++seen === nth) kill()
    })
  })
  return () => {
    for (const watcher of watchers) watcher.close()
  }
}

/** The processes that a server has started (proc(5)). */
function childrenOf(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return children.trim().split(' ').filter(Boolean).map(Number)
}

/** Whose file under way it is: MACHINE~BOOT~NAMESPACE~PID~START~NUMBER. */
function writerOf(file: string): number {
  return Number(file.split('~')[3])
}

/** All files of a cache, with what they take on disk. */
function filesIn(cache: string): { path: string; bytes: number }[] {
  return readdirSync(cache).flatMap((shard) =>
    readdirSync(join(cache, shard)).map((name) => {
      // It may have had to make room meanwhile.
      const size = statSync(join(cache, shard, name), { throwIfNoEntry: false })?.size ?? 0
      return { path: `${shard}/${name}`, bytes: Math.ceil(size / 4096) * 4096 }
    }),
  )
}

function sum(files: { bytes: number }[]): number {
  return files.reduce((total, { bytes }) => total + bytes, 0)
}
