/**
 * keepgw from end to end, in less than a minute and without an account anywhere: `npm run demo`.
 * An S3 server in this very process gets a few objects; then the built keepgw indexes them, serves
 * their blocks, and goes on serving when an object is deleted. `npm run demo -- --keep` leaves all
 * of it running, to be looked at. Needs a checkout with its development packages (`npm ci`).
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startFauxqs } from '../test/servers/fauxqs.ts'
import { makeBucket, type S3Server, type TestBucket } from '../test/servers/s3.ts'

const CLI = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))
/** Seconds. Even on a slow machine all steps together take less. */
const TIME_LIMIT = 110
const BLOCK = 64 * 1024 * 1024

const children: ChildProcess[] = []
/** What the commands see besides PATH and the like. */
const environment: Record<string, string> = {}
const ending = new AbortController()

const show = (command: string): void => console.log(`  $ ${command}`)
const print = (output: string): void => console.log(output.replace(/^/gm, '    '))

/** All that happens. Throws where something is not as it should be. */
async function demo(s3: S3Server, mappings: string): Promise<string> {
  say('1. A bucket', `An S3 server runs in this process, at ${s3.endpoint}. It gets four objects:`)
  const bucket = await makeBucket(s3)
  const hash = await fill(bucket)
  Object.assign(environment, {
    AWS_ENDPOINT_URL: s3.endpoint,
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    KEEPGW_MAPPINGS: mappings,
  })
  say('', `The commands below are run in this environment; keepgw stands for: node ${CLI}`)
  showEnvironment()

  say('2. Index', 'Read each object once, and note where each block of 64 MiB lies.')
  await keepgw('index', bucket.name)
  const tree = join(mappings, bucket.name)
  const file = join(tree, hash.slice(0, 3), hash)
  say('', 'The mapping is plain text: a file for each hash, a line for each place of the block.')
  show(`cat ${file}`)
  const lines = await readFile(file, 'utf8')
  print(lines.trimEnd())
  assert.equal(lines.split('\n').length - 1, 2, 'the block should have two places')

  say('3. Serve', 'Give blocks to whoever asks for their hash.')
  const volume = `s3:${tree}:${bucket.name}`
  const server = await serve('--volume', volume, '--listen', '127.0.0.1:0')
  const url = `http://${server.address}/${hash}+${BLOCK}`
  await readBlock(url, hash)

  const key = /^\d+:\d+:([^\t\n]*)/.exec(lines)?.[1] ?? ''
  say('4. Lose an object', `${key} is deleted from the bucket. The block has another place:`)
  await bucket.remove(key)
  const failover = server.logged('failover')
  await readBlock(url, hash)
  say('', 'What the server logged meanwhile:')
  print(await failover)

  say('5. Verify', 'Read every place of the block, and say how it is.')
  const places = await keepgw('verify', hash)
  assert.match(places, /^\w+ gone /m, 'verify should say that one place is gone')
  assert.match(places, /^\w+ ok /m, 'verify should say that the other place is ok')

  say('6. Index again', 'Only the listing is asked for: what has not changed is not read.')
  assert.match(await keepgw('index', bucket.name), /3 unchanged, 1 dropped; read 0 B/)
  assert.match(await keepgw('status'), /^lost +0 blocks/m, 'no block should be lost')

  say(
    'That was it. For a bucket of your own',
    'set the AWS_* variables (or use --profile, --endpoint-url …) and type:',
  )
  show('keepgw index my-bucket')
  show('keepgw serve --volume s3:$HOME/.local/state/keepgw/my-bucket:my-bucket')
  return url
}

/** Puts the sample into the bucket. Returns the hash of the first block of its large file. */
async function fill(bucket: TestBucket): Promise<string> {
  const large = Buffer.alloc(BLOCK + 1024 * 1024, 'Data should stay where it lies.\n')
  await bucket.putLarge('runs/sample-1.bam', large)
  await bucket.putLarge('backup/sample-1.bam', large)
  await bucket.put('runs/empty.txt', '')
  await bucket.put('runs/50% & "more": über.txt', 'Odd names are names, too.\n')
  for (const { key, size } of await bucket.list()) print(`${String(size).padStart(9)}  ${key}`)
  return md5(large.subarray(0, BLOCK))
}

