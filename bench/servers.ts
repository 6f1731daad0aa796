/** keepgw and keepstore as services: they are started once, and run as long as their case does. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { CLI, type Peer, routeEnvironment } from './contenders.ts'
import type { Route } from './store.ts'

/** A service that runs. */
export interface Service {
  name: 'keepgw' | 'keepstore'
  /** As people are told of it. */
  shown: string
  port: number
  /** Its process; it may have children. */
  pid: number
  stop(): Promise<void>
}

interface Program {
  name: Service['name']
  shown: string
  args: string[]
  env: NodeJS.ProcessEnv
  port: number
  /** The file of its log. */
  log: string
}

const HOST = '127.0.0.1'
const START_MS = 30_000
/** Kills the service when the pipe ends: by stop(), or because this process has died. */
const SUPERVISED = `{ cat <&3 >/dev/null; kill -9 $$; } & exec "$@" 3<&-`

/** Starts the built `keepgw serve`. `home` is where its bucket's mapping lies. Throws where it ends. */
export async function startKeepgw(
  route: Route,
  { home, volumes, name }: { home: string; volumes: string[]; name: string },
): Promise<Service> {
  const port = await freePort()
  const named = volumes.map((volume) => `--volume=${volume}`)
  const flags = ['serve', `--listen=${HOST}:${port}`, ...named]
  return start({
    name: 'keepgw',
    shown: `keepgw serve ${volumes.map(() => '--volume s3:MAPPINGS:BUCKET').join(' ')}`,
    args: [process.execPath, CLI, ...flags],
    env: routeEnvironment(route, home),
    port,
    log: join(home, `${name}.log`),
  })
}

/** Starts a keepstore whose one volume is the bucket, without signatures. Throws where it ends. */
export async function startKeepstore(
  keepstore: Peer,
  route: Route,
  { dir, bucket, name }: { dir: string; bucket: string; name: string },
): Promise<Service> {
  const port = await freePort()
  const config = join(dir, `${name}.yml`)
  // JSON is YAML, too.
  await writeFile(config, JSON.stringify(keepstoreConfig(route, bucket, port)))
  return start({
    name: 'keepstore',
    shown: 'keepstore -config FILE, with one volume: Driver S3, UsePathStyle',
    args: [keepstore.program, '-config', config],
    env: { PATH: process.env.PATH, HOME: dir },
    port,
    log: join(dir, `${name}.log`),
  })
}

function keepstoreConfig(route: Route, bucket: string, port: number): object {
  const token = 'benchbenchbenchbenchbenchbenchbenchbench'
  return {
    Clusters: {
      zzzzz: {
        SystemRootToken: token,
        ManagementToken: token,
        Collections: { BlobSigning: false, BlobSigningKey: token },
        TLS: { Insecure: true },
        // A pull worker wants to know it, and asks it nothing here.
        Services: {
          Controller: { ExternalURL: `https://${HOST}:9` },
          Keepstore: { InternalURLs: { [`http://${HOST}:${port}`]: {} } },
        },
        Volumes: {
          'zzzzz-nyw5e-000000000000000': {
            Driver: 'S3',
            DriverParameters: {
              Endpoint: route.endpoint,
              Region: route.region,
              Bucket: bucket,
              AccessKeyID: route.accessKeyId,
              SecretAccessKey: route.secretAccessKey,
              UsePathStyle: true,
            },
          },
        },
      },
    },
  }
}

async function start({ name, shown, args, env, port, log }: Program): Promise<Service> {
  const file = openSync(log, 'w')
  const child = spawn('sh', ['-c', SUPERVISED, 'sh', ...args], {
    env,
    stdio: ['ignore', file, file, 'pipe'],
  })
  let hasEnded = false
  const ended = once(child, 'exit').then(() => {
    hasEnded = true
  })
  const stop = async (): Promise<void> => {
    ;(child.stdio[3] as Duplex).end()
    await ended
  }
  const deadline = Date.now() + START_MS
  while (!(await accepts(port))) {
    if (hasEnded || Date.now() > deadline) {
      await stop()
      throw new Error(`${shown} does not start: ${(await readFile(log, 'utf8')).slice(-2000)}`)
    }
    await delay(50)
  }
  return { name, shown, port, pid: child.pid!, stop }
}

async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, HOST)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** The port is free now; nothing keeps another process from taking it before it is used. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST)
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await once(server.close(), 'close')
  return port
}
