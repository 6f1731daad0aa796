/** Several processes that answer at one address. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { get, type IncomingMessage } from 'node:http'
import { get as secureGet } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { signLocator } from '../../src/keep/signature.ts'
import { makeCertificate } from '../servers/certificate.ts'
import {
  keepgw,
  keepgwOk,
  type Served,
  serve,
  start as startKeepgw,
  temporary,
  until,
} from './keepgw.ts'

const WORKERS = 3
const MANAGEMENT = 'the-management-token'

describe('serve --workers', { timeout: 240_000 }, () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let volume: string
  const blocks = new Map<string, Buffer>()

  before(async () => {
    scratch = await temporary()
    const root = join(scratch.dir, 'data')
    const mappings = join(scratch.dir, 'mappings')
    env = {
      PATH: process.env.PATH,
      HOME: scratch.dir,
      KEEPGW_MAPPINGS: join(scratch.dir, 'all'),
      KEEPGW_MANAGEMENT_TOKEN: MANAGEMENT,
    }
    await mkdir(root)
    for (const size of [1, 1000, 300_000, 67_108_864]) {
      const data = randomBytes(size)
      blocks.set(createHash('md5').update(data).digest('hex'), data)
      await writeFile(join(root, String(size)), data)
    }
    await keepgwOk(['index', root, '--mappings', mappings], env)
    volume = `file:${mappings}:${root}`
  })
  after(() => scratch?.remove())

  const largest = () => [...blocks.entries()].at(-1)!

  async function start(t: TestContext, flags: string[] = [], vars = env): Promise<Served> {
    const served = await serve([volume], vars, [`--workers=${WORKERS}`, ...flags])
    t.after(() => served.process.kill('SIGKILL'))
    return served
  }
  async function assertServed({ url }: Served, hash: string): Promise<void> {
    // A connection of its own goes to the next worker.
    const answer = await fetch(`${url}/${hash}`, { headers: { Connection: 'close' } })
    assert.equal(answer.status, 200)
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(blocks.get(hash)!))
  }
  async function metric({ url }: Served, name: string): Promise<number> {
    const headers = { Authorization: `Bearer ${MANAGEMENT}`, Connection: 'close' }
    const text = await (await fetch(`${url}/metrics`, { headers })).text()
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
  }
  /** The pids of the workers that have answered requests. */
  function pids(served: Served): Set<number> {
    const lines = served.log().filter(({ msg }) => msg === 'request')
    return new Set(lines.map(({ pid }) => Number(pid)))
  }
  /** Sends requests until each worker has answered one, and returns their pids. */
  async function allPids(served: Served): Promise<number[]> {
    const [hash = ''] = blocks.keys()
    for (let i = 0; i < 50 && pids(served).size < WORKERS; i++) await assertServed(served, hash)
    assert.equal(pids(served).size, WORKERS)
    return [...pids(served)]
  }
  function lines(served: Served, msg: string): Record<string, unknown>[] {
    return served.log().filter((line) => line.msg === msg)
  }
  /** Begins an answer of 64 MiB, and reads no further than its head. */
  async function beginAnswer({ url }: Served, hash: string): Promise<IncomingMessage> {
    const [answer] = (await once(get(`${url}/${hash}`), 'response')) as [IncomingMessage]
    return answer
  }
  async function isOver(pid: number): Promise<void> {
    await until(() => {
      try {
        return !process.kill(pid, 0)
      } catch {
        return true
      }
    })
  }

  it('spreads requests, and adds up what was counted, whoever is asked', async (t) => {
    const served = await start(t)
    const workers = await allPids(served)
    assert.ok(!workers.includes(served.process.pid!))
    for (const hash of blocks.keys()) await assertServed(served, hash)
    const asked = lines(served, 'request').length
    await until(() => lines(served, 'response').length === asked)
    const sent = await metric(served, 'keepgw_blocks_total')
    assert.equal(sent, asked)
    for (let i = 0; i < WORKERS; i++) {
      assert.equal(await metric(served, 'keepgw_blocks_total'), sent)
    }
    const headers = { Authorization: `Bearer ${MANAGEMENT}` }
    const status = (await (await fetch(`${served.url}/status.json`, { headers })).json()) as {
      blocks: number
      requests: { total: number; running: number }
    }
    assert.equal(status.blocks, sent)
    // Itself is one of those that are under way.
    assert.equal(status.requests.total, asked + WORKERS + 2)
    assert.equal(status.requests.running, 1)
    assert.equal(await served.stop(), 0)
  })

  it('divides limits among them', async (t) => {
    const served = await start(t, ['--max-concurrent-requests=7', '--max-keep-blob-buffers=2'])
    assert.equal(await metric(served, 'keepgw_max_concurrent_requests'), 6)
    assert.equal(await metric(served, 'keepgw_max_concurrent_blocks'), 3)
  })

  it('gives all of them the settings: HTTPS, and signatures', async (t) => {
    await using tls = await makeCertificate()
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const flags = [
      `--workers=${WORKERS}`,
      `--tls-certificate=${tls.certFile}`,
      `--tls-key=${tls.keyFile}`,
    ]
    const served = await serve([volume], { ...env, KEEPGW_BLOB_SIGNING_KEY: signing.key }, flags)
    t.after(() => served.process.kill('SIGKILL'))
    const [[hash, data] = ['', Buffer.alloc(0)]] = blocks
    const path = signLocator(`${hash}+${data.length}`, 'the-token', 0x7fffffff, signing)
    const ask = async (locator: string) => {
      const url = `${served.url.replace('http:', 'https:')}/${locator}`
      const headers = { Authorization: 'Bearer the-token' }
      const req = secureGet(url, { ca: tls.cert, headers, agent: false })
      const [answer] = (await once(req, 'response')) as [IncomingMessage]
      return { status: answer.statusCode, body: Buffer.concat(await answer.toArray()) }
    }
    for (let i = 0; i < WORKERS; i++) {
      assert.equal((await ask(hash)).status, 400)
      const { status, body } = await ask(path)
      assert.deepEqual([status, body], [200, data])
    }
    assert.equal(pids(served).size, WORKERS)
  })

  it('replaces a worker that ends, and counters do not go back', async (t) => {
    const served = await start(t)
    const workers = await allPids(served)
    const asked = lines(served, 'request').length
    await until(() => lines(served, 'response').length === asked)
    assert.equal(await metric(served, 'keepgw_blocks_total'), asked)
    process.kill(workers[0]!, 'SIGKILL')
    await until(() => lines(served, 'worker started').length === 1)
    const [ended] = lines(served, 'worker ended')
    assert.equal(ended?.worker, workers[0])
    assert.equal(ended?.signal, 'SIGKILL')
    assert.equal(await metric(served, 'keepgw_blocks_total'), asked)
    for (const hash of blocks.keys()) await assertServed(served, hash)
    assert.equal(await served.stop(), 0)
  })

  it('kills and replaces a worker that does not answer any more', async (t) => {
    const served = await start(t, [], quicklyAsked(env))
    const [hung = 0, ...others] = await allPids(served)
    process.kill(hung, 'SIGSTOP')
    // Connections go to all in turn: whoever meets the one that hangs is not left hanging for ever.
    const [hash = ''] = blocks.keys()
    const asked = Array.from({ length: 3 * WORKERS }, () => assertServed(served, hash))
    const answers = await Promise.allSettled(asked)
    assert.ok(answers.filter(({ status }) => status === 'fulfilled').length >= others.length)
    await until(() => lines(served, 'worker started').length === 1)
    const [given] = lines(served, 'worker does not answer, and is killed')
    assert.equal(given?.worker, hung)
    assert.deepEqual(
      lines(served, 'worker ended').map(({ worker, signal }) => [worker, signal]),
      [[hung, 'SIGKILL']],
    )
    for (const each of blocks.keys()) await assertServed(served, each)
    for (const pid of others) assert.ok(process.kill(pid, 0))
    assert.equal(await served.stop(), 0)
  })

  it('replaces a worker that ends while others are started', async (t) => {
    const port = await freePort()
    const flags = [`--workers=${WORKERS}`, `--listen=127.0.0.1:${port}`, `--volume=${volume}`]
    const primary = startKeepgw(['serve', ...flags], env)
    t.after(() => primary.kill('SIGKILL'))
    const workers = () => {
      const list = readFileSync(`/proc/${primary.pid}/task/${primary.pid}/children`, 'utf8')
      return list.split(' ').filter(Boolean).map(Number)
    }
    // The first one has to listen before there are others.
    const isThere = () => fetch(`http://127.0.0.1:${port}`).then(Boolean, () => false)
    while (!(await isThere())) await delay(5)
    const [first] = workers()
    process.kill(first!, 'SIGKILL')
    await until(() => primary.output.stderr.includes('"msg":"listening"'))
    await until(() => workers().length === WORKERS && !workers().includes(first!))
    await until(() => primary.output.stderr.includes('"msg":"worker started"'))
    const closed = once(primary, 'close')
    primary.kill('SIGTERM')
    assert.deepEqual(await closed, [0, null])
  })

  it('tries again where a worker cannot start while the mapping’s disk is away', async (t) => {
    const served = await start(t)
    const [pid] = await allPids(served)
    const mapping = volume.split(':')[1]!
    await rename(mapping, `${mapping}.away`)
    process.kill(pid!, 'SIGKILL')
    await until(() => lines(served, 'worker did not start').length > 0)
    assert.match(String(lines(served, 'worker did not start')[0]?.reason), /mapping/)
    await rename(`${mapping}.away`, mapping)
    await until(() => lines(served, 'worker started').length === 1)
    for (const hash of blocks.keys()) await assertServed(served, hash)
    assert.equal(await served.stop(), 0)
  })

  it('ends with 1 when workers end at once again and again', async (t) => {
    const served = await start(t)
    const exit = once(served.process, 'exit')
    const killed = new Set(await allPids(served))
    for (const pid of killed) process.kill(pid, 'SIGKILL')
    const killNew = () => {
      for (const { worker } of lines(served, 'worker started')) {
        if (killed.has(Number(worker))) continue
        killed.add(Number(worker))
        process.kill(Number(worker), 'SIGKILL')
      }
    }
    served.process.stderr!.on('data', killNew)
    assert.deepEqual(await exit, [1, null])
    const log = served.process as unknown as { output: { stderr: string } }
    assert.match(log.output.stderr, /^keepgw: the workers end as soon as they are started/m)
    for (const { worker } of lines(served, 'worker ended')) await isOver(Number(worker))
  })

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    it(`lets answers under way finish on ${signal}, also when all processes get it`, async (t) => {
      const served = await start(t)
      const workers = await allPids(served)
      const [hash, data] = largest()
      const answers = await Promise.all(workers.map(() => beginAnswer(served, hash)))
      for (const pid of workers) process.kill(pid, signal)
      served.process.kill(signal)
      await until(() => lines(served, 'stopping when the answers under way are out').length === 1)
      for (const answer of answers) assert.ok(Buffer.concat(await answer.toArray()).equals(data))
      assert.equal(await served.stop(), 0)
      await assert.rejects(fetch(served.url))
      for (const pid of workers) await isOver(pid)
    })
  }

  it('ends all of them at once at a second signal', async (t) => {
    const served = await start(t)
    const workers = await allPids(served)
    const answer = await beginAnswer(served, largest()[0])
    served.process.kill('SIGINT')
    await until(() => lines(served, 'stopping when the answers under way are out').length === 1)
    const exit = once(served.process, 'exit')
    served.process.kill('SIGINT')
    assert.deepEqual(await exit, [130, null])
    await assert.rejects(answer.toArray())
    for (const pid of workers) await isOver(pid)
  })

  it('ends a circle that leads back to it, whichever of them is met', async (t) => {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const flags = [`--workers=${WORKERS}`, `--listen=127.0.0.1:${port}`]
    const child = startKeepgw(['serve', ...flags, `--volume=keep:readonly:${url}`], env)
    const ended = once(child, 'close')
    t.after(() => child.kill() && ended)
    const { output } = child
    await until(() => output.stderr.includes('"listening"'))
    for (let i = 1; i <= WORKERS; i++) {
      const headers = { Connection: 'close', 'X-Request-Id': `request-${i}` }
      assert.equal((await fetch(`${url}/${'0'.repeat(32)}+1`, { headers })).status, 404)
      // Its answer is the last thing that the log has of it.
      const last = new RegExp(`"request-${i}".*"response"`)
      await until(() => last.test(output.stderr))
      assert.equal(output.stderr.match(/"msg":"request"/g)?.length, 2 * i)
    }
  })

  it('leaves no worker behind when the primary is killed', async (t) => {
    const served = await start(t)
    const workers = await allPids(served)
    served.process.kill('SIGKILL')
    for (const pid of workers) await isOver(pid)
    await assert.rejects(fetch(served.url))
  })

  it('says once what keeps it from serving, with the right exit code', async (t) => {
    const taken = createServer().listen(0, '127.0.0.1')
    t.after(() => taken.close())
    await once(taken, 'listening')
    const { port } = taken.address() as { port: number }
    const flags = ['serve', `--workers=${WORKERS}`, `--listen=127.0.0.1:${port}`]
    const cases: [args: string[], code: number, why: RegExp][] = [
      [[`--volume=${volume}`], 1, /cannot listen at 127\.0\.0\.1:\d+.*--listen/],
      [[`--volume=file:${scratch.dir}/none:/data`], 1, /none/],
      [[`--volume=${volume.replace(/[^:]*$/, '/other')}`], 2, /mapping of/],
      [[`--volume=unix:${scratch.dir}`], 2, /--workers 3 does not go with unix:/],
    ]
    for (const [args, code, why] of cases) {
      const outcome = await keepgw([...flags, ...args], env)
      assert.equal(outcome.code, code, outcome.stderr)
      assert.match(outcome.stderr, why)
      assert.equal(outcome.stderr.trim().split('\n').length, 1, outcome.stderr)
    }
  })
})

/** Workers are asked for signs of life every 0.3 s, not 5 s: that timer alone is changed, from outside. */
function quicklyAsked(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const script = `globalThis.setInterval = new Proxy(setInterval, {
    apply: (timer, self, [run, ms, ...rest]) => timer(run, ms === 5000 ? 300 : ms, ...rest)
  })`
  return { ...env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}
