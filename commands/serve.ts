import * as Flags from '@oclif/core/flags'
import { clusterFlags, KeepgwCommand } from '../src/command.ts'
import { KeepgwError, printable } from '../src/errors.ts'
import { cacheWarning, checkVolume, clusterWarnings } from '../src/server/check.ts'
import { describeSettings, describeVolume } from '../src/server/describe.ts'
import { assertDistinct, type Mount } from '../src/server/mounts.ts'
import { serveUntilSignal } from '../src/server/run.ts'
import { type ServeSettings, serveSettings } from '../src/server/settings.ts'

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
once: SystemRootToken, ManagementToken, BlobSigning, BlobSigningKey, BlobSigningTTL, BlobTrash, \
BlobTrashLifetime, BlobTrashConcurrency, BlobTrashCheckInterval, BlobDeleteConcurrency, the \
InternalURLs of Keepstore (ARVADOS_SERVICE_INTERNAL_URL says which one of several is this server's), \
MaxConcurrentRequests, MaxKeepBlobBuffers, TLS, SystemLogs, and Volumes whose Driver is keepgw. \
Secrets come from there or from variables, never from a flag.

With the cluster's BlobSigningKey (also in KEEPGW_BLOB_SIGNING_KEY), a block is given to those alone \
whom its locator is signed for. Without it, whoever knows a block's hash can read it: then serve \
listens on loopback only, unless --insecure-unsigned says that everybody who reaches the address may \
read.

The system root token (KEEPGW_SYSTEM_ROOT_TOKEN) opens /index, /mounts, /status.json, and all that \
touches, trashes or pulls blocks; the management token (KEEPGW_MANAGEMENT_TOKEN) opens /_health/ping, \
/metrics, /metrics.json and /status.json. What has no token set answers this machine alone; /_health/ping, \
and what would change blocks, then answer nobody.

With --cache, blocks that were read are kept on a local disk, and proven again each time. With \
--workers, several processes answer at the address.

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
    {
      description: 'Keep 200 GiB of what is read on a local disk, and use four cores',
      command:
        '<%= config.bin %> <%= command.id %> --volume s3:/var/lib/keepgw/genomes:genomes --cache /var/cache/keepgw --cache-size 200G --workers 4',
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
    ...clusterFlags,
    'cluster-id': Flags.string({
      description:
        'which cluster of the configuration; without one, the cluster in the UUIDs of mounts: zzzzz by default',
      helpValue: 'ID',
      env: 'KEEPGW_CLUSTER_ID',
    }),
    'storage-class': Flags.string({
      description:
        'storage class that the blocks of all volumes belong to; may be given more than once; default: those of the configuration, else keepgw, and "default" for unix: volumes. With "default" for other volumes, keep-balance trashes Keep’s own copies of their blocks',
      helpValue: 'NAME',
      multiple: true,
      multipleNonGreedy: true,
    }),
    'insecure-unsigned': Flags.boolean({
      default: false,
      description:
        'where nothing is signed, serve blocks to everybody who reaches the address, not only to this machine',
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
        'how long a block that was thrown away from a directory can be taken back: 3600s, 90m, 2h, 14d; 0s deletes it at once; default: BlobTrashLifetime of the configuration, or 14d',
      helpValue: 'TIME',
    }),
    'write-buffers': Flags.integer({
      description: 'blocks that are received at once, each in 64 MiB of memory; more are refused',
      helpValue: 'N',
      default: 8,
      min: 1,
      max: 1024,
    }),
    cache: Flags.string({
      description:
        'directory that blocks are kept in once they were read and proven, for the next who asks; several servers of one machine may share it',
      helpValue: 'DIR',
      env: 'KEEPGW_CACHE',
    }),
    'cache-size': Flags.string({
      description:
        'what the cache may take on disk: 500M, 100G, at least 128M; 10G by default. Some of the file system stays free in any case',
      helpValue: 'SIZE',
      env: 'KEEPGW_CACHE_SIZE',
    }),
    workers: Flags.integer({
      description:
        'processes that answer at the address, for more than one core can do; volumes that take blocks are for one. Limits are divided among them',
      helpValue: 'N',
      default: 1,
      min: 1,
      max: 256,
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
    await serveUntilSignal(settings)
  }

  async #check(settings: ServeSettings): Promise<void> {
    for (const [name, value] of describeSettings(settings)) print(name, value)
    const signal = this.stopSignal()
    const mounts: Mount[] = []
    const refusals: string[] = []
    let failed = 0
    for (const setting of settings.volumes) {
      const { mount, outcome, refusal } = await checkVolume(setting, settings, signal)
      if (mount !== undefined) mounts.push(mount)
      if (refusal !== undefined) refusals.push(refusal)
      if (outcome.state === 'unreachable') failed += 1
      print('volume', describeVolume(setting, mount))
      print('', outcome.state === 'unreachable' ? `out of reach: ${outcome.reason}` : outcome.state)
    }
    assertDistinct(mounts)
    const unusable = await cacheWarning(settings)
    const warnings = [...clusterWarnings(settings), ...(unusable ? [unusable] : []), ...refusals]
    for (const warning of warnings) this.warning(`warning: ${warning}`)
    if (failed === 0) return
    throw new KeepgwError(`${failed} of ${settings.volumes.length} volumes are out of reach`)
  }
}

function print(name: string, value: string): void {
  process.stdout.write(`${name.padEnd(12)}${printable(value)}\n`)
}
