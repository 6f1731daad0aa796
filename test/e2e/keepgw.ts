/** The built command line against a real S3 server, for the tests of the whole chain. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { watch } from '../secrets.ts'
import type { S3Access } from '../servers/s3.ts'

/** The built command. */
export const CLI = fileURLToPath(new URL('../../dist/src/cli.js', import.meta.url))

export interface Outcome {
  /** Null where a signal ended it. */
  code: number | null
  stdout: string
  stderr: string
}

/** Returns the environment that leads keepgw to the server, and nowhere else. */
export function environment(server: S3Access, mappings: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: mappings,
    AWS_ACCESS_KEY_ID: server.accessKeyId,
    AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
    AWS_REGION: server.region,
    AWS_ENDPOINT_URL: server.endpoint,
    AWS_EC2_METADATA_DISABLED: 'true',
    KEEPGW_MAPPINGS: mappings,
  }
}

/**
 * Starts `keepgw ARGS`; what it prints is gathered in `output`. A secret among it makes the test file
 * fail (secrets.ts). KEEPGW_TEST_CLI names another build than this tree's.
 */
export function start(args: string[], env: NodeJS.ProcessEnv): ChildProcess & { output: Outcome } {
  const cli = process.env.KEEPGW_TEST_CLI ?? CLI
  const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const output: Outcome = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text
  })
  return Object.assign(watch(child, env), { output })
}

/** Runs `keepgw ARGS` to its end. */
export async function keepgw(args: string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  const child = start(args, env)
  await once(child, 'close')
  return { ...child.output, code: child.exitCode }
}

/** As keepgw(), and it must end well. */
export async function keepgwOk(args: string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  const outcome = await keepgw(args, env)
  assert.equal(outcome.code, 0, `keepgw ${args.join(' ')}: ${outcome.stderr}`)
  return outcome
}

/** Returns the last JSON line that a command with --json printed: its summary. */
export function summaryOf({ stdout }: Outcome): Record<string, unknown> {
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!)
}

/** A running `keepgw serve`. */
export interface Served {
  url: string
  process: ChildProcess
  /** Its log so far, an object a line. */
  log(): Record<string, unknown>[]
  /** The same as it was printed. */
  stderr(): string
  stop(): Promise<number | null>
}

/** Starts `keepgw serve` on a free port, with these volumes. */
export async function serve(
  volumes: string[],
  env: NodeJS.ProcessEnv,
  flags: string[] = [],
): Promise<Served> {
  const named = volumes.map((volume) => `--volume=${volume}`)
  const child = start(['serve', '--listen=127.0.0.1:0', ...flags, ...named], env)
  const closed = once(child, 'close')
  const address = await new Promise<string>((resolve, reject) => {
    const lines = createInterface(child.stderr!)
    lines.on('line', (line) => {
      const found = /"address":"([^"]+)"/.exec(line)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.once('close', () => reject(new Error(`serve ended: ${child.output.stderr}`)))
  })
  return {
    url: `http://${address}`,
    process: child,
    stderr: () => child.output.stderr,
    log: () =>
      child.output.stderr
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line)),
    stop: async () => {
      // A second signal would end it at once, whatever it has yet to do.
      if (!child.killed) child.kill('SIGTERM')
      await closed
      return child.exitCode
    },
  }
}

/** Returns the MD5 of data, in hex. */
export function md5(data: Uint8Array): string {
  return createHash('md5').update(data).digest('hex')
}

/** Returns bytes that look like no others: a digest of a seed, again and again. */
export function contents(size: number, seed: string): Buffer {
  return Buffer.alloc(size, createHash('shake256', { outputLength: 1009 }).update(seed).digest())
}

/** A temporary directory, and how to be rid of it. */
export async function temporary(): Promise<{ dir: string; remove(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-e2e-'))
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) }
}

/** Returns every line of a mapping tree as `HASH LINE`, sorted. */
export async function treeLines(mapping: string): Promise<string[]> {
  const lines: string[] = []
  for (const shard of await readdir(mapping)) {
    if (!/^[0-9a-f]{3}$/.test(shard)) continue
    for (const hash of await readdir(join(mapping, shard))) {
      const text = await readFile(join(mapping, shard, hash), 'utf8')
      assert.ok(text.endsWith('\n'), `${hash} has a torn line`)
      for (const line of text.slice(0, -1).split('\n')) lines.push(`${hash} ${line}`)
    }
  }
  return lines.sort()
}

/** Resolves when the condition holds; throws after a minute. */
export async function until(condition: () => boolean): Promise<void> {
  const end = Date.now() + 60_000
  while (!condition()) {
    assert.ok(Date.now() < end, `waited a minute for: ${condition}`)
    await delay(10)
  }
}
