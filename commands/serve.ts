import { Flags } from '@oclif/core'
import { KeepgwCommand } from '../src/command.ts'
import { ExitCode, KeepgwError, messageOf, UsageError } from '../src/errors.ts'
import { clusterWarnings, type Reach, reach } from '../src/server/check.ts'
import { assertDistinct, type Mount, makeMount } from '../src/server/mounts.ts'
import { createLog } from '../src/server/request-log.ts'
import { startServer } from '../src/server/serve.ts'
import { type ServeSettings, serveSettings, urlOf } from '../src/server/settings.ts'
import { openVolume, parseVolume } from '../src/volume/spec.ts'

export default class Serve extends KeepgwCommand {
  static override summary = 'Serve blocks to Keep clients, from the buckets where they lie.'

  static override description =
    `Answers the Keep protocol from mappings that \`keepgw index\` made. \
Every block is proven against its MD5 before its last byte goes out; where a place fails, the next \
one is read. New index runs are seen without a restart.

Mapped buckets and directories are read-only. Directories of a keepstore (unix:) and other keep \
services (keep:) take blocks, too: a PUT is answered when the block is on disk. Say unix:readonly:/DIR \
or keep:readonly:URL to read only, unix:serialize:/DIR to let one reader or writer at a time at a disk.

What no flag and no variable says is taken from the cluster's configuration, --config, which is read \
once: SystemRootToken, ManagementToken, BlobSigning, BlobSigningKey, BlobSigningTTL, the \
InternalURLs of Keepstore (ARVADOS_SERVICE_INTERNAL_URL says which one of several is this server's), \
MaxConcurrentRequests, MaxKeepBlobBuffers, TLS, SystemLogs, and Volumes whose Driver is keepgw. \
Secrets come from there or from variables, never from a flag.

With the cluster's BlobSigningKey (also in KEEPGW_BLOB_SIGNING_KEY), a block is given to those alone \
whom its locator is signed for. Without it, whoever knows a block's hash can read it: then serve \
listens on loopback only, unless --insecure-unsigned says that everybody who reaches the address may \
read.

The system root token (KEEPGW_SYSTEM_ROOT_TOKEN) is asked for by /index, /mounts and /status.json, \
the management token (KEEPGW_MANAGEMENT_TOKEN) by /_health/ping, /metrics and /status.json. Where \
one is not set, they answer this machine alone, and /_health/ping nobody.

Requests are logged to stderr. SIGTERM and SIGINT end the service when the answers under way are \
out; a second one ends it at once.

Exit codes: 0 ended by a signal or checked, 1 failed or a volume out of reach, 2 usage, 130 ended by \
a second signal.`

  static override examples = [
    {
      description: 'Serve the bucket "genomes" to clients on this machine',
      command: '<%= config.bin %> <%= command.id %> --volume s3:/var/lib/keepgw/genomes:genomes',
    },
    {
      description: 'See what would be served to a cluster, and whether it can be reached',
      command:
        '<%= config.bin %> <%= command.id %> --volume s3:/var/lib/keepgw/genomes:genomes --config /etc/arvados/config.yml --check',
    },
    {
      description: 'Serve a bucket and a directory to a trusted network, with a profile for S3',
      command:
        '<%= config.bin %> <%= command.id %> --volume s3:/srv/maps/genomes:genomes:reader --volume file:/srv/maps/lab:/data/lab --listen 10.0.0.5:25107 --insecure-unsigned',
    },
  ]

