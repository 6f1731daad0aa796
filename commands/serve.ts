import { Flags } from '@oclif/core'
import { KeepgwCommand } from '../src/command.ts'
import { ExitCode, UsageError } from '../src/errors.ts'
import { isLoopbackOnly, type ListenAddress, parseListen } from '../src/server/listen.ts'
import { createLog } from '../src/server/request-log.ts'
import { startServer } from '../src/server/serve.ts'
import { openVolume, parseVolume } from '../src/volume/spec.ts'
import type { Volume } from '../src/volume/volume.ts'

export default class Serve extends KeepgwCommand {
  static override summary = 'Serve blocks to Keep clients, from the buckets where they lie.'

  static override description =
    `Answers the Keep protocol from mappings that \`keepgw index\` made. \
Every block is proven against its MD5 before its last byte goes out; where a place fails, the next \
one is read. The service is read-only, and sees new index runs without a restart.

Signatures are not checked yet: whoever knows a block's hash can read it. So it listens on loopback \
only, unless --insecure-unsigned says that everybody who reaches the address may read.

Requests are logged to stderr as JSON lines. SIGTERM and SIGINT end the service when the answers \
under way are out; a second one ends it at once.

Tokens come from the environment only. KEEPGW_SYSTEM_ROOT_TOKEN is asked for by /index and \
/status.json (without it they answer this machine alone), KEEPGW_MANAGEMENT_TOKEN by /_health/ping \
and /status.json.

Exit codes: 0 ended by a signal, 1 failed, 2 usage, 130 ended by a second signal.`

  static override examples = [
    {
      description: 'Serve the bucket "genomes" to clients on this machine',
      command: '<%= config.bin %> <%= command.id %> --volume s3:/var/lib/keepgw/genomes:genomes',
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
        'what to serve: s3:MAPPINGS:BUCKET[:CREDENTIALS], with a profile or a file of credentials, or file:MAPPINGS:DIR; may be given more than once',
      helpValue: 'VOLUME',
      multiple: true,
      multipleNonGreedy: true,
      required: true,
    }),
    listen: Flags.string({
      description: 'address to listen at',
      helpValue: 'HOST:PORT',
      default: '127.0.0.1:25107',
      env: 'KEEPGW_LISTEN',
    }),
    'insecure-unsigned': Flags.boolean({
      default: false,
      description: 'serve blocks without signatures to everybody who reaches the address',
    }),
    'idle-timeout': Flags.integer({
      description: 'seconds without a byte after which the next place of a block is tried',
      helpValue: 'SECONDS',
      default: 30,
      min: 1,
      max: 86_400,
    }),
  }

  override async run(): Promise<void> {
    const { flags } = await this.parse(Serve)
    const listen = checkedListen(flags.listen, flags['insecure-unsigned'])
    const specs = flags.volume.map(parseVolume)
    const volumes: Volume[] = []
    try {
      for (const spec of specs) volumes.push(await openVolume(spec))
      await serve(volumes, listen, flags['idle-timeout'] * 1000)
    } finally {
      await Promise.all(volumes.map((volume) => volume.close()))
    }
  }
}

/** Serves until a signal comes. */
async function serve(volumes: Volume[], listen: ListenAddress, idleLimit: number): Promise<void> {
  const log = createLog()
  const tokens = {
    systemRoot: process.env.KEEPGW_SYSTEM_ROOT_TOKEN,
    management: process.env.KEEPGW_MANAGEMENT_TOKEN,
  }
  const server = await startServer({ volumes, listen, log, tokens, idleLimit })
  log.info({ address: server.address, volumes: volumes.map(String) }, 'listening')
  const signal = await firstSignal()
  log.info({ signal }, 'stopping when the answers under way are out')
  await server.close()
}

function checkedListen(text: string, insecure: boolean): ListenAddress {
  const listen = parseListen(text)
  if (insecure || isLoopbackOnly(listen)) return listen
  throw new UsageError(
    `without signatures, ${text} would give blocks to everybody who reaches it`,
    {
      hint: 'Listen on 127.0.0.1, or say --insecure-unsigned',
    },
  )
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
