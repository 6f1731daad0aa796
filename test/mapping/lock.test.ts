import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { createInterface } from 'node:readline'
import { describe, it } from 'node:test'
import { ExitCode, KeepgwError } from '../../src/errors.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import type { Intent } from '../../src/mapping/catalog-contents.ts'
import { acquireLock, describeHolder } from '../../src/mapping/lock.ts'
import { openForWriting } from '../../src/mapping/open-mapping.ts'
import { Recorder } from '../../src/mapping/recorder.ts'
import { description, makeMapping, makeTree, readTree, smallRecord } from './fixture.ts'

const source = (name: string): string => new URL(`../../src/mapping/${name}`, import.meta.url).href

/** Says `ready`, waits for a line, tries to take the lock, says how that went, and stays. */
const CONTENDER = `
import { Catalog } from ${JSON.stringify(source('catalog.ts'))}
import { acquireLock } from ${JSON.stringify(source('lock.ts'))}
import { once } from 'node:events'
await Catalog.make(process.argv[1])
const catalog = Catalog.open(process.argv[1])
console.log('ready')
await once(process.stdin, 'data')
try {
  await acquireLock(catalog, 'child')
  console.log('held')
} catch (error) {
  console.log('refused ' + error.exitCode)
}
setInterval(() => {}, 1000)
`

/** A process that contends for the lock of a mapping. */
class Contender implements AsyncDisposable {
  readonly process: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(dir: string) {
    this.process = spawn(process.execPath, ['--input-type=module', '-e', CONTENDER, dir], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]()
  }

  async line(): Promise<string> {
    const { value } = await this.#lines.next()
    return value
  }

  async contend(): Promise<string> {
    this.process.stdin!.write('go\n')
    return await this.line()
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, 'exit')
    this.process.kill('SIGKILL')
    await ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}

async function startContender(dir: string): Promise<Contender> {
  const contender = new Contender(dir)
  assert.equal(await contender.line(), 'ready')
  return contender
}

const empty = { objects: 0, segments: 0, bytes: 0, blocks: 0, blockBytes: 0, trusted: 0 }

describe('the lock of a mapping', () => {
  it('is refused to a second holder, who is told the first, until it is given back', async () => {
    await using tree = await makeTree()
    await Catalog.make(tree.dir)
    const catalog = Catalog.open(tree.dir)
    const lock = await acquireLock(catalog, 'index')
    await assert.rejects(acquireLock(catalog, 'verify'), (error) => {
      assert.ok(error instanceof KeepgwError)
      assert.equal(error.exitCode, ExitCode.locked)
      assert.match(error.message, new RegExp(`keepgw index .*pid ${process.pid} on ${hostname()}`))
      assert.match(error.hint!, /running/)
      return true
    })
    await lock.release()
    await lock.release()
    const next = await acquireLock(catalog, 'verify')
    // The first one's is over; it must not give back what is the next one's.
    await lock.release()
    assert.equal(catalog.lockRecord()?.id, next.id)
    await catalog.close()
  })

  it('is held by a live process, and taken over from one that was killed', async () => {
    await using tree = await makeTree()
    await using child = await startContender(tree.dir)
    assert.equal(await child.contend(), 'held')
    const open = () => openForWriting(tree.dir, description, { command: 'index' })
    await assert.rejects(open(), {
      exitCode: ExitCode.locked,
      message: new RegExp(`pid ${child.process.pid} `),
    })
    await child.kill()
    const mapping = await open()
    assert.equal(mapping.catalog.lockRecord()?.pid, process.pid)
    await mapping.close()
  })

  it('goes to exactly one of those who find its holder dead', async () => {
    await using tree = await makeTree()
    await using dead = await startContender(tree.dir)
    assert.equal(await dead.contend(), 'held')
    await dead.kill()
    await using one = await startContender(tree.dir)
    await using two = await startContender(tree.dir)
    await using three = await startContender(tree.dir)
    const answers = await Promise.all([one, two, three].map((child) => child.contend()))
    assert.deepEqual(answers.sort(), ['held', 'refused 4', 'refused 4'])
  })

  it('can be broken; then the old holder writes nothing more', async () => {
    await using mapping = await makeMapping()
    const { dir, catalog, lock, recorder } = mapping
    await recorder.record([{ key: 'a', before: null, after: smallRecord(1) }])
    const begun: Intent = { changes: [], delta: empty, lost: [], found: [] }
    await catalog.begin(begun, lock.id)
    const tree = await readTree(dir)

    await assert.rejects(acquireLock(catalog, 'index', { breakLock: true }), /is locked by/)
    // Of another machine nothing can be seen from here.
    const elsewhere = { host: 'elsewhere', machineId: 'another', bootId: 'another' }
    await catalog.updateLock((held) => ({ ...held!, ...elsewhere }))
    const next = await acquireLock(catalog, 'index', { breakLock: true })
    const change = { key: 'b', before: null, after: smallRecord(2) }
    const locked = { exitCode: ExitCode.locked }
    await assert.rejects(catalog.finish({ ...begun, changes: [change] }, lock.id), locked)
    await assert.rejects(recorder.record([change]), locked)
    await assert.rejects(recorder.recover(), locked)
    assert.deepEqual(await readTree(dir), tree)
    assert.equal(catalog.get('b'), undefined)

    const newRecorder = new Recorder(dir, catalog, next.id)
    await newRecorder.recover()
    await newRecorder.record([change])
    const other = { key: 'c', before: null, after: smallRecord(3) }
    await assert.rejects(recorder.record([other]), locked)
    assert.deepEqual([...(await readTree(dir)).keys()].length, 2)
    await next.release()
  })
})

describe('a holder', () => {
  it('is described in one line', async () => {
    await using mapping = await makeMapping()
    assert.match(
      describeHolder(mapping.catalog.lockRecord()!),
      /^keepgw test \(pid \d+ on .*, since .*Z, last heard of \d+ s ago\)$/,
    )
  })
})