  static override flags = {
    volume: Flags.string({
      description:
        'what to serve: s3:MAPPINGS:BUCKET[:CREDENTIALS], with a profile or a file of credentials; file:MAPPINGS:DIR; unix:/DIR or /DIR, a directory of a keepstore; keep:URL[,URL…], other keep services; may be given more than once; default: the volumes of the configuration whose Driver is keepgw',
      helpValue: 'VOLUME',
      multiple: true,
      multipleNonGreedy: true,
    }),
    volumes: Flags.string({
      description: 'directories of keepstores, with commas between: /DIR,/DIR',
      helpValue: 'DIRS',
    }),
    listen: Flags.string({
      description:
        'address to listen at; default: that of the configuration, or 127.0.0.1:25107 without one',
      helpValue: 'HOST:PORT',
      env: 'KEEPGW_LISTEN',
    }),
    config: Flags.string({
      description:
        'the cluster’s configuration; default: ARVADOS_CONFIG, or /etc/arvados/config.yml where that is',
      helpValue: 'FILE',
      env: 'KEEPGW_CONFIG',
    }),
    'cluster-id': Flags.string({
      description:
        'which cluster of the configuration; without one, the cluster in the UUIDs of mounts: zzzzz by default',
      helpValue: 'ID',
      env: 'KEEPGW_CLUSTER_ID',
    }),
    'storage-class': Flags.string({
      description:
        'storage class that the blocks belong to; may be given more than once; keepgw by default. With "default", keep-balance trashes Keep’s own copies of these blocks',
      helpValue: 'NAME',
      multiple: true,
      multipleNonGreedy: true,
    }),
    'insecure-unsigned': Flags.boolean({
      default: false,
      description:
        'where nothing is signed, serve blocks to everybody who reaches the address, not only to this machine',
    }),
    'blob-signing-ttl': Flags.string({
      description: 'the cluster’s BlobSigningTTL; default: that of the configuration, or 336h',
      helpValue: 'DURATION',
      env: 'KEEPGW_BLOB_SIGNING_TTL',
    }),
    'max-concurrent-requests': Flags.integer({
      description:
        'requests answered at once, but for health and metrics; others get 503. 0: no limit; default: API.MaxConcurrentRequests of the configuration, or 0',
      helpValue: 'N',
      min: 0,
      env: 'KEEPGW_MAX_CONCURRENT_REQUESTS',
    }),
    'max-keep-blob-buffers': Flags.integer({
      description:
        'blocks read at once; requests for others get 503. 0: no limit; default: API.MaxKeepBlobBuffers of the configuration, or 0',
      helpValue: 'N',
      min: 0,
      env: 'KEEPGW_MAX_KEEP_BLOB_BUFFERS',
    }),
    'tls-certificate': Flags.string({
      description: 'PEM file of a certificate: HTTPS is spoken; also TLS.Certificate',
      helpValue: 'FILE',
      env: 'KEEPGW_TLS_CERTIFICATE',
    }),
    'tls-key': Flags.string({
      description: 'PEM file of the certificate’s key; also TLS.Key',
      helpValue: 'FILE',
      env: 'KEEPGW_TLS_KEY',
    }),
    head: Flags.string({
      description:
        'how HEAD finds out whether a block is there: asks one place if its object is unchanged, or reads and proves all of it',
      helpValue: 'if-match|read',
      options: ['if-match', 'read'],
      default: 'if-match',
    }),
    'trash-lifetime': Flags.string({
      description:
        'how long a block that was thrown away from a directory can be taken back: 3600s, 90m, 2h, 14d; 0s deletes it at once',
      helpValue: 'TIME',
      default: '14d',
    }),
    'write-buffers': Flags.integer({
      description: 'blocks that are received at once, each in 64 MiB of memory; more are refused',
      helpValue: 'N',
      default: 8,
      min: 1,
      max: 1024,
    }),
    'idle-timeout': Flags.integer({
      description: 'seconds without a byte after which the next place of a block is tried',
      helpValue: 'SECONDS',
      default: 30,
      min: 1,
      max: 86_400,
    }),
    'read-ahead': Flags.string({
      description:
        'memory for reading large blocks of a bucket by several requests at once, where one is slow; all blocks together: 64M, 1G; 0: one request a block',
      helpValue: 'SIZE',
      default: '64M',
      env: 'KEEPGW_READ_AHEAD',
    }),
    'hedge-after': Flags.string({
      description:
        'milliseconds without a first byte after which another place is asked, too, or the same by another request; auto: after what few first bytes took lately; 0 or off: never',
      helpValue: 'MS',
      default: 'auto',
      env: 'KEEPGW_HEDGE_AFTER',
    }),
    'log-level': Flags.string({
      description: 'debug, info, warn or error; also SystemLogs.LogLevel; info by default',
      helpValue: 'LEVEL',
      options: ['debug', 'info', 'warn', 'error'],
      env: 'KEEPGW_LOG_LEVEL',
    }),
    'log-format': Flags.string({
      description: 'json or text; also SystemLogs.Format; json by default',
      helpValue: 'FORMAT',
      options: ['json', 'text'],
      env: 'KEEPGW_LOG_FORMAT',
    }),
    check: Flags.boolean({
      default: false,
      description:
        'read all settings, reach each volume, print what would be done, and end without serving',
    }),
  }

