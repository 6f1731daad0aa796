/** Index runs that are stopped in the middle, or that meet another one. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Content, store } from '../crashes/bucket.ts'
import { inspect } from '../crashes/state.ts'
import { s3Error } from '../faults/fault.ts'
import { type FaultProxy, type Rule, type SeenRequest, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, start, summaryOf, temporary, treeLines } from './keepgw.ts'

const OBJECTS = 200
const CONCURRENCY = 4
const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))
const server = sharedS3()

describe('an index run in the middle', { skip: server === undefined && NO_S3 }, () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let bucket: TestBucket
  let proxy: FaultProxy
  let reference: string[]
  const children: ChildProcess[] = []

  const env = () => environment({ ...server!, endpoint: proxy.endpoint }, scratch.dir)
  const mappingOf = (name: string) => join(scratch.dir, name)
  const index = (mapping: string) => [
    'index',
    bucket.name,
    `--concurrency=${CONCURRENCY}`,
    '--mappings',
    mapping,
  ]
  const isRead = ({ method, path }: SeenRequest) => method === 'GET' && !path.includes('list-type')
  const status = async (mapping: string) => {
    return summaryOf(await keepgwOk(['status', '--mappings', mapping, '--json'], env()))
  }

  before(async () => {
    scratch = await temporary()
    proxy = await startFaultProxy(server!)
    bucket = await makeBucket(server!)
    const content: [string, string][] = Array.from({ length: OBJECTS }, (_, i) => {
      return [`object-${i}`, `content ${i}`]
    })
    await store(bucket, new Map(), new Map(content) satisfies Content)
    await keepgwOk(index(mappingOf('reference')), env())
    reference = await treeLines(mappingOf('reference'))
    assert.equal(reference.length, OBJECTS)
  })

  after(async () => {
    for (const child of children) child.kill('SIGKILL')
    await bucket?.destroy()
    await proxy?.stop()
    await scratch?.remove()
  })

  /** Lets so many reads through, and answers no more until proxy.clear(). */
  function holdReadsAfter(count: number): Rule {
    let reads = 0
    return proxy.on((request) => isRead(request) && ++reads > count, { kind: 'stall' })
  }

  /** Starts a run that has read so many objects and waits for the store. */
  async function startHeld(mapping: string, count: number) {
    const held = holdReadsAfter(count)
    const child = start(index(mapping), env())
    children.push(child)
    // With all of them held, no request of this run can come late and be taken for the next one's.
    await until(child, () => held.hits === CONCURRENCY)
    await until(child, () => {
      child.kill('SIGUSR1')
      return child.output.stderr.includes(` ${count} read, `)
    })
    return child
  }

  /** Runs to the end, and asserts that only what was not recorded is read. */
  async function readTheRest(mapping: string, recorded: number): Promise<void> {
    const seen = proxy.requests.length
    await keepgwOk(index(mapping), env())
    assert.equal(proxy.requests.slice(seen).filter(isRead).length, OBJECTS - recorded)
    assert.deepEqual(await treeLines(mapping), reference)
    const { objects, running } = await status(mapping)
    assert.deepEqual({ objects, running }, { objects: OBJECTS, running: undefined })
  }

  // The second count leaves one object that is not asked for yet, with the listing at its end.
  for (const [signal, count] of [
    ['SIGINT', 100],
    ['SIGTERM', OBJECTS - 5],
  ] as const) {
    it(`ends with 130 at a ${signal}, and has kept what it had read`, async () => {
      const mapping = mappingOf(signal)
      const child = await startHeld(mapping, count)
      child.kill(signal)
      await once(child, 'close')
      proxy.clear()
      assert.equal(child.exitCode, 130, child.output.stderr)
      assert.match(child.output.stderr, /interrupted/)
      const { records, intent } = await inspect(mapping)
      assert.equal(records.size, count)
      assert.equal(intent, undefined)
      const { lastRun } = await status(mapping)
      assert.equal((lastRun as { outcome: string }).outcome, 'interrupted')
      await readTheRest(mapping, count)
    })
  }

  it('ends with 130 at a SIGINT while the store does not answer a listing', async () => {
    const rule = proxy.on(({ path }) => path.includes('list-type'), { kind: 'stall' })
    const child = start(index(mappingOf('listing')), env())
    await until(child, () => rule.hits > 0)
    child.kill('SIGINT')
    await once(child, 'close')
    proxy.clear()
    assert.equal(child.exitCode, 130, child.output.stderr)
    await readTheRest(mappingOf('listing'), 0)
  })

  it('ends with 130 at a SIGINT while the store does not say whether an object is there', async () => {
    const isIt = ({ path }: SeenRequest): boolean => path.endsWith('/object-0')
    const isLook = (request: SeenRequest): boolean => isIt(request) && request.method === 'HEAD'
    const changed = s3Error(412, 'PreconditionFailed', 'One did not hold')
    const looks = proxy.on(isLook, { kind: 'stall' })
    proxy.on(isIt, changed)
    const child = start([...index(mappingOf('looked')), '--include=object-0'], env())
    children.push(child)
    await until(child, () => looks.hits > 0)
    child.kill('SIGINT')
    await once(child, 'close')
    proxy.clear()
    assert.equal(child.exitCode, 130, child.output.stderr)
    assert.equal(looks.hits, 1)
  })

  it('of verify ends with 130 at a SIGINT, and asks a silent store for nothing more', async () => {
    const held = holdReadsAfter(0)
    const hashes = reference.slice(0, CONCURRENCY).map((line) => line.slice(0, 32))
    const child = start(['verify', ...hashes, '--mappings', mappingOf('reference')], env())
    children.push(child)
    await until(child, () => held.hits === CONCURRENCY)
    child.kill('SIGINT')
    await once(child, 'close')
    proxy.clear()
    assert.equal(child.exitCode, 130, child.output.stderr)
    assert.equal(held.hits, CONCURRENCY)
  })

  it('has recorded what it had read some seconds before a kill -9', async () => {
    const mapping = mappingOf('killed')
    const child = await startHeld(mapping, 100)
    await until(child, async () => (await inspect(mapping)).records.size === 100)
    child.kill('SIGKILL')
    await once(child, 'close')
    proxy.clear()
    await readTheRest(mapping, 100)
  })

  it('holds the lock, and a second run leaves it in peace', async () => {
    const mapping = mappingOf('locked')
    const child = await startHeld(mapping, 100)
    const second = await keepgw(index(mapping), env())
    assert.equal(second.code, 4)
    assert.match(second.stderr, new RegExp(`locked by keepgw index \\(pid ${child.pid} on `))
    const { running } = await status(mapping)
    assert.equal((running as { pid: number }).pid, child.pid)
    proxy.clear()
    await once(child, 'close')
    assert.equal(child.exitCode, 0, child.output.stderr)
    assert.deepEqual(await treeLines(mapping), reference)
    assert.equal((await status(mapping)).running, undefined)
  })

  it('holds no lock once killed, even where its parent has not taken notice', async () => {
    const mapping = mappingOf('zombie')
    const held = holdReadsAfter(0)
    const script = '"$@" & echo $!; exec cat'
    const args = ['-c', script, 'sh', process.execPath, CLI, ...index(mapping)]
    // A shell that becomes `cat`, which takes no notice of children.
    const parent = spawn('sh', args, { env: env(), stdio: ['pipe', 'pipe', 'ignore'] })
    children.push(parent)
    const pid = Number(String((await once(parent.stdout, 'data'))[0]))
    await until(parent, () => held.hits === CONCURRENCY)
    process.kill(pid, 'SIGKILL')
    await until(parent, () => /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')))
    proxy.clear()
    await readTheRest(mapping, 0)
  })
})

/** Asks until the condition holds; throws where the process ends before. */
async function until(
  child: { exitCode: number | null; output?: { stderr: string } },
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  while (!(await condition())) {
    assert.equal(child.exitCode, null, child.output?.stderr)
    await delay(50)
  }
}
