/** What a server is told to do: by flags, else by variables, else by the cluster's configuration. */
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import {
  type ClusterConfig,
  type ConfiguredVolume,
  findClusterConfig,
  type KeepService,
} from '../cluster/cluster-config.ts'
import { isClusterId } from '../cluster/config-file.ts'
import { addressOf, serviceUuid } from '../cluster/register.ts'
import { signingKeyOf } from '../cluster/signing.ts'
import { messageOf, UsageError } from '../errors.ts'
import type { SigningKey } from '../keep/signature.ts'
import { newServiceId } from '../keep/via.ts'
import { parseBytes, parseSeconds } from '../units.ts'
import type { HedgeAfter } from '../volume/hedging.ts'
import { splitDirectories } from '../volume/spec.ts'
import { type CacheFlags, type CacheSettings, cacheSettings } from './cache-settings.ts'
import type { TlsFiles } from './http-server.ts'
import { formatListen, isLoopbackOnly, type ListenAddress, parseListen } from './listen.ts'
import { DEFAULT_CLUSTER_ID } from './mounts.ts'
import type { LogFormat, LogLevel } from './request-log.ts'
import type { HeadMode, ServerTokens } from './service.ts'
import { workerSettings } from './worker-settings.ts'
import { WRITING, type WriteOptions } from './writes.ts'

/** Flags of `keepgw serve`, or the variables that stand for them. */
export interface ServeFlags extends CacheFlags {
  volume?: string[] | undefined
  volumes?: string | undefined
  listen?: string | undefined
  config?: string | undefined
  'cluster-id'?: string | undefined
  'storage-class'?: string[] | undefined
  'insecure-unsigned': boolean
  'blob-signing-ttl'?: string | undefined
  'max-concurrent-requests'?: number | undefined
  'max-keep-blob-buffers'?: number | undefined
  'tls-certificate'?: string | undefined
  'tls-key'?: string | undefined
  'log-level'?: string | undefined
  'log-format'?: string | undefined
  'trash-lifetime'?: string | undefined
  'write-buffers': number
  'idle-timeout': number
  workers: number
  'read-ahead': string
  'hedge-after': string
  head: string
}

/** What a server is to do; `volumes` are not opened yet. */
export interface ServeSettings {
  /** What the cluster's configuration says; undefined without one. */
  cluster: ClusterConfig | undefined
  clusterId: string
  /** Names this service to other keep services: the same for all its workers. */
  id: string
  listen: ListenAddress
  /** A certificate and its key, PEM: then HTTPS is spoken, and nothing else. */
  tls: TlsFiles | undefined
  /** The UUID that `+K@` hints can have, where the cluster gives one. */
  serviceUuid: string | undefined
  volumes: VolumeSetting[]
  tokens: ServerTokens
  /** What locators are signed with; without it everybody may read what he knows the hash of. */
  signing: SigningKey | undefined
  head: HeadMode
  /** Requests that are answered at once, but for health and metrics; 0 is no limit. */
  maxRequests: number
  /** Blocks that are read at once; 0 is no limit. */
  maxBlocks: number
  /** For volumes that take blocks. */
  writing: WriteOptions
  cache: CacheSettings | undefined
  /** Processes that answer at the address. */
  workers: number
  /** Milliseconds a place may be silent before the next one is tried. */
  idleLimit: number
  /** Bytes of memory for what is read ahead, all blocks together; 0 is one request a block. */
  readAhead: number
  /** When a place that is slow to its first byte is raced by another one; 0 is never. */
  hedgeAfter: HedgeAfter
  log: { level: LogLevel; format: LogFormat }
}

/** A volume and what it is shown as. */
export interface VolumeSetting {
  /** As `--volume` has it. */
  volume: string
  /** Undefined where nobody has said: then each kind of volume has its own. */
  storageClasses: string[] | undefined
  /** True where the configuration lets nobody write to it. */
  readOnly: boolean
}

const DEFAULT_LISTEN = '127.0.0.1:25107'

/**
 * Returns the settings. Secrets come from `env` or the configuration, never from a flag. Reads the
 * configuration and the certificate. Throws UsageError for what is malformed, missing or unsafe.
 */
