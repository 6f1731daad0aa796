/** Starts and stops the server. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { openEngine } from '../hash/engine.ts'
import { BRISK } from '../hash/lanes.ts'
import type { BlockCache } from '../volume/cache/cache.ts'
import { FailureMemory } from '../volume/failure-memory.ts'
import { Hedging } from '../volume/hedging.ts'
import { ReadAhead } from '../volume/read-ahead.ts'
import { Counters } from './counters.ts'
import { createHttpServer } from './http-server.ts'
import { Limit } from './limit.ts'
import { formatListen, type ListenAddress, listenError } from './listen.ts'
import { MeteredVolume } from './metered-volume.ts'
import { Metrics } from './metrics.ts'
import { assertDistinct, type Mount } from './mounts.ts'
import type { Service } from './service.ts'
import type { ServeSettings } from './settings.ts'
import { type Snapshot, takeSnapshot } from './snapshot.ts'
import type { ClientTimeouts } from './timeouts.ts'
import { Writes } from './writes.ts'

/** What a server is told: settings, and what was opened as they say. */
export interface ServeOptions
  extends Pick<
    ServeSettings,
    | 'listen'
    | 'tls'
    | 'tokens'
    | 'signing'
    | 'head'
    | 'maxRequests'
    | 'maxBlocks'
    | 'writing'
    | 'idleLimit'
    | 'readAhead'
    | 'hedgeAfter'
  > {
  mounts: readonly Mount[]
  log: Logger
  /** It stays the caller's, like the volumes. */
  cache: BlockCache | undefined
  /** Returns what all servers of the address have counted; undefined where this one is the only one. */
  snapshot: (() => Promise<Snapshot>) | undefined
  timeouts: ClientTimeouts
}

/** A server that listens. */
export interface RunningServer {
  /** `HOST:PORT`, with the port that was found where 0 was asked for. */
  readonly address: string
  /** Returns what this server has counted. */
  snapshot(): Promise<Snapshot>
  /** Stops listening, closes idle connections, and returns when the last answer is out. */
  close(): Promise<void>
}

/** Blocks that are hashed together; each has 2 MiB. What is read beside them is hashed by itself. */
const HASHED_AT_ONCE = 32

/** Returns the server once it listens. The volumes stay the caller's. Throws KeepgwError. */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  assertDistinct(options.mounts)
  const service = makeService(options)
  const server = createHttpServer(service, options.tls)
  try {
    await listen(server, options.listen)
  } catch (error) {
    await service.writes?.close()
    throw error
  }
  const { port } = server.address() as AddressInfo
  return {
    address: formatListen({ host: options.listen.host, port }),
    snapshot: () => takeSnapshot(service),
    async close() {
      await Promise.all([close(server), service.writes?.close()])
    },
  }
}

function makeService(options: ServeOptions): Service {
  const { mounts, log, signing, cache, tokens, head, idleLimit, hedgeAfter, timeouts } = options
  const counters = new Counters()
  const limits = {
    requests: new Limit(options.maxRequests),
    blocks: new Limit(options.maxBlocks),
  }
  const metrics = new Metrics(counters, limits, cache)
  const failures = new FailureMemory()
  const engine = openEngine(HASHED_AT_ONCE, BRISK)
  const readAhead = new ReadAhead({ bytes: options.readAhead })
  const hedging = hedgeAfter === 0 ? undefined : new Hedging(hedgeAfter)
  const volumes = mounts.map(
    ({ volume }) => new MeteredVolume(volume, counters.ofVolume(volume.deviceId)),
  )
  const shared = { log, counters, limits, metrics, failures, engine, readAhead, hedging, idleLimit }
  const writes = Writes.of({ ...options.writing, volumes, signing, log, idleLimit })
  const snapshot = options.snapshot ?? (() => takeSnapshot({ counters, metrics, cache }))
  return { mounts, volumes, tokens, snapshot, signing, head, writes, cache, timeouts, ...shared }
}

async function listen(server: Server, address: ListenAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onError = (error: Error) => reject(listenError(address, error))
  server.once('error', onError)
  server.listen(address.port, address.host, resolve)
  await promise
  server.off('error', onError)
}

async function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  server.closeIdleConnections()
  await promise
}
