/** What `keepgw index` makes of buckets and directories as they are. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { noSuchKey, s3Error } from '../faults/fault.ts'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import {
  environment,
  keepgw,
  keepgwOk,
  serve,
  start,
  summaryOf,
  temporary,
  treeLines,
  until,
} from './keepgw.ts'

const server = sharedS3()
const preconditionFailed = s3Error(412, 'PreconditionFailed', 'At least one did not hold')

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex')
}

describe('index', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let runs = 0

  /** An environment with no mapping yet, that goes through the proxy. */
  const fresh = (): NodeJS.ProcessEnv & { KEEPGW_MAPPINGS: string } => {
    const mappings = join(scratch.dir, `run${runs++}`)
    const access = { ...server!, endpoint: proxy.endpoint }
    return { ...environment(access, mappings), KEEPGW_MAPPINGS: mappings }
  }
  const lines = async (env: { KEEPGW_MAPPINGS: string }): Promise<string[]> => {
    const all = await treeLines(join(env.KEEPGW_MAPPINGS, bucket.name))
    return all.map((line) => line.split('\t')[0]!)
  }
  const lineOf = (key: string, text: string): string => `${md5(text)} 0:${text.length}:${key}`

  before(async () => {
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    for (const key of ['a/1', 'a/2.bam', 'b/1', 'b/deep/2.bam', 'c']) await bucket.put(key, key)
    await bucket.put('empty', '')
    await bucket.put('folder/', '')
  })
  afterEach(() => proxy.clear())
  after(async () => {
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('records empty objects and folder markers in the catalog, without a line', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name], env)
    const { stdout } = await keepgwOk(['status', bucket.name, '--json'], env)
    const { objects, segments } = JSON.parse(stdout)
    assert.deepEqual({ objects, segments }, { objects: 7, segments: 5 })
    assert.equal((await lines(env)).length, 5)
    assert.equal(summaryOf(await keepgwOk(['index', bucket.name, '--json'], env)).unchanged, 7)
  })

  it('drops nothing outside of its prefixes and filters', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name, '--prefix', 'a/', '--prefix', 'b/'], env)
    assert.equal((await lines(env)).length, 4)
    const some = ['index', bucket.name, '--include', '*.bam', '--exclude', 'b/**', '--json']
    const { listed, dropped } = summaryOf(await keepgwOk(some, env))
    assert.deepEqual({ listed, dropped }, { listed: 1, dropped: 0 })
    await keepgwOk(['index', bucket.name, '--prefix', 'c'], env)
    assert.equal((await lines(env)).length, 5)
  })

  it('only says what it would do with --dry-run', async () => {
    const env = fresh()
    proxy.requests.length = 0
    const { stdout } = await keepgwOk(['index', bucket.name, '--dry-run'], env)
    assert.match(stdout, /^7 objects: would read 7 new/)
    assert.ok(!existsSync(env.KEEPGW_MAPPINGS))
    assert.ok(!proxy.requests.some(({ path }) => path.includes('/a/1')))
  })

  it('prints one line, or none with --quiet', async () => {
    const env = fresh()
    const { stdout, stderr } = await keepgwOk(['index', bucket.name], env)
    assert.match(stdout, /^7 objects: 7 new, 0 changed, 0 unchanged, 0 dropped; read .*\n$/)
    assert.equal(stderr, '')
    const quiet = await keepgwOk(['index', bucket.name, '--quiet'], env)
    assert.equal(quiet.stdout + quiet.stderr, '')
  })

  it('skips what is archived, counts it, and keeps what it knew of it', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name], env)
    await bucket.put('c', 'colder')
    const isListing = ({ path }: { path: string }): boolean => path.includes('list-type=2')
    const contents = (await bucket.list()).map(
      ({ key, size, etag }) =>
        `<Contents><Key>${key}</Key><Size>${size}</Size><ETag>"${etag}"</ETag>` +
        `<StorageClass>${key === 'c' ? 'DEEP_ARCHIVE' : 'STANDARD'}</StorageClass></Contents>`,
    )
    const body = `<ListBucketResult><Name>${bucket.name}</Name><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`
    proxy.on(isListing, { kind: 'answer', status: 200, body })
    const { archived, unreadable, dropped } = summaryOf(
      await keepgwOk(['index', bucket.name, '--json'], env),
    )
    assert.deepEqual({ archived, unreadable, dropped }, { archived: 1, unreadable: 0, dropped: 0 })
    assert.ok((await lines(env)).includes(lineOf('c', 'c')))
    await bucket.put('c', 'c')
  })

  it('skips what proves to be archived when it is read, as Intelligent-Tiering does', async () => {
    const env = fresh()
    const archived = s3Error(403, 'InvalidObjectState', 'Not valid for its access tier')
    const rule = proxy.on(({ path }) => path.endsWith('/c'), archived)
    const { stdout, stderr } = await keepgwOk(['index', bucket.name], env)
    assert.match(stdout, /^7 objects: 6 new, 0 changed, 0 unchanged, 0 dropped, 1 archived/)
    assert.equal(stderr, '')
    assert.equal(rule.hits, 1)
  })

  it('names an object that is listed without an ETag, and keeps what it knew of it', async () => {
    const env = fresh()
    const isListing = ({ path }: { path: string }): boolean => path.includes('list-type=2')
    const contents = (await bucket.list()).map(({ key, size, etag }) => {
      const shown = key === 'c' ? '' : `"${etag}"`
      return `<Contents><Key>${key}</Key><Size>${size}</Size><ETag>${shown}</ETag></Contents>`
    })
    const body = `<ListBucketResult><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`
    proxy.on(isListing, { kind: 'answer', status: 200, body })
    const first = await keepgw(['index', bucket.name], env)
    assert.equal(first.code, 3)
    assert.match(first.stderr, /^keepgw: not indexed: c: the store lists it without an ETag\n$/)
    assert.match(first.stdout, /^7 objects: 6 new.*1 not readable/)
    proxy.clear()
    await keepgwOk(['index', bucket.name], env)
    proxy.on(isListing, { kind: 'answer', status: 200, body })
    const again = await keepgw(['index', bucket.name], env)
    assert.equal(again.code, 3)
    assert.match(again.stdout, /6 unchanged, 0 dropped, 1 not readable/)
    assert.ok((await lines(env)).includes(lineOf('c', 'c')))
  })

  it('reads an object that changes under its hands once more', async () => {
    const env = fresh()
    const isIt = ({ path }: { path: string }): boolean => path.endsWith('/a/1')
    const change = async (): Promise<void> => void (await bucket.put('a/1', 'other'))
    proxy.on(isIt, { kind: 'before', run: change }, { times: 1 })
    await keepgwOk(['index', bucket.name], env)
    assert.ok((await lines(env)).includes(lineOf('a/1', 'other')))
  })

  it('reports an object that never stands still, and exits with 3', async () => {
    const env = fresh()
    let version = 0
    const isIt = ({ path }: { path: string }): boolean => path.endsWith('/a/1')
    const change = async (): Promise<void> => void (await bucket.put('a/1', `v${version++}`))
    proxy.on(isIt, { kind: 'before', run: change })
    const { code, stderr, stdout } = await keepgw(['index', bucket.name], env)
    assert.equal(code, 3)
    assert.match(stderr, /^keepgw: not indexed: .*a\/1/)
    assert.match(stdout, /6 new.*1 not readable/)
    await bucket.put('a/1', 'a/1')
  })

  it('takes an object that goes while it is read for vanished', async () => {
    const env = fresh()
    await bucket.put('fleeting', 'x')
    const isIt = ({ path }: { path: string }): boolean => path.includes('/fleeting')
    proxy.on(isIt, { kind: 'before', run: () => bucket.remove('fleeting') }, { times: 1 })
    const { added, unreadable } = summaryOf(await keepgwOk(['index', bucket.name, '--json'], env))
    assert.deepEqual({ added, unreadable }, { added: 7, unreadable: 0 })
  })

  it('names an object that is listed and not there, and keeps what it knew of it', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name], env)
    await bucket.put('c', 'other')
    proxy.on(({ path }) => path.endsWith('/c'), noSuchKey)
    const { code, stderr, stdout } = await keepgw(['index', bucket.name], env)
    assert.equal(code, 3)
    assert.match(stderr, /^keepgw: not indexed: c: the store lists it, .* no such object\n$/)
    assert.match(stdout, /6 unchanged, 0 dropped, 1 not readable/)
    assert.ok((await lines(env)).includes(lineOf('c', 'c')))
    await bucket.put('c', 'c')
  })

  it('does without If-Match where a store answers 412 to its own ETags', async () => {
    const env = fresh()
    const isConditional = ({ headers }: { headers: NodeJS.Dict<string | string[]> }): boolean =>
      headers['if-match'] !== undefined
    proxy.on(isConditional, preconditionFailed)
    const { stderr } = await keepgwOk(['index', bucket.name], env)
    assert.match(stderr, /answers 412 to its own ETags/)
    assert.equal((await lines(env)).length, 5)
    const mapping = join(env.KEEPGW_MAPPINGS, bucket.name)
    const described = JSON.parse(await readFile(join(mapping, '.keepgw/remote.json'), 'utf8'))
    assert.equal(described.ifMatch, false)
    const served = await serve([`s3:${mapping}:${bucket.name}`], env)
    assert.equal(await (await fetch(`${served.url}/${md5('c')}+1`)).text(), 'c')
    await bucket.put('c', 'd')
    assert.equal((await fetch(`${served.url}/${md5('c')}+1`)).status, 404)
    await bucket.put('c', 'c')
    await served.stop()
  })

  it('remembers where the bucket is', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name], env)
    const { AWS_ENDPOINT_URL: _endpoint, ...without } = env
    const again = await keepgwOk(['index', bucket.name], without)
    // Amazon's prices are none of that store's.
    assert.match(again.stdout, /7 unchanged.*1 LIST, 0 GET, 0 HEAD requests\n$/)
    await keepgwOk(['verify', md5('c')], without)
    const { code, stderr } = await keepgw(
      ['index', bucket.name, '--endpoint-url', 'http://127.0.0.1:9'],
      without,
    )
    assert.equal(code, 2)
    assert.match(stderr, /is of s3:.* at .*, not of .* at http:\/\/127\.0\.0\.1:9/)
  })

  it('is served at once, without a restart of serve', async () => {
    const env = fresh()
    await keepgwOk(['index', bucket.name, '--prefix', 'a/'], env)
    const mapping = join(env.KEEPGW_MAPPINGS, bucket.name)
    const served = await serve([`s3:${mapping}:${bucket.name}`], env)
    assert.equal((await fetch(`${served.url}/${md5('c')}+1`)).status, 404)
    await keepgwOk(['index', bucket.name], env)
    assert.equal(await (await fetch(`${served.url}/${md5('c')}+1`)).text(), 'c')
    await served.stop()
  })

  it('says where it stands on SIGUSR1', async () => {
    const stall = proxy.on(({ path }) => path.endsWith('/a/1'), { kind: 'stall' })
    const child = start(['index', bucket.name], fresh())
    await until(() => stall.hits > 0 || child.exitCode !== null)
    child.kill('SIGUSR1')
    const [line] = await once(child.stderr!, 'data')
    assert.match(line, /^keepgw: 7 listed, 0 unchanged, \d read, \d waiting, /)
    stall.release()
    await once(child, 'close')
    assert.equal(child.exitCode, 0)
  })

  it('does the same with a directory, and serves it', async () => {
    const dir = join(scratch.dir, 'tree')
    await mkdir(join(dir, 'sub'), { recursive: true })
    await writeFile(join(dir, 'sub/one'), 'one')
    await writeFile(join(dir, 'two'), 'two')
    const env = fresh()
    const mapping = join(scratch.dir, 'tree-mapping')
    await keepgwOk(['index', dir, '--mappings', mapping], env)
    const served = await serve([`file:${mapping}:${dir}`], env)
    assert.equal(await (await fetch(`${served.url}/${md5('one')}+3`)).text(), 'one')
    await writeFile(join(dir, 'sub/one'), 'eno')
    assert.equal((await fetch(`${served.url}/${md5('one')}+3`)).status, 404)
    const again = await keepgwOk(['index', `file://${dir}`, '--mappings', mapping], env)
    assert.match(again.stdout, /0 new, 1 changed, 1 unchanged/)
    assert.equal(await (await fetch(`${served.url}/${md5('eno')}+3`)).text(), 'eno')
    await served.stop()
  })
})
