/** Taking hashes from ETags: what is read all the same, and how trust is proven, or ends. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { type FaultProxy, type SeenRequest, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import {
  environment,
  keepgw,
  keepgwOk,
  type Outcome,
  serve,
  summaryOf,
  temporary,
  treeLines,
} from './keepgw.ts'

/** Objects that are put in one part; of so few, 16 are read. */
const SIMPLE = 40
const TRUSTED = SIMPLE - 16
const MARK = '\tproof=etag'
const server = sharedS3()

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}

describe('index --etag=trust', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let runs = 0

  interface Mapping {
    env: NodeJS.ProcessEnv
    dir: string
    index(...flags: string[]): Promise<Outcome>
    trust(...flags: string[]): Promise<Outcome>
    /** The keys whose lines are marked. */
    marked(): Promise<string[]>
    status(): Promise<Record<string, unknown>>
  }

  const fresh = (): Mapping => {
    const mappings = join(scratch.dir, `run${runs++}`)
    const env = environment({ ...server!, endpoint: proxy.endpoint }, mappings)
    const dir = join(mappings, bucket.name)
    const index = (...flags: string[]): Promise<Outcome> =>
      keepgwOk(['index', bucket.name, '--json', ...flags], env)
    return {
      env,
      dir,
      index,
      trust: (...flags) => index('--etag=trust', '--etag-sample=0', ...flags),
      marked: async () => {
        const lines = (await treeLines(dir)).filter((line) => line.endsWith(MARK))
        return lines.map((line) => line.split('\t')[0]!.replace(/^.*?:.*?:/, ''))
      },
      status: async () => summaryOf(await keepgwOk(['status', bucket.name, '--json'], env)),
    }
  }
  const isRead = ({ method, path }: SeenRequest): boolean =>
    method === 'GET' && !path.includes('list-type=2')
  const isOf =
    (part: string) =>
    (request: SeenRequest): boolean =>
      isRead(request) && request.path.includes(part)
  const reads = (): number => proxy.requests.filter(isRead).length
  /** What the tree says without any trust. */
  let proven: string[]

  before(async () => {
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    for (let i = 0; i < SIMPLE; i++) await bucket.put(`simple/${i}`, `${i}`)
    await bucket.putLarge('large', randomBytes(6 << 20), 5 << 20)
    await bucket.put('empty', '')
    const mapping = fresh()
    await mapping.index()
    proven = await treeLines(mapping.dir)
  })
  beforeEach(() => {
    proxy.requests.length = 0
  })
  afterEach(() => proxy.clear())
  after(async () => {
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('reads a sample and what has no MD5 for an ETag, and marks the rest', async () => {
    const mapping = fresh()
    const { added, trusted, falseEtags } = summaryOf(await mapping.trust())
    assert.deepEqual({ added, trusted, falseEtags }, { added: 42, trusted: TRUSTED, falseEtags: 0 })
    assert.equal(reads(), 16 + 1)
    assert.equal((await mapping.marked()).length, TRUSTED)
    const lines = await treeLines(mapping.dir)
    assert.deepEqual(lines.map((line) => line.replace(MARK, '')).sort(), proven)
    assert.equal((await mapping.status()).trusted, TRUSTED)
    const { stdout } = await keepgwOk(['status', bucket.name], mapping.env)
    assert.match(stdout, /^trusted {5}24 segments/m)
  })

  it('leaves what it has trusted alone in the next run, and reads none of it', async () => {
    const mapping = fresh()
    await mapping.trust()
    proxy.requests.length = 0
    const { unchanged } = summaryOf(await mapping.trust())
    assert.equal(unchanged, 42)
    assert.equal(reads(), 0)
    assert.equal((await mapping.marked()).length, TRUSTED)
  })

  it('is taken from the environment, and reads as large a sample as it is told to', async () => {
    const mapping = fresh()
    mapping.env.KEEPGW_ETAG = 'trust'
    assert.equal(summaryOf(await mapping.index('--etag-sample=100%')).trusted, 0)
    const { stdout } = await keepgwOk(['index', bucket.name], fresh().env)
    assert.doesNotMatch(stdout, /ETag/)
  })

  it('is made good by a run without it, which ends where one without any trust does', async () => {
    const mapping = fresh()
    await mapping.trust()
    const { stdout } = await keepgwOk(['index', bucket.name, '--dry-run'], mapping.env)
    assert.match(stdout, /prove 24 that were trusted/)
    const some = (await mapping.marked()).filter((key) => key.startsWith('simple/1'))
    proxy.requests.length = 0
    assert.equal(summaryOf(await mapping.index('--prefix=simple/1')).proven, some.length)
    assert.equal(reads(), some.length)
    const { changed, unchanged, proven: count } = summaryOf(await mapping.index())
    assert.deepEqual(
      { changed, unchanged, count },
      { changed: 0, unchanged: 42, count: TRUSTED - some.length },
    )
    assert.deepEqual(await treeLines(mapping.dir), proven)
    assert.equal((await mapping.status()).trusted, 0)
  })

  it('is proven by blocks that are served, once the next run has heard of it', async () => {
    const mapping = fresh()
    await mapping.trust()
    const [first = '', ...others] = await mapping.marked()
    const text = first.replace('simple/', '')
    const served = await serve([`s3:${mapping.dir}:${bucket.name}`], mapping.env)
    for (let i = 0; i < 3; i++) {
      const answer = await fetch(`${served.url}/${md5(text)}+${text.length}`)
      assert.equal(await answer.text(), text)
    }
    await served.stop()
    assert.equal(summaryOf(await mapping.trust()).proven, 1)
    assert.deepEqual((await mapping.marked()).sort(), others.sort())
    assert.equal((await mapping.status()).trusted, others.length)
    assert.equal(summaryOf(await mapping.trust()).proven, 0)
  })

  it('is proven by verify', async () => {
    const mapping = fresh()
    await mapping.trust()
    await keepgwOk(['verify', '--all'], mapping.env)
    assert.equal(summaryOf(await mapping.trust()).proven, TRUSTED)
    assert.deepEqual(await treeLines(mapping.dir), proven)
  })

  it('ends with the first false ETag: whatever was trusted is read, and none is any more', async () => {
    const mapping = fresh()
    await mapping.trust()
    for (let i = 0; i < 20; i++) await bucket.put(`new/${i}`, `new ${i}`)
    try {
      proxy.on(isOf('/new/'), { kind: 'flip', at: 0 })
      const outcome = await mapping.trust('--prefix=new/')
      assert.match(outcome.stderr, /the ETag of "?new\/\d+"? is not the MD5 of its bytes/)
      const { trusted, proven: count, falseEtags } = summaryOf(outcome)
      assert.deepEqual(
        { trusted, count, falseEtags },
        { trusted: 0, count: TRUSTED, falseEtags: 20 },
      )
      assert.equal((await mapping.status()).trusted, 0)
      const lines = await treeLines(mapping.dir)
      assert.deepEqual(
        lines.filter((line) => !line.includes(':new/')),
        proven,
      )
      const wrong = `${createHash('md5').update(`${'\x91'}ew 1`, 'latin1').digest('hex')} 0:5:new/1\t`
      assert.ok(lines.some((line) => line.startsWith(wrong)))
      proxy.clear()
      const described = await readFile(join(mapping.dir, '.keepgw/remote.json'), 'utf8')
      assert.equal(JSON.parse(described).etagIsMd5, false)

      for (let i = 0; i < 20; i++) await bucket.put(`new/${i}`, `newer ${i}`)
      const again = await mapping.trust()
      assert.match(again.stderr, /has proved not to be an MD5: all objects are read/)
      const { changed, trusted: more } = summaryOf(again)
      assert.deepEqual({ changed, more }, { changed: 20, more: 0 })
    } finally {
      for (let i = 0; i < 20; i++) await bucket.remove(`new/${i}`)
    }
  })

  it('says of wrong data that its hash was trusted, and reads it anew after a repair', async () => {
    const mapping = fresh()
    await mapping.trust()
    const [first = ''] = await mapping.marked()
    const text = first.replace('simple/', '')
    const isFirst = (request: SeenRequest): boolean =>
      isRead(request) && new URL(request.path, proxy.endpoint).pathname.endsWith(`/${first}`)
    proxy.on(isFirst, { kind: 'flip', at: 0 })
    const served = await serve([`s3:${mapping.dir}:${bucket.name}`], mapping.env)
    assert.equal((await fetch(`${served.url}/${md5(text)}+${text.length}`)).status, 502)
    const logged = served.log().find(({ cause }) => cause === 'corrupt')
    assert.match(String(logged?.reason), /ETag, which was trusted/)
    await served.stop()
    const verified = await keepgw(['verify', md5(text), '--repair'], mapping.env)
    assert.equal(verified.code, 1)
    assert.match(verified.stdout, /corrupt .*ETag, which was trusted/)
    const { changed, falseEtags, proven: count } = summaryOf(await mapping.trust())
    assert.deepEqual(
      { changed, falseEtags, count },
      { changed: 1, falseEtags: 1, count: TRUSTED - 1 },
    )
  })

  it('forgets the marks of what changes, and of what goes', async () => {
    const mapping = fresh()
    for (let i = 0; i < 20; i++) await bucket.put(`going/${i}`, `going ${i}`)
    await mapping.trust('--prefix=going/')
    assert.equal((await mapping.status()).trusted, 4)
    for (let i = 0; i < 20; i++) await bucket.put(`going/${i}`, `${i} went`)
    await mapping.trust('--prefix=going/')
    assert.equal((await mapping.status()).trusted, 4)
    for (let i = 0; i < 20; i++) await bucket.remove(`going/${i}`)
    await mapping.trust('--prefix=going/', '--allow-drop=100')
    assert.equal((await mapping.status()).trusted, 0)
  })

  it('is refused for a directory, and with a sample that is no share', async () => {
    const dir = join(scratch.dir, 'files')
    await mkdir(dir)
    const { env } = fresh()
    const files = await keepgw(['index', dir, '--etag=trust'], env)
    assert.equal(files.code, 2)
    assert.match(files.stderr, /files have no ETag to trust/)
    for (const sample of ['101', '-1', 'x', '']) {
      const { code } = await keepgw(
        ['index', bucket.name, '--etag=trust', `--etag-sample=${sample}`],
        env,
      )
      assert.equal(code, 2, sample)
    }
  })
})