export async function serveSettings(
  flags: ServeFlags,
  env: NodeJS.ProcessEnv,
): Promise<ServeSettings> {
  const cluster = await findClusterConfig(flags, env)
  const service = ownService(cluster?.services ?? [], env.ARVADOS_SERVICE_INTERNAL_URL)
  const tls = await readTls(flags, cluster)
  const listen = listenOf(flags, cluster, service, tls !== undefined)
  const signing = signingKeyOf(cluster, env, flags['blob-signing-ttl'])
  assertSafe(listen.address, signing, flags['insecure-unsigned'])
  const clusterId = clusterIdOf(flags, cluster)
  const volumes = volumesOf(flags, cluster, service)
  const names = volumes.map(({ volume }) => volume)
  return {
    cluster,
    clusterId,
    id: newServiceId(),
    listen: listen.address,
    tls: listen.https ? tls : undefined,
    serviceUuid: serviceUuid(clusterId, service?.rendezvous),
    volumes,
    tokens: {
      systemRoot: env.KEEPGW_SYSTEM_ROOT_TOKEN || cluster?.systemRootToken,
      management: env.KEEPGW_MANAGEMENT_TOKEN || cluster?.managementToken,
    },
    signing,
    head: flags.head as HeadMode,
    maxRequests: flags['max-concurrent-requests'] ?? cluster?.maxConcurrentRequests ?? 0,
    maxBlocks: flags['max-keep-blob-buffers'] ?? cluster?.maxKeepBlobBuffers ?? 0,
    writing: writingOf(flags, cluster),
    workers: workerSettings(flags.workers, names),
    cache: await cacheSettings(flags, names, signing),
    idleLimit: flags['idle-timeout'] * 1000,
    readAhead: parseBytes(flags['read-ahead']),
    hedgeAfter: hedgeAfterOf(flags['hedge-after']),
    log: {
      level: (flags['log-level'] as LogLevel | undefined) ?? cluster?.logLevel ?? 'info',
      format: (flags['log-format'] as LogFormat | undefined) ?? cluster?.logFormat ?? 'json',
    },
  }
}

function hedgeAfterOf(text: string): HedgeAfter {
  if (text === 'auto') return text
  if (text === 'off') return 0
  if (/^\d{1,6}$/.test(text)) return Number(text)
  throw new UsageError(`--hedge-after ${text} is no number of milliseconds`, {
    hint: 'Write for example 200, auto or off',
  })
}

/** Returns the URL that the server's own clients use: `http://HOST:PORT`. */
export function urlOf({ listen, tls }: ServeSettings): string {
  return `${tls === undefined ? 'http' : 'https'}://${formatListen(listen)}`
}

function writingOf(flags: ServeFlags, cluster: ClusterConfig | undefined): WriteOptions {
  const trashLifetime = trashLifetimeOf(flags, cluster)
  const trashed = cluster?.blobTrashConcurrency ?? WRITING.trashConcurrency
  const interval = cluster?.blobTrashCheckInterval ?? WRITING.trashInterval
  const deletesNothing = cluster?.blobDeleteConcurrency === 0
  return {
    buffers: flags['write-buffers'],
    // What has no time in the trash would be deleted by DELETE and by the list.
    trash: (cluster?.blobTrash ?? WRITING.trash) && !(deletesNothing && trashLifetime === 0),
    trashLifetime,
    trashConcurrency: trashed,
    trashInterval: deletesNothing ? 0 : interval,
  }
}

function trashLifetimeOf(flags: ServeFlags, cluster: ClusterConfig | undefined): number {
  const text = flags['trash-lifetime']
  if (text !== undefined) return Math.round(parseSeconds(text))
  return Math.round(cluster?.blobTrashLifetime ?? WRITING.trashLifetime)
}

function clusterIdOf(flags: ServeFlags, cluster: ClusterConfig | undefined): string {
  const id = flags['cluster-id'] ?? cluster?.clusterId ?? DEFAULT_CLUSTER_ID
  if (isClusterId(id)) return id
  throw new UsageError(`--cluster-id ${id} is none: five lower-case letters or digits`)
}

/** Returns the entry of the cluster's configuration that is about this server, if that is clear. */
function ownService(services: KeepService[], wanted: string | undefined): KeepService | undefined {
  if (!wanted) return services.length === 1 ? services[0] : undefined
  const href = URL.parse(wanted)?.href
  const found = services.find(({ url }) => url.href === href)
  if (found !== undefined || services.length === 0) return found
  throw new UsageError(
    `ARVADOS_SERVICE_INTERNAL_URL is not among Services.Keepstore.InternalURLs: ${wanted}`,
    { hint: `They are: ${services.map(({ url }) => url.href).join(' ')}` },
  )
}

