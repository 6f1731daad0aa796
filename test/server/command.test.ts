import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
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
import { writeDescription } from '../../src/mapping/description.ts'

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
  return spawn(process.execPath, [script, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, KEEPGW_LISTEN: '127.0.0.1:0', ...env },
  })
}

/** Returns the address from the line that says where it listens. */
async function addressOf(child: ChildProcessByStdio<null, null, Readable>): Promise<string> {
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
  let stderr = ''
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = await once(child, 'close')
  return { code, stderr }
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

  test('says what is wrong, with the right exit code', async () => {
    const cases: [string[], number][] = [
      [[], 2],
      [[volume, '--listen=nowhere'], 2],
      [['--volume=unix:/dir'], 2],
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
