/** Services that write, as processes: what a kill leaves, one service behind another, a full disk. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { VolumeFull } from '../../src/volume/volume.ts'
import { makeBlock } from '../volume/fakes.ts'
import { start } from './keepgw.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-writing-'))
after(() => rm(scratch, { recursive: true, force: true }))

const TOKEN = { Authorization: 'Bearer root-token' }

/** Returns a service that listens. */
async function serve(t: TestContext, ...args: string[]) {
  const child = start(['serve', '--listen=127.0.0.1:0', ...args], {
    PATH: process.env.PATH,
    HOME: scratch,
    KEEPGW_SYSTEM_ROOT_TOKEN: 'root-token',
  })
  t.after(() => child.kill('SIGKILL'))
  for (;;) {
    const address = /"address":"([^"]+)"/.exec(child.output.stderr)?.[1]
    if (address !== undefined) return { child, url: `http://${address}` }
    assert.equal(child.exitCode, null, child.output.stderr)
    await Promise.race([once(child.stderr!, 'data'), once(child, 'exit')])
  }
}

function put(url: string, hash: string, data: Buffer, headers = {}): Promise<Response> {
  return fetch(`${url}/${hash}`, { method: 'PUT', body: new Uint8Array(data), headers })
}

async function newRoot(): Promise<string> {
  return mkdtemp(join(scratch, 'root-'))
}

describe('a service that writes', () => {
  test('leaves no torn block when it is killed, and loses none that it has acknowledged', async (t) => {
    const root = await newRoot()
    const acknowledged = new Set<string>()
    for (let round = 0; round < 6; round++) {
      const { child, url } = await serve(t, `--volume=unix:${root}`)
      const blocks = Array.from({ length: 12 }, (_, at) => makeBlock(3_000_000, round * 100 + at))
      let answers = 0
      const puts = blocks.map(async ({ hash, data }) => {
        const answer = await put(url, hash, data).catch(() => undefined)
        if (answer?.status !== 200) return
        acknowledged.add(hash)
        answers += 1
        // The others are under way, each somewhere else.
        if (answers > round) child.kill('SIGKILL')
      })
      await Promise.all([...puts, once(child, 'exit')])
    }
    assert.ok(acknowledged.size >= 6)
    const { url } = await serve(t, `--volume=unix:${root}`)
    const index = await (await fetch(`${url}/index`, { headers: TOKEN })).text()
    const listed = index
      .trimEnd()
      .split('\n')
      .map((line) => line.slice(0, 32))
    for (const hash of acknowledged) assert.ok(listed.includes(hash), hash)
    for (const hash of listed) {
      const file = await readFile(join(root, hash.slice(0, 3), hash))
      assert.equal(createHash('md5').update(file).digest('hex'), hash)
      const served = Buffer.from(await (await fetch(`${url}/${hash}`)).arrayBuffer())
      assert.ok(served.equals(file))
    }
  })

  test('has the design page’s flags, and can lie behind another one', async (t) => {
    const roots = [await newRoot(), await newRoot()]
    const back = await serve(t, `-volumes=${roots.join(',')}`)
    const front = await serve(t, `-volume=keep:${back.url}`)
    const { data, hash } = makeBlock(200_000)
    const stored = await put(front.url, hash, data, { 'X-Keep-Desired-Replicas': '2' })
    assert.equal(stored.status, 200)
    assert.equal(stored.headers.get('X-Keep-Replicas-Stored'), '2')
    assert.equal(await stored.text(), `${hash}+${data.length}\n`)
    for (const root of roots) assert.deepEqual(await readdir(join(root, hash.slice(0, 3))), [hash])
    for (const name of [hash, `${hash}+${data.length}`]) {
      const answer = await fetch(`${front.url}/${name}`)
      assert.ok(Buffer.from(await answer.arrayBuffer()).equals(data), name)
    }
    const index = await fetch(`${front.url}/index`, { headers: TOKEN })
    const lines = (await index.text()).split('\n')
    assert.equal(lines.filter((line) => line.startsWith(`${hash}+200000 `)).length, 2)
    const missing = makeBlock(10).hash
    assert.equal((await fetch(`${front.url}/${missing}+10`)).status, 404)
    back.child.kill('SIGKILL')
    await once(back.child, 'exit')
    assert.equal((await fetch(`${front.url}/${missing}+10`)).status, 503)
    assert.equal((await put(front.url, hash, data)).status, 503)
  })

  test('refuses blocks while its disk has less than 64 MiB', async (t) => {
    const root = await newRoot()
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'none', root], { stdio: 'pipe' })
    } catch {
      return t.skip('mounts need privileges')
    }
    // Lazily: the service may be still at it.
    t.after(() => execFileSync('umount', ['-l', root]))
    const { url } = await serve(t, `--volume=unix:${root}`)
    const [first, second] = [makeBlock(40_000_000, 1), makeBlock(10, 2)]
    assert.equal((await put(url, first.hash, first.data)).status, 200)
    assert.equal((await put(url, second.hash, second.data)).status, 507)
    assert.match(await readlink(join(root, 'full')), /^\d+$/)
    assert.equal((await fetch(`${url}/${first.hash}`)).status, 200)
    // What is there needs no room.
    assert.equal((await put(url, first.hash, first.data)).status, 200)
  })

  test('cleans up where the disk fills up under a write', async (t) => {
    const root = await newRoot()
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=70m', 'none', root], { stdio: 'pipe' })
    } catch {
      return t.skip('mounts need privileges')
    }
    // Lazily: the service may be still at it.
    t.after(() => execFileSync('umount', ['-l', root]))
    const volume = await UnixVolume.open(root)
    const signal = new AbortController().signal
    const puts = [1, 2].map(async (seed) => {
      const block = makeBlock(45_000_000, seed)
      return volume.put(block, { replicas: 1, classes: [] }, signal)
    })
    const results = await Promise.allSettled(puts)
    const failed = results.filter((each) => each.status === 'rejected')
    assert.ok(failed.length > 0)
    for (const { reason } of failed) assert.ok(reason instanceof VolumeFull, String(reason))
    const files = await readdir(root, { recursive: true })
    assert.deepEqual(
      files.filter((name) => name.includes('tmp')),
      [],
    )
  })

  test('goes on where its directory is there, and ends where it is not', async (t) => {
    const root = join(scratch, 'late')
    const child = start(['serve', `--volume=unix:${root}`], {
      PATH: process.env.PATH,
      HOME: scratch,
    })
    const [code] = await once(child, 'close')
    assert.equal(code, 1)
    assert.match(child.output.stderr, /late.*mounted/)
    await mkdir(root)
    await serve(t, root.replace(/^/, '--volume='))
  })
})