  override async run(): Promise<void> {
    const { flags } = await this.parse(Serve)
    const settings = await serveSettings(flags, process.env)
    if (flags.check) return this.#check(settings)
    const mounts: Mount[] = []
    try {
      for (const volume of settings.volumes) mounts.push(await openMount(volume, settings))
      await serve(settings, mounts)
    } finally {
      await Promise.all(mounts.map(({ volume }) => volume.close()))
    }
  }

  async #check(settings: ServeSettings): Promise<void> {
    for (const [name, value] of describe(settings)) print(name, value)
    const signal = this.stopSignal()
    const mounts: Mount[] = []
    let failed = 0
    for (const setting of settings.volumes) {
      const { mount, outcome } = await checkVolume(setting, settings, signal)
      if (mount !== undefined) mounts.push(mount)
      if (outcome.state === 'unreachable') failed += 1
      print('volume', [setting.volume, ...(mount === undefined ? [] : words(mount))].join(', '))
      print('', outcome.state === 'unreachable' ? `out of reach: ${outcome.reason}` : outcome.state)
    }
    assertDistinct(mounts)
    for (const warning of clusterWarnings(settings)) this.warning(`warning: ${warning}`)
    if (failed === 0) return
    throw new KeepgwError(`${failed} of ${settings.volumes.length} volumes are out of reach`)
  }
}

/** Serves until a signal comes. */
async function serve(settings: ServeSettings, mounts: Mount[]): Promise<void> {
  const log = createLog(process.stderr, settings.log)
  const server = await startServer({ ...settings, mounts, log })
  log.info(
    {
      address: server.address,
      signing: settings.signing !== undefined,
      volumes: mounts.map(({ volume }) => String(volume)),
    },
    'listening',
  )
  const signal = await firstSignal()
  log.info({ signal }, 'stopping when the answers under way are out')
  await server.close()
}

async function openMount(
  { volume, storageClasses }: ServeSettings['volumes'][number],
  { clusterId, tokens: { systemRoot } }: ServeSettings,
): Promise<Mount> {
  return makeMount(await openVolume(parseVolume(volume), { systemRoot, storageClasses }), clusterId)
}

/** A wrong setting is thrown; what is out of reach is told. The volume is closed again. */
async function checkVolume(
  setting: ServeSettings['volumes'][number],
  settings: ServeSettings,
  signal: AbortSignal,
): Promise<{ mount?: Mount; outcome: Reach }> {
  let mount: Mount
  try {
    mount = await openMount(setting, settings)
  } catch (error) {
    if (error instanceof UsageError) throw error
    return { outcome: { state: 'unreachable', reason: messageOf(error) } }
  }
  try {
    return { mount, outcome: await reach(mount.volume, settings.idleLimit, signal) }
  } finally {
    await mount.volume.close()
  }
}

function describe(settings: ServeSettings): [name: string, value: string][] {
  const { cluster, clusterId, signing, tokens, maxRequests, maxBlocks } = settings
  const limit = (max: number) => (max === 0 ? 'no limit' : `at most ${max}`)
  const set = (token: string | undefined) => (token ? 'set' : 'not set')
  return [
    ['cluster', `${clusterId}, ${cluster?.file ?? 'no configuration file'}`],
    ['address', urlOf(settings)],
    [
      'signing',
      signing === undefined ? 'off: who knows a hash reads the block' : `on, TTL ${signing.ttl} s`,
    ],
    ['tokens', `system root ${set(tokens.systemRoot)}, management ${set(tokens.management)}`],
    ['requests', `${limit(maxRequests)} at once`],
    ['blocks', `${limit(maxBlocks)} at once`],
    ['for +K@', settings.serviceUuid ?? 'no UUID'],
    ...(cluster !== undefined && cluster.otherVolumes > 0
      ? [
          ['keepstore’s', `${cluster.otherVolumes} volumes of other drivers, left to it`] as [
            string,
            string,
          ],
        ]
      : []),
  ]
}

function words({ uuid, volume, storageClasses }: Mount): string[] {
  return [
    `mount ${uuid}`,
    `device ${volume.deviceId}`,
    `storage classes ${storageClasses.join(' ')}`,
  ]
}

function print(name: string, value: string): void {
  process.stdout.write(`${name.padEnd(12)}${value}\n`)
}

/** Resolves with the first SIGTERM or SIGINT; the second one ends the process. */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) process.exit(ExitCode.interrupted)
      asked = true
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}
