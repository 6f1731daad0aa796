import assert from 'node:assert/strict'
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { signLocator } from '../../src/keep/signature.ts'
import { writeDescription } from '../../src/mapping/description.ts'
import { mountUuid } from '../../src/server/mounts.ts'
import { watch } from '../secrets.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-serve-'))
after(() => rm(scratch, { recursive: true }))

/** A directory with the object "key", and a mapping of its one block. */
const content = 'what the object holds'
const hash = createHash('md5').update(content).digest('hex')
const [root, mappings] = [join(scratch, 'data'), join(scratch, 'mappings')]
await mkdir(root)
await writeFile(join(root, 'key'), content)
await writeDescription(mappings, { version: 1, remote: { kind: 'directory', root }, ifMatch: true })
await mkdir(join(mappings, hash.slice(0, 3)))
await writeFile(join(mappings, hash.slice(0, 3), hash), `0:${content.length}:key\n`)
const volume = `--volume=file:${mappings}:${root}`

function serve(args: string[], env: NodeJS.ProcessEnv = {}) {
  const script = fileURLToPath(new URL('run-serve.ts', import.meta.url))
  const all = { ...process.env, KEEPGW_LISTEN: '127.0.0.1:0', ...env }
  const child = spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: all,
  })
  return watch(child, all)
}

/** Returns the address from the line that says where it listens. */
async function addressOf(child: ChildProcessByStdio<null, Readable, Readable>): Promise<string> {
  let stderr = ''
  for await (const line of createInterface(child.stderr)) {
    stderr += line
    const address = /"address":"([^"]+)"/.exec(line)?.[1]
    if (address !== undefined) return address
  }
  throw new Error(`it does not listen: ${stderr}`)
}

/** Runs it to its end. */
async function run(args: string[], env?: NodeJS.ProcessEnv) {
  const child = serve(args, env)
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      output[name] += chunk
    })
  }
  const [code] = await once(child, 'close')
  return { code, ...output }
}

describe('keepgw serve', () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`serves a mapping until ${signal}, and exits with 0`, async (t) => {
      const child = serve([volume], { KEEPGW_SYSTEM_ROOT_TOKEN: 'the-token' })
      t.after(() => child.kill('SIGKILL'))
      const address = await addressOf(child)
      child.stderr.resume()
      const answer = await fetch(`http://${address}/${hash}+${content.length}`)
      assert.equal(await answer.text(), content)
      assert.equal((await fetch(`http://${address}/index`)).status, 401)
      child.kill(signal)
      assert.deepEqual(await once(child, 'exit'), [0, null])
    })
  }

  test('ends at once at a second signal, with an answer under way', async (t) => {
    const child = serve([volume])
    t.after(() => child.kill('SIGKILL'))
    const [host, port] = (await addressOf(child)).split(':')
    // A body that never comes keeps the request open.
    const socket = connect(Number(port), host)
    t.after(() => socket.destroy())
    socket.on('error', () => {})
    socket.write(`PUT /${hash} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n`)
    await once(socket, 'data')
    child.kill('SIGINT')
    for await (const line of createInterface(child.stderr)) if (line.includes('stopping')) break
    child.kill('SIGINT')
    assert.deepEqual(await once(child, 'exit'), [130, null])
  })

  test('listens beyond this machine only if told so', async (t) => {
    const listen = '--listen=0.0.0.0:0'
    const { code, stderr } = await run([volume, listen])
    assert.equal(code, 2)
    assert.match(stderr, /without signatures/)
    const child = serve([volume, listen, '--insecure-unsigned'])
    t.after(() => child.kill('SIGKILL'))
    assert.match(await addressOf(child), /^0\.0\.0\.0:\d+$/)
  })

  test('signs by the cluster’s configuration', async (t) => {
    const config = join(scratch, 'config.yml')
    await writeFile(config, 'Clusters: {xyzzy: {Collections: {BlobSigningKey: the-key}}}')
    const child = serve([volume, `--config=${config}`])
    t.after(() => child.kill('SIGKILL'))
    const address = await addressOf(child)
    child.stderr.resume()
    const headers = { Authorization: 'Bearer the-token' }
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const signed = signLocator(`${hash}+${content.length}`, 'the-token', 0x7fffffff, signing)
    assert.equal((await fetch(`http://${address}/${signed}`, { headers })).status, 200)
    assert.equal((await fetch(`http://${address}/${hash}`, { headers })).status, 400)
    assert.equal((await fetch(`http://${address}/${signed}`)).status, 401)
  })

  test('--check says what would be done, and whether it can be reached', async () => {
    const config = join(scratch, 'check.yml')
    const secrets = 'SystemRootToken: secret-root, Collections: {BlobSigningKey: secret-key}'
    await writeFile(config, `Clusters: {xyzzy: {${secrets}}}`)
    const good = await run([volume, '--check', `--config=${config}`])
    assert.equal(good.code, 0, good.stderr)
    const deviceId = `keepgw:file://${root}`
    for (const text of [
      'http://127.0.0.1:0',
      'signing     on',
      mountUuid('xyzzy', deviceId),
      deviceId,
      'reachable',
      'system root set, management not set',
    ]) {
      assert.ok(good.stdout.includes(text), `${text}\n${good.stdout}`)
    }
    assert.match(good.stderr, /LocalKeepBlobBuffersPerVCPU/)
    assert.doesNotMatch(good.stdout + good.stderr, /secret-/)
    const away = await run([`--volume=file:${scratch}/away:${root}`, volume, '--check'])
    assert.equal(away.code, 1)
    assert.match(away.stdout, /out of reach/)
    assert.match(away.stderr, /1 of 2 volumes are out of reach/)
    assert.equal((await run([volume, '--check', '--listen=0.0.0.0:1'])).code, 2)
  })

  test('--check warns of a directory that takes no blocks', async (t) => {
    const dir = join(scratch, 'read-only')
    await mkdir(dir)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'none', dir], { stdio: 'pipe' })
    } catch {
      return t.skip('mounts need privileges')
    }
    t.after(() => execFileSync('umount', ['-l', dir]))
    const warned = await run([`--volume=unix:${dir}`, '--check'])
    assert.equal(warned.code, 0, warned.stderr)
    assert.match(
      warned.stderr,
      /warning: .*read-only takes no blocks, name it unix:readonly:.*EROFS/,
    )
    const told = await run([`--volume=unix:readonly:${dir}`, '--check'])
    assert.deepEqual([told.code, told.stderr], [0, ''])
  })

  test('says what is wrong, with the right exit code', async () => {
    const cases: [string[], number][] = [
      [[], 2],
      [[volume, '--listen=nowhere'], 2],
      [['--volume=unix:dir'], 2],
      [[`--volume=unix:${scratch}/nowhere`], 1],
      [['--volumes=/tmp,tmp'], 2],
      [[volume, '--trash-lifetime=soon'], 2],
      [[`--volume=file:${mappings}:/another`], 2],
      [[`--volume=file:${scratch}:${root}`], 1],
      [[volume, '--idle-timeout=0'], 2],
    ]
    const results = await Promise.all(cases.map(([args]) => run(args)))
    assert.deepEqual(
      results.map(({ code }) => code),
      cases.map(([, code]) => code),
    )
  })
})
