/** keepgw and keepstore as services: they are started once, and run as long as their case does. */
import { join } from 'node:path'
import * as keepstores from '../test/servers/keepstore.ts'
import { freePort, startSupervised } from '../test/servers/supervised.ts'
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

/**
 * Starts the built `keepgw serve` with these volumes; its log goes to `home`. Throws where it does not
 * start.
 */
export async function startKeepgw(
  route: Route,
  { home, volumes }: { home: string; volumes: string[] },
): Promise<Service> {
  const port = await freePort()
  const named = volumes.map((volume) => `--volume=${volume}`)
  const service = await startSupervised({
    args: [process.execPath, CLI, 'serve', `--listen=127.0.0.1:${port}`, ...named],
    env: routeEnvironment(route, home),
    port,
    log: join(home, `keepgw-${port}.log`),
  })
  const shown = `keepgw serve ${volumes.map(() => '--volume s3:MAPPINGS:BUCKET').join(' ')}`
  return { name: 'keepgw', shown, port, ...service }
}

/** Starts a keepstore whose one volume is the bucket. Throws where it does not start. */
export async function startKeepstore(
  { program }: Peer,
  route: Route,
  { dir, bucket }: { dir: string; bucket: string },
): Promise<Service> {
  const volume = keepstores.bucketVolume(route, bucket)
  const service = await keepstores.startKeepstore(program, { volume, dir, signing: false })
  const shown = 'keepstore -config FILE; one volume, Driver: S3, UsePathStyle: true'
  return { name: 'keepstore', shown, ...service }
}
