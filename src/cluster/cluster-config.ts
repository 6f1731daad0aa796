/** What keepgw takes from a cluster's configuration. All else in it is not keepgw's. */
import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEFAULT_SIGNING_TTL } from '../keep/signature.ts'
import { type ClusterSection, DEFAULT_CONFIG, readClusterSection } from './config-file.ts'
import type { Section } from './section.ts'

/** An entry of Services.Keepstore.InternalURLs. */
export interface KeepService {
  /** How clients reach it. */
  url: URL
  /** Where it listens, if that is another address. */
  listen?: URL
  /** The last part of its UUID. */
  rendezvous?: string
}

/** An entry of Volumes with the driver `keepgw`. */
export interface ConfiguredVolume {
  /** As `--volume` has it. */
  volume: string
  storageClasses: string[]
  readOnly: boolean
  /** The services that have it; all of them if there is none. */
  accessViaHosts: { url: URL; readOnly: boolean }[]
}

/**
 * What keepgw heeds of a cluster's configuration. A setting that is not there, or empty, is undefined, or
 * has Arvados' own default.
 */
export interface ClusterConfig {
  /** The path that it was read from. */
  file: string
  clusterId: string
  systemRootToken?: string | undefined
  managementToken?: string | undefined
  blobSigning: boolean
  blobSigningKey?: string | undefined
  /** Seconds. */
  blobSigningTtl: number
  /** False where no block is to be thrown away. */
  blobTrash: boolean
  /** Seconds. */
  blobTrashLifetime?: number | undefined
  /** Blocks of a trash list that are thrown away at once; 0 turns the list off. */
  blobTrashConcurrency?: number | undefined
  /** Seconds between two looks at the trash; 0 turns them off. */
  blobTrashCheckInterval?: number | undefined
  /** Blocks in the trash that are deleted at once; 0 for none ever. */
  blobDeleteConcurrency?: number | undefined
  services: KeepService[]
  /** 0 is no limit. */
  maxConcurrentRequests?: number | undefined
  /** 0 is no limit. */
  maxKeepBlobBuffers?: number | undefined
  /** Paths of PEM files. */
  certificate?: string | undefined
  certificateKey?: string | undefined
  logLevel?: 'debug' | 'info' | 'warn' | 'error' | undefined
  logFormat?: 'json' | 'text' | undefined
  volumes: ConfiguredVolume[]
  /** Volumes of other drivers: keepstore's. */
  otherVolumes: number
  /** True where containers get a keepstore of their own, which hides all other services from them. */
  containersHaveKeepstore: boolean
}

/** Those of Arvados (logrus), and ours that comes nearest. */
const LEVELS = {
  trace: 'debug',
  debug: 'debug',
  info: 'info',
  warning: 'warn',
  warn: 'warn',
  error: 'error',
  fatal: 'error',
  panic: 'error',
} as const
const FORMATS = { json: 'json', text: 'text' } as const

/** Which configuration, and which cluster of it. */
export interface ClusterFlags {
  config?: string | undefined
  'cluster-id'?: string | undefined
}

/**
 * As readClusterConfig(), of the file that `--config` names, else ARVADOS_CONFIG, else the one that
 * Arvados has where that is there. Undefined where there is none.
 */
export async function findClusterConfig(
  flags: ClusterFlags,
  env: NodeJS.ProcessEnv,
): Promise<ClusterConfig | undefined> {
  const named = flags.config || env.ARVADOS_CONFIG
  const file = named || (existsSync(DEFAULT_CONFIG) ? DEFAULT_CONFIG : undefined)
  return file === undefined ? undefined : readClusterConfig(file, flags['cluster-id'])
}

/**
 * Reads what is keepgw's in a configuration file. Undefined for a file without any setting. Throws
 * UsageError for what is unknown or malformed among it.
 */
export async function readClusterConfig(
  file: string,
  clusterId?: string,
): Promise<ClusterConfig | undefined> {
  const found = await readClusterSection(file, clusterId)
  return found === undefined ? undefined : clusterConfig(found)
}

