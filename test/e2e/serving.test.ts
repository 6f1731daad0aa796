/** Reading blocks through `keepgw serve` while places, servers and mappings fail. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, rename } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { proxyPage } from '../faults/fault.ts'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, type Served, serve, temporary } from './keepgw.ts'

const BLOCK = 67_108_864
const server = sharedS3()

function md5(data: Uint8Array): string {
  return createHash('md5').update(data).digest('hex')
}

describe('serve', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let mapping: string
  let served: Served
  /** Every block there is, by its hash. */
  const blocks = new Map<string, Buffer>()

  async function put(key: string, data: Buffer): Promise<string> {
    await (data.length > BLOCK ? bucket.putLarge(key, data, 16 << 20) : bucket.put(key, data))
    for (let at = 0; at < data.length; at += BLOCK) {
      const block = data.subarray(at, at + BLOCK)
      blocks.set(md5(block), block)
    }
    return md5(data.subarray(0, BLOCK))
  }
  async function get(hash: string): Promise<{ status: number; body: Buffer }> {
    const size = blocks.get(hash)?.length
    const answer = await fetch(`${served.url}/${hash}${size === undefined ? '' : `+${size}`}`)
    return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) }
  }
  async function assertServed(hash: string): Promise<void> {
    const { status, body } = await get(hash)
    assert.equal(status, 200, body.toString('utf8', 0, 200))
    assert.ok(body.equals(blocks.get(hash)!), `${hash} came with other bytes`)
  }
  async function assertRefused(hash: string, status: number): Promise<void> {
    const answer = await get(hash)
    assert.equal(answer.status, status, answer.body.toString('utf8', 0, 200))
  }
  /** The lines of a block, in the order in which they are tried. */
  async function placesOf(hash: string): Promise<string[]> {
    const text = await readFile(join(mapping, hash.slice(0, 3), hash), 'utf8')
    return text.trimEnd().split('\n')
  }
  /** The causes in the log for which places of this block were left. */
  function causes(hash: string): unknown[] {
    const lines = served.log().filter((line) => JSON.stringify(line).includes(hash))
    return lines.map(({ cause }) => cause).filter((cause) => cause !== undefined)
  }

  before(async () => {
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    mapping = join(scratch.dir, bucket.name)
    env = environment({ ...server!, endpoint: proxy.endpoint }, scratch.dir)
    for (let i = 0; i < 120; i++) await put(`small/${i}`, randomBytes(1 + i * 700))
    await put('large/one', randomBytes(BLOCK + 3_000_000))
    await keepgwOk(['index', bucket.name], env)
    served = await serve([`s3:${mapping}:${bucket.name}`], env)
  })
  after(async () => {
    await served?.stop()
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('gives a hundred random blocks byte for byte', async () => {
    const hashes = [...blocks.keys()].sort(() => Math.random() - 0.5)
    await Promise.all(hashes.slice(0, 100).map(assertServed))
    await assertServed(hashes.find((hash) => blocks.get(hash)!.length === BLOCK)!)
  })

  it('goes on when one of two places is deleted, and says why', async () => {
    const hash = await put('twice/a', randomBytes(500_000))
    await put('twice/b', blocks.get(hash)!)
    await keepgwOk(['index', bucket.name], env)
    const [first = ''] = (await placesOf(hash)).map((line) => /twice\/./.exec(line)![0])
    await bucket.remove(first)
    await assertServed(hash)
    assert.deepEqual(causes(hash), ['gone'])
  })

  it('goes on when one of two places is overwritten with as many other bytes', async () => {
    const hash = await put('over/a', randomBytes(500_000))
    await put('over/b', blocks.get(hash)!)
    await keepgwOk(['index', bucket.name], env)
    const [first = ''] = (await placesOf(hash)).map((line) => /over\/./.exec(line)![0])
    await bucket.put(first, randomBytes(500_000))
    await assertServed(hash)
    assert.deepEqual(causes(hash), ['changed'])
  })

  it('goes on from the next place when one breaks off in the middle', async () => {
    const hash = await put('break/a', randomBytes(20_000_000))
    await put('break/b', blocks.get(hash)!)
    await keepgwOk(['index', bucket.name], env)
    const [first] = (await placesOf(hash)).map((line) => /break\/./.exec(line)![0])
    const isFirst = ({ path }: { path: string }): boolean => path.includes(`/${first}`)
    // Within the first piece of the block, if it is read in pieces.
    const fault = proxy.on(isFirst, { kind: 'cut', at: 3_654_321 })
    try {
      await assertServed(hash)
    } finally {
      proxy.clear()
    }
    assert.ok(fault.hits > 0, 'the place that breaks was never asked')
    assert.ok(causes(hash).includes('unreachable'))
  })

  it('says 404 when all places are gone, and 503 as long as one may be there', async () => {
    const hash = await put('gone/a', randomBytes(1000))
    await put('gone/b', blocks.get(hash)!)
    await keepgwOk(['index', bucket.name], env)
    await bucket.remove('gone/a')
    proxy.on(({ path }) => path.includes('/gone/b'), proxyPage)
    await assertRefused(hash, 503)
    proxy.clear()
    await assertServed(hash)
    await bucket.remove('gone/b')
    await assertRefused(hash, 404)
    await assertRefused(md5(Buffer.from('never indexed')), 404)
  })

  it('says 503, never 404, while the S3 server is down or hides behind a proxy', async () => {
    const [hash = ''] = blocks.keys()
    await proxy.down()
    await assertRefused(hash, 503)
    await proxy.up()
    proxy.on(() => true, proxyPage)
    await assertRefused(hash, 503)
    proxy.clear()
    await assertServed(hash)
  })

  it('says 503, never 404, while the mapping’s disk is away', async () => {
    const [hash = ''] = blocks.keys()
    await rename(mapping, `${mapping}.away`)
    await assertRefused(hash, 503)
    await assertRefused(md5(Buffer.from('never indexed')), 503)
    await rename(`${mapping}.away`, mapping)
    await assertServed(hash)
  })

  it('says 503 when the bucket itself is deleted', async () => {
    const own = await makeBucket(server!)
    await own.put('only', 'data')
    await keepgwOk(['index', own.name], env)
    const other = await serve([`s3:${join(scratch.dir, own.name)}:${own.name}`], env)
    try {
      await own.destroy()
      const answer = await fetch(`${other.url}/${md5(Buffer.from('data'))}+4`)
      assert.equal(answer.status, 503)
    } finally {
      await other.stop()
    }
  })

  it('verifies, repairs, and tells what is lost', async () => {
    const hash = await put('lost/only', randomBytes(4000))
    await keepgwOk(['index', bucket.name], env)
    await keepgwOk(['verify', '--bucket', bucket.name, hash], env)
    await bucket.put('lost/only', randomBytes(4000))
    const verified = await keepgw(['verify', '--bucket', bucket.name, hash, '--repair'], env)
    assert.equal(verified.code, 1, verified.stderr)
    assert.match(verified.stdout, new RegExp(`^${hash} changed `, 'm'))
    const { stdout } = await keepgwOk(['status', bucket.name, '--lost'], env)
    assert.match(stdout, new RegExp(`^${hash}\\+4000 .*"lost/only"$`, 'm'))
    await keepgwOk(['index', bucket.name], env)
    const all = await keepgw(['verify', '--bucket', bucket.name, '--all', '--json'], env)
    assert.ok(!all.stdout.includes(hash))
  })

  it('lets a running answer finish on SIGTERM, takes no new ones, and ends with 0', async () => {
    const hash = [...blocks.keys()].find((key) => blocks.get(key)!.length === BLOCK)!
    const answer = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
      request(`${served.url}/${hash}`, resolve).on('error', reject).end()
    })
    served.process.kill('SIGTERM')
    const body = md5(Buffer.concat(await answer.toArray()))
    assert.equal(body, hash)
    assert.equal(await served.stop(), 0)
    await assert.rejects(fetch(`${served.url}/${hash}`))
  })
})
