/** Index runs that end early because they were told to, and what the next ones make of it. */
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before, describe, it } from 'node:test'
import { inspect } from '../crashes/state.ts'
import { s3Error } from '../faults/fault.ts'
import { type FaultProxy, type SeenRequest, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, summaryOf, temporary, treeLines } from './keepgw.ts'

const OBJECTS = 10
const server = sharedS3()

describe('an index run with limits', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let reference: Awaited<ReturnType<typeof stateOf>>

  const env = () => environment({ ...server!, endpoint: proxy.endpoint }, scratch.dir)
  const mappingOf = (name: string): string => join(scratch.dir, name)
  const index = (mapping: string, ...flags: string[]): string[] => {
    return ['index', bucket.name, '--mappings', mapping, '--json', ...flags]
  }
  const run = async (mapping: string, ...flags: string[]) => {
    return summaryOf(await keepgwOk(index(mapping, ...flags), env()))
  }
  const isRead = ({ method, path }: SeenRequest): boolean => {
    return method === 'GET' && path.includes('/object-')
  }
  /** All that a mapping holds. */
  async function stateOf(mapping: string) {
    const { records } = await inspect(mapping)
    return { lines: await treeLines(mapping), records }
  }

  before(async () => {
    scratch = await temporary()
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    for (let i = 0; i < OBJECTS; i++) await bucket.put(`object-${i}`, `content ${i}`)
    await run(mappingOf('reference'))
    reference = await stateOf(mappingOf('reference'))
    assert.equal(reference.lines.length, OBJECTS)
  })
  afterEach(() => proxy.clear())
  after(async () => {
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('reads --max-objects, and the next one the next of them, until all are read', async () => {
    const mapping = mappingOf('max-objects')
    const added: unknown[] = []
    const incomplete: unknown[] = []
    for (let i = 0; i < 4; i++) {
      const seen = proxy.requests.length
      const summary = await run(mapping, '--max-objects=3')
      added.push(summary.added)
      incomplete.push(summary.incomplete)
      assert.equal(proxy.requests.slice(seen).filter(isRead).length, summary.added)
    }
    assert.deepEqual(added, [3, 3, 3, 1])
    assert.deepEqual(incomplete, ['max-objects', 'max-objects', 'max-objects', undefined])
    assert.deepEqual(await stateOf(mapping), reference)
  })

  it('counts what it asks of the store', async () => {
    const mapping = mappingOf('requests')
    const seen = proxy.requests.length
    const first = await run(mapping)
    const lists = proxy.requests.slice(seen).filter(({ path }) => path.includes('list-type'))
    assert.deepEqual(first.requests, { list: lists.length, get: OBJECTS, head: 0 })
    assert.equal(first.requestCostUsd, undefined, 'it is not Amazon who is asked')
    const again = await run(mapping)
    assert.deepEqual(again.requests, { list: lists.length, get: 0, head: 0 })
  })

  it('is complete where the limit is just what there is', async () => {
    const summary = await run(mappingOf('just-enough'), `--max-objects=${OBJECTS}`)
    assert.equal(summary.incomplete, undefined)
    assert.deepEqual(await stateOf(mappingOf('just-enough')), reference)
  })

  it('says that it is incomplete, as status does until a whole run', async () => {
    const mapping = mappingOf('says')
    const text = ['index', bucket.name, '--mappings', mapping, '--max-objects=1']
    const { stdout } = await keepgwOk(text, env())
    assert.match(stdout, /incomplete: it ended at --max-objects\n$/)
    const status = ['status', '--mappings', mapping]
    assert.match((await keepgwOk(status, env())).stdout, /incomplete \(it ended at --max-objects\)/)
    const { lastRun } = summaryOf(await keepgwOk([...status, '--json'], env()))
    const { outcome, incomplete } = lastRun as Record<string, unknown>
    assert.deepEqual({ outcome, incomplete }, { outcome: 'incomplete', incomplete: 'max-objects' })
    await run(mapping)
    assert.match((await keepgwOk(status, env())).stdout, /last run +complete, /)
  })

  it('drops nothing, and the whole run after it drops what vanished', async () => {
    const mapping = mappingOf('drops')
    await bucket.put('a-vanishing', 'it goes')
    await run(mapping)
    await bucket.remove('a-vanishing')
    await bucket.put('object-new-1', 'new 1')
    await bucket.put('object-new-2', 'new 2')
    try {
      const limited = await run(mapping, '--max-objects=1')
      assert.deepEqual([limited.dropped, limited.incomplete], [0, 'max-objects'])
      assert.ok((await inspect(mapping)).records.has('a-vanishing'))
      const whole = await run(mapping, '--max-objects=1')
      assert.deepEqual([whole.dropped, whole.incomplete], [1, undefined])
      assert.ok(!(await inspect(mapping)).records.has('a-vanishing'))
    } finally {
      await bucket.remove('object-new-1')
      await bucket.remove('object-new-2')
    }
  })

  it('is not kept from the others by objects that it cannot read', async () => {
    const refused = (request: SeenRequest): boolean => /\/object-[0-4]/.test(request.path)
    proxy.on(refused, s3Error(403, 'AccessDenied', 'Not for you'))
    const mapping = mappingOf('unreadable')
    const outcome = await keepgw(index(mapping, '--max-objects=3'), env())
    assert.equal(outcome.code, 3, outcome.stderr)
    const { added, incomplete } = summaryOf(outcome)
    assert.deepEqual({ added, incomplete }, { added: 3, incomplete: 'max-objects' })
  })

  it('ends at --max-duration, though the store does not answer, with what it had read', async () => {
    let reads = 0
    proxy.on((request) => isRead(request) && ++reads > 4, { kind: 'stall' })
    const mapping = mappingOf('max-duration')
    const first = await run(mapping, '--max-duration=3s')
    const added = Number(first.added)
    assert.ok(added <= 4, 'the others were not answered')
    assert.deepEqual([first.dropped, first.incomplete], [0, 'max-duration'])
    proxy.clear()
    const rest = await run(mapping, '--max-duration=1h')
    assert.deepEqual(
      [rest.added, rest.unchanged, rest.incomplete],
      [OBJECTS - added, added, undefined],
    )
    assert.deepEqual(await stateOf(mapping), reference)
  })

  it('ends at --max-duration while the store does not answer a listing', async () => {
    proxy.on(({ path }) => path.includes('list-type'), { kind: 'stall' })
    const { listed, incomplete } = await run(mappingOf('listing'), '--max-duration=1s')
    assert.deepEqual({ listed, incomplete }, { listed: 0, incomplete: 'max-duration' })
  })

  it('with --etag=trust counts what is trusted', async () => {
    const mapping = mappingOf('trust')
    const flags = ['--etag=trust', '--max-objects=6']
    const first = await run(mapping, ...flags)
    assert.deepEqual([first.added, first.incomplete], [6, 'max-objects'])
    const second = await run(mapping, ...flags)
    assert.deepEqual([second.added, second.incomplete], [4, undefined])
    assert.deepEqual((await stateOf(mapping)).lines.length, OBJECTS)
  })
})

describe('an index run over a directory', () => {
  it('has the same limits', async () => {
    const { dir, remove } = await temporary()
    try {
      await mkdir(join(dir, 'data'))
      for (let i = 0; i < 5; i++) await writeFile(join(dir, 'data', `${i}`), `content ${i}`)
      const mapping = join(dir, 'mapping')
      const args = ['index', join(dir, 'data'), '--mappings', mapping, '--json']
      const limits = ['--max-objects=3', '--max-duration=1h', '--bandwidth-limit=1M']
      const env = { PATH: process.env.PATH, HOME: dir }
      const first = summaryOf(await keepgwOk([...args, ...limits], env))
      assert.deepEqual([first.added, first.incomplete], [3, 'max-objects'])
      const second = summaryOf(await keepgwOk([...args, ...limits], env))
      assert.deepEqual([second.added, second.incomplete], [2, undefined])
      assert.equal((await treeLines(mapping)).length, 5)
    } finally {
      await remove()
    }
  })

  it('takes no limit that cannot be meant', async () => {
    const env = { PATH: process.env.PATH, HOME: '/nonexistent' }
    for (const flag of [
      '--max-objects=0',
      '--max-duration=90',
      '--max-duration=0s',
      '--max-duration=25d',
      '--bandwidth-limit=fast',
      '--bandwidth-limit=1K',
    ]) {
      const { code, stderr } = await keepgw(['index', '/nonexistent', flag], env)
      assert.equal(code, 2, `${flag}: ${stderr}`)
      assert.match(stderr, /^keepgw: .*\n$/, flag)
    }
    const { code } = await keepgw(['index', '/data', '--dry-run', '--max-objects=1'], env)
    assert.equal(code, 2)
  })
})