/** Runs keepgw to its end. Returns what it printed; its progress goes straight to the terminal. */
async function keepgw(...args: string[]): Promise<string> {
  show(['keepgw', ...args].join(' '))
  const child = start(args, 'inherit')
  const [[code], output] = await Promise.all([once(child, 'close'), text(child.stdout!)])
  print(output.trimEnd())
  assert.equal(code, 0, `keepgw ${args[0]} should end with 0, not ${code}`)
  return output
}

/** Starts `keepgw serve`, and resolves once it listens. `logged` waits for a line of its log. */
async function serve(...args: string[]) {
  show(`${['keepgw', 'serve', ...args].join(' ')} &`)
  const log = createInterface(start(['serve', ...args], 'pipe').stderr!)
  const logged = (message: string) =>
    new Promise<string>((resolve, reject) => {
      log.on('line', (line) => line.includes(`"msg":"${message}"`) && resolve(line))
      log.once('close', () => reject(new Error(`keepgw serve has ended, and never "${message}"`)))
    })
  const listening = await logged('listening')
  print(listening)
  return { logged, address: String(JSON.parse(listening).address) }
}

/** Starts the built keepgw, with nothing of the user's own settings for S3 and keepgw. */
function start(args: string[], stderr: 'inherit' | 'pipe'): ChildProcess {
  const own = Object.entries(process.env).filter(([name]) => !/^(AWS|KEEPGW)_/.test(name))
  const env = { ...Object.fromEntries(own), ...environment }
  ending.signal.throwIfAborted()
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', stderr], env })
  children.push(child)
  return child
}

async function readBlock(url: string, hash: string): Promise<void> {
  show(`curl -s ${url} | md5sum`)
  const answer = await fetch(url)
  assert.equal(answer.status, 200, `the block should be there: ${answer.statusText}`)
  const actual = md5(new Uint8Array(await answer.arrayBuffer()))
  print(`${actual}  -`)
  assert.equal(actual, hash, 'the block should have the MD5 that is its name')
}

function md5(data: Uint8Array): string {
  return createHash('md5').update(data).digest('hex')
}

function say(title: string, words: string): void {
  console.log(`\n${title}${title === '' ? '' : '\n'}${words}`)
}

function showEnvironment(): void {
  for (const [name, value] of Object.entries(environment)) show(`export ${name}=${value}`)
}

/** Ends what was started, whatever became of it. */
async function cleanUp(s3: S3Server, mappings: string): Promise<void> {
  ending.abort()
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await s3.stop()
  await rm(mappings, { recursive: true, force: true })
}

async function main(keep: boolean): Promise<void> {
  assert(existsSync(CLI), 'keepgw is not built; type: npm ci && npm run build')
  const stop = Promise.withResolvers<never>()
  stop.promise.catch(() => {})
  const onSignal = (signal: string) => stop.reject(new Error(`stopped by ${signal}`))
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, onSignal)
  process.stdout.once('error', stop.reject)
  const tooLong = new Error(`not done after ${TIME_LIMIT} s`)
  const limit = setTimeout(stop.reject, TIME_LIMIT * 1000, tooLong).unref()
  const mappings = await mkdtemp(join(tmpdir(), 'keepgw-demo-'))
  const s3 = await startFauxqs()
  try {
    const url = await Promise.race([demo(s3, mappings), stop.promise])
    clearTimeout(limit)
    if (!keep) return
    say('Both servers stay up until you press Ctrl-C.', `The block is at ${url}, and:`)
    showEnvironment()
    await stop.promise.catch(() => {})
  } finally {
    await cleanUp(s3, mappings)
  }
}

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
try {
  await main(values.keep)
  console.log('\nAll was as it should be.')
} catch (error) {
  console.error(`\nThe demo failed: ${(error as Error).message}`)
  process.exitCode = 1
}