function clusterConfig({ file, clusterId, section }: ClusterSection): ClusterConfig {
  const collections = section.section('Collections')
  const api = section.section('API')
  const tls = section.section('TLS')
  const logs = section.section('SystemLogs')
  const volumes = volumeSections(section)
  return {
    file,
    clusterId,
    systemRootToken: section.text('SystemRootToken'),
    managementToken: section.text('ManagementToken'),
    blobSigning: collections.boolean('BlobSigning') ?? true,
    blobSigningKey: collections.text('BlobSigningKey'),
    blobSigningTtl: signingTtl(collections),
    blobTrash: collections.boolean('BlobTrash') ?? true,
    blobTrashLifetime: collections.duration('BlobTrashLifetime'),
    blobTrashConcurrency: collections.count('BlobTrashConcurrency'),
    blobTrashCheckInterval: collections.duration('BlobTrashCheckInterval'),
    blobDeleteConcurrency: collections.count('BlobDeleteConcurrency'),
    services: keepServices(section),
    maxConcurrentRequests: api.count('MaxConcurrentRequests'),
    maxKeepBlobBuffers: api.count('MaxKeepBlobBuffers'),
    certificate: filePath(tls, 'Certificate'),
    certificateKey: filePath(tls, 'Key'),
    logLevel: logs.choice('LogLevel', LEVELS),
    logFormat: logs.choice('Format', FORMATS),
    volumes: volumes.filter(isOurs).map(configuredVolume),
    otherVolumes: volumes.filter((volume) => !isOurs(volume)).length,
    containersHaveKeepstore: containersHaveKeepstore(section, volumes),
  }
}

function signingTtl(collections: Section): number {
  const seconds = Math.floor(collections.duration('BlobSigningTTL') ?? DEFAULT_SIGNING_TTL)
  if (seconds > 0) return seconds
  throw collections.bad('BlobSigningTTL', 'is shorter than a second')
}

function keepServices(section: Section): KeepService[] {
  const urls = section.section('Services').section('Keepstore').section('InternalURLs')
  return urls.names.map((name) => {
    const entry = urls.section(name)
    const listen = entry.text('ListenURL')
    const rendezvous = entry.text('Rendezvous')
    return {
      url: httpUrl(urls, name, name),
      ...(listen === undefined ? {} : { listen: httpUrl(entry, 'ListenURL', listen) }),
      ...(rendezvous === undefined ? {} : { rendezvous }),
    }
  })
}

function volumeSections(section: Section): Section[] {
  const volumes = section.section('Volumes')
  return volumes.names.map((uuid) => volumes.section(uuid))
}

/** Volumes of other drivers (S3, Directory, Azure) are keepstore's. */
function isOurs(volume: Section): boolean {
  return volume.text('Driver') === 'keepgw'
}

function configuredVolume(volume: Section): ConfiguredVolume {
  const parameters = volume.section('DriverParameters')
  parameters.allowOnly(['Volume'])
  const text = parameters.text('Volume')
  if (text === undefined) throw parameters.bad('Volume', 'is missing', 'As --volume has it')
  const classes = volume.section('StorageClasses')
  const hosts = volume.section('AccessViaHosts')
  return {
    volume: text,
    storageClasses: classes.names.filter((name) => classes.boolean(name)),
    readOnly: volume.boolean('ReadOnly') ?? false,
    accessViaHosts: hosts.names.map((name) => ({
      url: httpUrl(hosts, name, name),
      readOnly: hosts.section(name).boolean('ReadOnly') ?? false,
    })),
  }
}

/**
 * crunch-run starts a keepstore in a container unless a volume has AccessViaHosts, or one that takes
 * blocks keeps fewer copies of each than are wanted.
 */
function containersHaveKeepstore(section: Section, volumes: Section[]): boolean {
  const buffers = section.section('Containers').count('LocalKeepBlobBuffersPerVCPU') ?? 1
  const wanted = section.section('Collections').count('DefaultReplication') ?? 2
  const fits = (volume: Section): boolean =>
    volume.section('AccessViaHosts').names.length === 0 &&
    (volume.boolean('ReadOnly') === true || (volume.count('Replication') ?? 1) >= wanted)
  return buffers > 0 && volumes.every(fits)
}

function filePath(section: Section, name: string): string | undefined {
  const text = section.text(name)
  if (text === undefined || isAbsolute(text)) return text
  try {
    return fileURLToPath(text)
  } catch {
    throw section.bad(name, 'is no URL of a file', 'Write file:///path/to/file.pem')
  }
}

function httpUrl(section: Section, name: string, text: string): URL {
  const url = URL.parse(text)
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url
  throw section.bad(name, 'is no http or https URL')
}
