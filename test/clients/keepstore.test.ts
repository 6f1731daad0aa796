/** One directory, served by a real keepstore and by keepgw: what one does, the other must see. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, utimes } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Served, serve, temporary } from '../e2e/keepgw.ts'
import { CLUSTER_SECRET, type Keepstore, startKeepstore } from '../servers/keepstore.ts'
import { arvadosGo, lacksArvadosGo } from './arvados-go.ts'

const TOKEN = 'v2/zzzzz-gj3su-000000000000001/usersecret'
const BLOCK = 67_108_864
/** A month: longer than a signature is good for. */
const LONG_AGO = Date.now() / 1000 - 30 * 86_400

describe('a directory shared with a keepstore', { skip: lacksArvadosGo('keepstore') }, () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let root: string
  let keepstore: Keepstore
  let keepgw: Served
  /** Both of them, each as the one and as the other. */
  let pairs: [one: { url: string; name: string }, other: { url: string; name: string }][]

  before(async () => {
    scratch = await temporary()
    root = join(scratch.dir, 'root')
    await mkdir(root)
    keepstore = await startKeepstore(arvadosGo('keepstore'), {
      volume: { Driver: 'Directory', DriverParameters: { Root: root } },
      dir: scratch.dir,
      signing: true,
    })
    keepgw = await serve([`unix:${root}`], {
      PATH: process.env.PATH,
      HOME: scratch.dir,
      KEEPGW_CONFIG: keepstore.config,
    })
    const both = [
      { url: keepstore.url, name: 'keepstore' },
      { url: keepgw.url, name: 'keepgw' },
    ] as const
    pairs = [
      [both[0], both[1]],
      [both[1], both[0]],
    ]
  })
  after(async () => {
    await Promise.all([keepgw, keepstore].map((each) => each?.stop()))
    await scratch?.remove()
  })

  /** Stores a block with one of them; returns its hash, and the locator that was given for it. */
  async function put({ url }: { url: string }, data: Buffer) {
    const hash = createHash('md5').update(data).digest('hex')
    const { status, body } = await ask(url, 'PUT', hash, TOKEN, data)
    assert.equal(status, 200, body.toString())
    const locator = body.toString().trim()
    assert.match(locator, new RegExp(`^${hash}\\+${data.length}\\+A[0-9a-f]{40}@[0-9a-f]{8}$`))
    return { hash, locator }
  }
  async function indexOf({ url }: { url: string }, path = 'index'): Promise<string[]> {
    const { status, body } = await ask(url, 'GET', path)
    assert.equal(status, 200)
    assert.ok(body.toString().endsWith('\n\n') || body.toString() === '\n')
    return body.toString().split('\n').filter(Boolean).sort()
  }
  async function assertSameIndex(): Promise<void> {
    const [[one, other]] = pairs as [(typeof pairs)[0]]
    assert.deepEqual(await indexOf(one), await indexOf(other))
  }
  async function makeOld(hash: string): Promise<void> {
    await utimes(join(root, hash.slice(0, 3), hash), LONG_AGO, LONG_AGO)
  }
  function namesOf(hash: string): Promise<string[]> {
    return readdir(join(root, hash.slice(0, 3))).then((names) => {
      return names.filter((name) => name.startsWith(hash))
    })
  }
  async function untilGone({ url }: { url: string }, locator: string): Promise<void> {
    for (const end = Date.now() + 30_000; ; await delay(20)) {
      const { status } = await ask(url, 'GET', locator, TOKEN)
      if (status === 404) return
      assert.ok(Date.now() < end, `${locator} is still there: ${status}`)
    }
  }

  it('gives by each what the other has written, with the signature of either', async () => {
    for (const [one, other] of pairs) {
      for (const size of [1, 3_000_000, BLOCK]) {
        const data = randomBytes(size)
        const { locator } = await put(one, data)
        const { status, body } = await ask(other.url, 'GET', locator, TOKEN)
        assert.equal(status, 200, `${other.name}: ${body.toString('utf8', 0, 200)}`)
        assert.ok(body.equals(data))
        assert.equal((await ask(other.url, 'HEAD', locator, TOKEN)).status, 200)
        assert.equal((await ask(other.url, 'GET', locator, 'other')).status, 400)
        assert.equal((await ask(other.url, 'GET', locator, '')).status, 401)
      }
    }
  })

  it('has the same files, the same index and the same device by both', async () => {
    for (const [one] of pairs) {
      const data = randomBytes(5000)
      const { hash } = await put(one, data)
      assert.deepEqual(await namesOf(hash), [hash])
      assert.ok((await readFile(join(root, hash.slice(0, 3), hash))).equals(data))
      for (const path of [`index/${hash.slice(0, 2)}`, `index?prefix=${hash}`]) {
        const [[first, second]] = pairs as [(typeof pairs)[0]]
        const lines = await indexOf(first, path)
        assert.ok(lines.some((line) => line.startsWith(`${hash}+5000 `)))
        assert.deepEqual(await indexOf(second, path), lines)
      }
    }
    await assertSameIndex()
    const devices = await Promise.all(
      pairs.map(async ([{ url }]) => {
        const [mount] = JSON.parse((await ask(url, 'GET', 'mounts')).body.toString())
        return mount.device_id
      }),
    )
    assert.equal(devices[0], devices[1])
  })

  it('has a block touched by one, and by a second write, for both', async () => {
    for (const [one, other] of pairs) {
      const data = randomBytes(4000)
      const { hash } = await put(other, data)
      for (const renew of [
        () => ask(one.url, 'TOUCH', `${hash}+4000`),
        () => ask(one.url, 'PUT', hash, TOKEN, data),
      ]) {
        await makeOld(hash)
        assert.equal((await renew()).status, 200)
        const [line = ''] = await indexOf(other, `index/${hash}`)
        assert.ok(Number(line.split(' ')[1]) / 1e9 > LONG_AGO + 86_400, `${one.name}: ${line}`)
        await assertSameIndex()
      }
    }
  })

  it('keeps a young block, and takes an old one from the trash of either', async () => {
    for (const [one, other] of pairs) {
      const data = randomBytes(6000)
      const { hash, locator } = await put(other, data)
      assert.equal((await ask(one.url, 'DELETE', `${hash}+6000`)).status, 200)
      assert.deepEqual(await namesOf(hash), [hash], `${one.name} has trashed a young block`)
      await makeOld(hash)
      assert.equal((await ask(one.url, 'DELETE', `${hash}+6000`)).status, 200)
      assert.match((await namesOf(hash)).join(), /^[0-9a-f]{32}\.trash\.\d+$/)
      await assertSameIndex()
      for (const { url } of [one, other]) {
        assert.equal((await ask(url, 'GET', locator, TOKEN)).status, 404)
        assert.equal((await ask(url, 'DELETE', `${hash}+6000`)).status, 404)
      }
      assert.equal((await ask(other.url, 'PUT', `untrash/${hash}`)).status, 200)
      assert.equal((await ask(other.url, 'PUT', `untrash/${hash}`)).status, 404)
      for (const { url } of [one, other]) {
        assert.ok((await ask(url, 'GET', locator, TOKEN)).body.equals(data))
      }
      assert.deepEqual(await namesOf(hash), [hash])
    }
  })

  it('has a trash list, made of the index of one, worked on by the other', async () => {
    for (const [one, other] of pairs) {
      const [old, young, changed] = [
        await put(one, randomBytes(1000)),
        await put(one, randomBytes(2000)),
        await put(one, randomBytes(3000)),
      ]
      await makeOld(old.hash)
      await makeOld(changed.hash)
      const lines = await indexOf(one)
      const items = [young, changed, old].map(({ hash }) => {
        const [locator, mtime] = lines.find((line) => line.startsWith(hash))!.split(' ')
        return `{"locator":"${locator}","block_mtime":${mtime},"mount_uuid":""}`
      })
      assert.equal((await ask(one.url, 'TOUCH', `${changed.hash}+3000`)).status, 200)
      const list = Buffer.from(`[${items}]`)
      assert.equal((await ask(other.url, 'PUT', 'trash', CLUSTER_SECRET, list)).status, 200)
      await untilGone(one, old.locator)
      for (const { locator } of [young, changed]) {
        assert.equal((await ask(other.url, 'GET', locator, TOKEN)).status, 200)
      }
    }
  })
})

/** Asks for a path, as the cluster itself unless a token is given. */
function ask(
  url: string,
  method: string,
  path: string,
  token = CLUSTER_SECRET,
  data?: Buffer,
): Promise<{ status: number; body: Buffer }> {
  const authorization = token === '' ? {} : { Authorization: `Bearer ${token}` }
  const length = data === undefined ? {} : { 'Content-Length': data.length }
  return new Promise((resolve, reject) => {
    const headers = { ...authorization, ...length }
    const asked = request(`${url}/${path}`, { method, headers, agent: false }, async (answer) => {
      const parts: Buffer[] = []
      for await (const part of answer) parts.push(part)
      resolve({ status: answer.statusCode!, body: Buffer.concat(parts) })
    })
    asked.on('error', reject).end(data)
  })
}
