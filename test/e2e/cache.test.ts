/** A bucket that is served through a cache; test/crashes has servers that are killed. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { seededRandom } from '../crashes/moments.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgwOk, type Served, serve, temporary } from './keepgw.ts'

const MANAGEMENT = 'the-management-token'
const server = sharedS3()

describe('serve --cache', { skip: server === undefined && NO_S3, timeout: 240_000 }, () => {
  let bucket: TestBucket
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let volume: string
  let caches = 0
  const blocks = new Map<string, Buffer>()

  before(async () => {
    bucket = await makeBucket(server!)
    scratch = await temporary()
    env = { ...environment(server!, scratch.dir), KEEPGW_MANAGEMENT_TOKEN: MANAGEMENT }
    for (let at = 0; at < 12; at++) await put(`object/${at}`, randomBytes(1_000_000 + at * 777_777))
    await keepgwOk(['index', bucket.name], env)
    volume = `s3:${join(scratch.dir, bucket.name)}:${bucket.name}`
  })
  after(async () => {
    await bucket?.destroy()
    await scratch?.remove()
  })

  async function put(key: string, data: Buffer): Promise<string> {
    await bucket.put(key, data)
    const hash = createHash('md5').update(data).digest('hex')
    blocks.set(hash, data)
    return hash
  }
  async function start(t: TestContext, cache: string, flags: string[] = []): Promise<Served> {
    const served = await serve([volume], env, [`--cache=${cache}`, '--cache-size=1G', ...flags])
    t.after(() => served.process.kill('SIGKILL'))
    return served
  }
  const newCache = () => join(scratch.dir, `cache-${caches++}`)

  async function read({ url }: Served, hash: string): Promise<Buffer | number> {
    const answer = await fetch(`${url}/${hash}`, { headers: { Connection: 'close' } })
    const body = Buffer.from(await answer.arrayBuffer())
    return answer.status === 200 ? body : answer.status
  }
  async function assertServed(served: Served, hash: string): Promise<void> {
    const body = await read(served, hash)
    assert.ok(body instanceof Buffer, `${hash}: ${body}`)
    assert.ok(body.equals(blocks.get(hash)!), `${hash} came with other bytes`)
  }
  async function count({ url }: Served, name: string): Promise<number> {
    const headers = { Authorization: `Bearer ${MANAGEMENT}` }
    const status = (await (await fetch(`${url}/status.json`, { headers })).json()) as {
      cache: Record<string, number>
    }
    return status.cache[name]!
  }
  async function countIs(served: Served, name: string, value: number): Promise<void> {
    let last = await count(served, name)
    while (last < value) last = await count(served, name)
    assert.equal(last, value)
  }

  it('gives blocks whose objects were deleted in the bucket', async (t) => {
    const hash = await put('vanishing', randomBytes(3_000_000))
    await keepgwOk(['index', bucket.name], env)
    const served = await start(t, newCache())
    await assertServed(served, hash)
    await countIs(served, 'stored', 1)
    await bucket.remove('vanishing')
    await assertServed(served, hash)
    assert.equal(await served.stop(), 0)
    blocks.delete(hash)
    await keepgwOk(['index', bucket.name], env)
  })

  it('is shared by servers and their workers', async (t) => {
    const cache = newCache()
    const servers = [await start(t, cache, ['--workers=2']), await start(t, cache)]
    for (const hash of blocks.keys()) {
      const all = servers.flatMap((served) => [served, served, served])
      await Promise.all(all.map((served) => assertServed(served, hash)))
    }
    for (const served of servers) assert.equal(await served.stop(), 0)
    const files = (await readdir(cache, { recursive: true })).filter((name) => name.includes('/'))
    assert.deepEqual(files.map((name) => name.slice(3)).sort(), [...blocks.keys()].sort())
    // With a cache only, and nothing else to read from.
    const again = await start(t, cache, ['--workers=2'])
    for (const hash of blocks.keys()) await assertServed(again, hash)
    assert.equal(await count(again, 'hits'), blocks.size)
    assert.equal(await count(again, 'misses'), 0)
  })

  it('proves what it has, after a crash of the machine, too', async (t) => {
    const cache = newCache()
    const before = await start(t, cache)
    for (const hash of blocks.keys()) await assertServed(before, hash)
    await countIs(before, 'stored', blocks.size)
    await before.stop()
    // What was renamed may be there without its data: nothing is synced.
    const next = seededRandom(7)
    for (const hash of blocks.keys()) {
      const file = join(cache, hash.slice(0, 2), hash)
      const bytes = await readFile(file)
      const at = Math.floor(next() * bytes.length)
      await writeFile(file, next() < 0.5 ? bytes.subarray(0, at) : bytes.fill(0, at, at + 4096))
    }
    // A file that is slow to come, as on a busy machine, would not be found out if the bucket were faster.
    const served = await start(t, cache, ['--hedge-after=off'])
    await Promise.all([...blocks.keys()].map((hash) => assertServed(served, hash)))
    assert.equal(await count(served, 'broken'), blocks.size)
  })

  it('is done without where it cannot be used, and that is said once', async (t) => {
    const file = join(scratch.dir, 'file')
    await writeFile(file, '')
    const served = await start(t, join(file, 'cache'))
    for (const hash of blocks.keys()) await assertServed(served, hash)
    const warnings = served.log().filter(({ msg }) => msg === 'cache')
    assert.equal(warnings.length, 1)
    assert.match(String(warnings[0]!.reason), /ENOTDIR/)
    await rm(file)
    await mkdir(join(file, 'cache'), { recursive: true })
    const { stdout, stderr } = await keepgwOk(
      ['serve', '--check', `--volume=${volume}`, `--cache=${file}/a/b`],
      env,
    )
    assert.match(stdout, /^cache {7}.*\/a\/b, at most 10240 MiB$/m)
    assert.match(stderr, /a\/b cannot be used/)
  })
})
