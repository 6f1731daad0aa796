/** Starts and stops the server. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from 'pino'
import { openEngine } from '../hash/engine.ts'
import { BRISK } from '../hash/lanes.ts'
import type { SigningKey } from '../keep/signature.ts'
import type { BlockCache } from '../volume/cache/cache.ts'
import { FailureMemory } from '../volume/failure-memory.ts'
import { type HedgeAfter, Hedging } from '../volume/hedging.ts'
import { ReadAhead } from '../volume/read-ahead.ts'
import { Counters } from './counters.ts'
import { createHttpServer, type TlsFiles } from './http-server.ts'
import { Limit } from './limit.ts'
import { formatListen, type ListenAddress, listenError } from './listen.ts'
import { MeteredVolume } from './metered-volume.ts'
import { Metrics } from './metrics.ts'
import { assertDistinct, type Mount } from './mounts.ts'
import type { HeadMode, ServerTokens, Service } from './service.ts'
import { type Snapshot, takeSnapshot } from './snapshot.ts'
import { CLIENT_TIMEOUTS, type ClientTimeouts } from './timeouts.ts'
import { WRITING, type WriteOptions, Writes } from './writes.ts'

export interface ServeOptions {
  mounts: readonly Mount[]
  listen: ListenAddress
  log: Logger
  /** A certificate and its key, PEM: then HTTPS is spoken, and nothing else. */
  tls?: TlsFiles | undefined
  tokens?: ServerTokens
  /** What locators are signed with; without it everybody may read what he knows the hash of. */
  signing?: SigningKey | undefined
  /** For volumes that take blocks. */
  writing?: Partial<WriteOptions>
  /** It stays the caller's, like the volumes. */
  cache?: BlockCache | undefined
  head?: HeadMode
  /** Requests that are answered at once, but for health and metrics; 0, the default, is no limit. */
  maxRequests?: number | undefined
  /** Blocks that are read at once; 0, the default, is no limit. */
  maxBlocks?: number | undefined
  /** Returns what all servers of the address have counted; this one is the only one unless told. */
  snapshot?: (() => Promise<Snapshot>) | undefined
  /** Milliseconds a place may be silent before the next one is tried; 30,000 unless told. */
  idleLimit?: number
  /** Bytes of memory for what is read ahead, all blocks together; 0, the default, is one request a block. */
  readAhead?: number
  /** When a place that is slow to its first byte is raced by another one; 0, the default, is never. */
  hedgeAfter?: HedgeAfter
  /** For tests, which cannot wait for minutes. */
  timeouts?: Partial<ClientTimeouts>
}

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
  await listen(server, options.listen)
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
  const {
    mounts,
    log,
    signing,
    cache,
    tokens = {},
    head = 'if-match',
    idleLimit = 30_000,
  } = options
  const counters = new Counters()
  const limits = {
    requests: new Limit(options.maxRequests),
    blocks: new Limit(options.maxBlocks),
  }
  const metrics = new Metrics(counters, limits, cache)
  const failures = new FailureMemory()
  const engine = openEngine(HASHED_AT_ONCE, BRISK)
  const readAhead = new ReadAhead({ bytes: options.readAhead ?? 0 })
  const { hedgeAfter = 0 } = options
  const hedging = hedgeAfter === 0 ? undefined : new Hedging(hedgeAfter)
  const volumes = mounts.map(
    ({ volume }) => new MeteredVolume(volume, counters.ofVolume(volume.deviceId)),
  )
  const shared = { log, counters, limits, metrics, failures, engine, readAhead, hedging, idleLimit }
  const writes = Writes.of({ ...WRITING, ...options.writing, volumes, signing, log, idleLimit })
  const timeouts = { ...CLIENT_TIMEOUTS, ...options.timeouts }
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