function listenOf(
  flags: ServeFlags,
  cluster: ClusterConfig | undefined,
  service: KeepService | undefined,
  hasTls: boolean,
): { address: ListenAddress; https: boolean } {
  const url = flags.listen === undefined ? (service?.listen ?? service?.url) : undefined
  if (url !== undefined) {
    const https = url.protocol === 'https:'
    if (https && !hasTls) {
      throw new UsageError(`${cluster?.file}: ${url.href} is HTTPS, but there is no certificate`, {
        hint: 'Set TLS.Certificate and TLS.Key there, or give --tls-certificate and --tls-key',
      })
    }
    return { address: addressOf(url), https }
  }
  if (flags.listen === undefined && cluster !== undefined && cluster.services.length > 1) {
    throw new UsageError(
      `${cluster.file}: Services.Keepstore.InternalURLs has ${cluster.services.length} URLs`,
      { hint: 'Say in ARVADOS_SERVICE_INTERNAL_URL which one is this server’s, or give --listen' },
    )
  }
  return { address: parseListen(flags.listen ?? DEFAULT_LISTEN), https: hasTls }
}

async function readTls(
  flags: ServeFlags,
  cluster: ClusterConfig | undefined,
): Promise<TlsFiles | undefined> {
  const certificate = flags['tls-certificate'] ?? cluster?.certificate
  const key = flags['tls-key'] ?? cluster?.certificateKey
  if (certificate === undefined && key === undefined) return undefined
  if (certificate === undefined || key === undefined) {
    throw new UsageError('a certificate and its key belong together: one of them is missing')
  }
  const files = {
    cert: await readPem(certificate, 'certificate'),
    key: await readPem(key, 'certificate’s key'),
  }
  try {
    createSecureContext(files)
  } catch (error) {
    const why = messageOf(error)
    throw new UsageError(`${certificate} and ${key} are no certificate and its key: ${why}`, {
      cause: error,
      hint: 'Both are PEM files; the first has the certificate, and those that vouch for it behind it',
    })
  }
  return files
}

async function readPem(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    throw new UsageError(`the ${what} cannot be read: ${messageOf(error)}`, { cause: error })
  }
}

function assertSafe(
  listen: ListenAddress,
  signing: SigningKey | undefined,
  insecure: boolean,
): void {
  if (signing !== undefined || insecure || isLoopbackOnly(listen)) return
  throw new UsageError(
    `without signatures, ${formatListen(listen)} would give blocks to everybody who reaches it`,
    {
      hint: 'Set the cluster’s BlobSigningKey, listen on 127.0.0.1, or say --insecure-unsigned',
    },
  )
}

function volumesOf(
  flags: ServeFlags,
  cluster: ClusterConfig | undefined,
  service: KeepService | undefined,
): VolumeSetting[] {
  const asked = flags['storage-class']
  const directories = flags.volumes === undefined ? [] : splitDirectories(flags.volumes)
  const named = [...(flags.volume ?? []), ...directories]
  const volumes: VolumeSetting[] =
    named.length > 0
      ? named.map((volume) => ({ volume, storageClasses: undefined, readOnly: false }))
      : configuredVolumes(cluster?.volumes ?? [], service)
  if (volumes.length === 0) {
    throw new UsageError('there is no volume to serve', {
      hint:
        cluster === undefined
          ? 'Name one with --volume'
          : `Name one with --volume, or in ${cluster.file} with the driver keepgw and an AccessViaHosts of this server’s URL; those of other drivers are keepstore’s`,
    })
  }
  return volumes.map((each) => ({ ...each, storageClasses: asked ?? each.storageClasses }))
}

/** Returns those volumes of the configuration that are this service's. */
function configuredVolumes(
  volumes: ConfiguredVolume[],
  service: KeepService | undefined,
): VolumeSetting[] {
  return volumes.flatMap(({ volume, storageClasses, readOnly, accessViaHosts }) => {
    const own = accessViaHosts.find(({ url }) => url.href === service?.url.href)
    if (own === undefined && accessViaHosts.length > 0) return []
    return {
      volume,
      storageClasses: storageClasses.length > 0 ? storageClasses : undefined,
      readOnly: readOnly || own?.readOnly === true,
    }
  })
}
