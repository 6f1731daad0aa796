/** What goes wrong ends in one line that says what to do, and in the documented exit code. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, type Outcome, start, temporary, until } from './keepgw.ts'

const server = sharedS3()

/** One line on stderr, none of them a stack trace, that matches; and the exit code. */
function assertEnds(outcome: Outcome, code: number, message: RegExp): void {
  assert.equal(outcome.code, code, outcome.stderr)
  assert.match(outcome.stderr, message)
  assert.match(outcome.stderr, /^keepgw: .*\n$/, 'not one line')
  if (server !== undefined) assert.ok(!outcome.stderr.includes(server.secretAccessKey))
}

describe('errors', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv

  before(async () => {
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    env = environment(server!, scratch.dir)
    for (let i = 0; i < 20; i++) await bucket.put(`key${i}`, `data ${i}`)
    await keepgwOk(['index', bucket.name], env)
  })
  after(async () => {
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('a wrong bucket: 1', async () => {
    assertEnds(await keepgw(['index', 'keepgw-no-such-bucket'], env), 1, /NoSuchBucket.*Check/)
  })

  it('wrong credentials: 1, and the secret is not shown', async () => {
    const wrong = { ...env, AWS_SECRET_ACCESS_KEY: 'wrong-and-secret' }
    const outcome = await keepgw(['index', bucket.name], wrong)
    assertEnds(outcome, 1, /SignatureDoesNotMatch.*Check|AccessDenied.*credentials/)
    assert.ok(!outcome.stderr.includes('wrong-and-secret'))
  })

  it('no credentials: 1', async () => {
    const { AWS_ACCESS_KEY_ID: _id, AWS_SECRET_ACCESS_KEY: _secret, ...none } = env
    assertEnds(await keepgw(['index', bucket.name], none), 1, /credentials.*--profile/)
  })

  it('no server at the endpoint: 1', async () => {
    await proxy.down()
    const gone = environment({ ...server!, endpoint: proxy.endpoint }, join(scratch.dir, 'down'))
    const outcome = await keepgw(['index', bucket.name], gone)
    await proxy.up()
    assertEnds(outcome, 1, /ECONNREFUSED.*--endpoint-url/)
  })

  it('an endpoint that is none: 2', async () => {
    const args = [
      'index',
      bucket.name,
      '--endpoint-url',
      'nowhere',
      '--mappings',
      `${scratch.dir}/n`,
    ]
    assertEnds(await keepgw(args, env), 2, /"nowhere" is no endpoint.*http/)
  })

  it('a prefix that is not in the part of the bucket: 2, and nothing is listed', async () => {
    const index = ['index', `s3://${bucket.name}/runs/`, '--mappings', join(scratch.dir, 'part')]
    const outcome = await keepgw([...index, '--prefix', '2026/'], env)
    assertEnds(outcome, 2, /--prefix 2026\/ is not in s3:.*\/runs\/? .*whole keys: runs\//)
    for (const prefix of ['runs/2026/', 'ru']) {
      assert.equal((await keepgw([...index, '--prefix', prefix], env)).code, 0)
    }
  })

  it('a mapping that cannot be written: 1', async () => {
    await writeFile(join(scratch.dir, 'file'), '')
    const args = ['index', bucket.name, '--mappings', join(scratch.dir, 'file/below')]
    assertEnds(await keepgw(args, env), 1, /cannot write the mapping.*--mappings/)
    // Root may write anywhere but here.
    const proc = ['index', bucket.name, '--mappings', '/proc/keepgw']
    assertEnds(await keepgw(proc, env), 1, /cannot write the mapping.*--mappings/)
  })

  it('a mapping of another bucket: 2, for index, verify and serve', async () => {
    const mapping = join(scratch.dir, bucket.name)
    const index = ['index', 'another-bucket', '--mappings', mapping]
    assertEnds(await keepgw(index, env), 2, /is of s3:.*not of s3:\/\/another-bucket.*--mappings/)
    const verify = ['verify', '--bucket', 'another-bucket', '--mappings', mapping, '--all']
    assertEnds(await keepgw(verify, env), 2, /not of s3:\/\/another-bucket/)
    const elsewhere = ['verify', '--mappings', mapping, '--all', '--endpoint-url=http://elsewhere']
    assertEnds(await keepgw(elsewhere, env), 2, /not of s3:.* at http:\/\/elsewhere/)
    const serve = ['serve', `--volume=s3:${mapping}:another-bucket`]
    assertEnds(await keepgw(serve, env), 2, /another one than s3:\/\/another-bucket/)
  })

  it('a second run at the same time: 4, and the first one is unharmed', async () => {
    const slow = environment({ ...server!, endpoint: proxy.endpoint }, join(scratch.dir, 'two'))
    const stall = proxy.on(({ path }) => path.includes('/key7'), { kind: 'stall' })
    const first = start(['index', bucket.name], slow)
    await until(() => stall.hits > 0 || first.exitCode !== null)
    const second = await keepgw(['index', bucket.name], slow)
    assertEnds(second, 4, new RegExp(`locked by keepgw index \\(pid ${first.pid} .*It is running`))
    stall.release()
    await once(first, 'close')
    assert.equal(first.exitCode, 0, first.output.stderr)
    assert.match(first.output.stdout, /20 new/)
  })

  it('an unknown flag, command, or missing argument: 2', async () => {
    assertEnds(await keepgw(['index', bucket.name, '--frobnicate'], env), 2, /--frobnicate.*--help/)
    assertEnds(await keepgw(['frobnicate'], env), 2, /frobnicate.*--help/)
    const argument = await keepgw(['serve', bucket.name], env)
    assertEnds(argument, 2, new RegExp(`serve takes no argument "${bucket.name}" .*serve --help`))
    const word = await keepgw(['collection', 'creat', 'x'], env)
    assertEnds(word, 2, /no command collection creat .*keepgw collection --help/)
    const flag = await keepgw(['collection', 'create', '--frobnicate'], env)
    assertEnds(flag, 2, /--frobnicate.*keepgw collection create --help/)
    assertEnds(await keepgw(['index'], env), 2, /BUCKET|bucket.*--help/)
    assertEnds(await keepgw(['index', 'a b'], env), 2, /"a b" names no bucket.*s3:/)
    assertEnds(await keepgw(['verify', 'xyz'], env), 2, /"xyz" is no hash/)
    assertEnds(await keepgw(['index', bucket.name, '--include', '[a'], env), 2, /glob "\[a" is not/)
  })

  it('a bucket that was emptied: 1, and nothing is forgotten without the flag', async () => {
    const own = await makeBucket(server!)
    await own.put('only', 'data')
    await keepgwOk(['index', own.name], env)
    await own.remove('only')
    assertEnds(await keepgw(['index', own.name], env), 1, /1 of 1 .*--allow-drop 100/)
    const { stdout } = await keepgwOk(['status', own.name, '--json'], env)
    assert.equal(JSON.parse(stdout).objects, 1)
    const dropped = await keepgwOk(['index', own.name, '--allow-drop', '100'], env)
    assert.match(dropped.stdout, /1 dropped/)
    await own.destroy()
  })

  it('a bucket whose objects were all replaced: 1, and what is new does not hide it', async () => {
    const own = await makeBucket(server!)
    for (let i = 0; i < 12; i++) await own.put(`old${i}`, `old ${i}`)
    await keepgwOk(['index', own.name], env)
    for (let i = 0; i < 12; i++) await own.remove(`old${i}`)
    for (let i = 0; i < 60; i++) await own.put(`new${i}`, `new ${i}`)
    assertEnds(await keepgw(['index', own.name], env), 1, /12 of 12 .*--allow-drop 100/)
    await own.destroy()
  })

  it('a reader of the output that leaves does not turn a failure into a success', async () => {
    const child = start(['index', 'keepgw-no-such-bucket', '--json'], env)
    child.stdout!.destroy()
    await once(child, 'close')
    assert.equal(child.exitCode, 1)
  })

  it('a mapping among the files that are indexed: 2', async () => {
    const dir = join(scratch.dir, 'among')
    await mkdir(dir)
    const outcome = await keepgw(['index', dir, '--mappings', join(dir, 'mapping')], env)
    assertEnds(outcome, 2, /lies in the directory that is indexed.*--mappings/)
  })

  it('an object that cannot be read: 3, and the others are indexed', async () => {
    const apart = environment({ ...server!, endpoint: proxy.endpoint }, join(scratch.dir, 'three'))
    const body = '<Error><Code>AccessDenied</Code><Message>No</Message></Error>'
    const isIt = ({ path }: { path: string }): boolean => path.endsWith('/key3')
    proxy.on(isIt, { kind: 'answer', status: 403, body })
    const outcome = await keepgw(['index', bucket.name], apart)
    proxy.clear()
    assertEnds(outcome, 3, /not indexed: .*key3: AccessDenied/)
    assert.match(outcome.stdout, /19 new.*1 not readable/)
    assert.match((await keepgwOk(['index', bucket.name], apart)).stdout, /1 new.*19 unchanged/)
  })

  it('a listener beyond loopback without --insecure-unsigned: 2', async () => {
    const volume = `--volume=s3:${join(scratch.dir, bucket.name)}:${bucket.name}`
    const outcome = await keepgw(['serve', volume, '--listen=0.0.0.0:0'], env)
    assertEnds(outcome, 2, /--insecure-unsigned/)
  })

  it('a mapping that is away, for serve: 1', async () => {
    await mkdir(join(scratch.dir, 'empty'))
    const volume = `--volume=s3:${join(scratch.dir, 'empty')}:${bucket.name}`
    assertEnds(await keepgw(['serve', volume], env), 1, /out of reach.*mounted/)
  })

  it('the flags of the design page of 2015 still work', async () => {
    const volume = `-volume=s3:${join(scratch.dir, bucket.name)}:another-bucket`
    assertEnds(await keepgw(['serve', volume], env), 2, /another one than/)
  })
})
