import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { arvadosSettings } from '../../src/arvados/settings.ts'
import { isClusterId } from '../../src/cluster/config-file.ts'
import { registerEntry, rendezvousOf, serviceUuid } from '../../src/cluster/register.ts'
import { recordService } from '../../src/cluster/service-record.ts'
import { KeepgwCommand } from '../../src/command.ts'
import { printable, UsageError } from '../../src/errors.ts'

export default class ServiceRegister extends KeepgwCommand {
  static override summary = 'Print what makes a gateway known to a cluster, or make a record of it.'

  static override description =
    `Prints the entry for Services.Keepstore.InternalURLs in the cluster’s configuration, \
and the UUID that the service then has, for +K@ hints in locators. Both are always the same for one \
URL. Nothing is changed anywhere.

With --database-record, a record of the type gateway:keepgw is made at the API server instead, and its \
UUID printed. Clusters whose services come from their configuration must not have one: a single record \
hides all of them, and so it is refused there. ARVADOS_API_HOST and ARVADOS_API_TOKEN, an \
administrator’s, say where.

Exit codes: 0 printed, or recorded (also before), 1 failed or refused, 2 usage.`

  static override examples = [
    {
      description: 'Register a gateway in the cluster xyzzy',
      command:
        '<%= config.bin %> <%= command.id %> http://keepgw.example.org:25107 --cluster-id xyzzy',
    },
    {
      description: 'Register a gateway that speaks HTTPS',
      command: '<%= config.bin %> <%= command.id %> https://keepgw.example.org --cluster-id xyzzy',
    },
    {
      description: 'Make a record of a gateway in a cluster that has records of all its services',
      command:
        '<%= config.bin %> <%= command.id %> http://keepgw.example.org:25107 --database-record',
    },
  ]

  static override args = {
    url: Args.string({
      name: 'URL',
      required: true,
      description: 'how clients reach the gateway: http://HOST:PORT or https://HOST:PORT',
    }),
  }

  static override flags = {
    'cluster-id': Flags.string({
      description: 'the cluster: five letters or digits; may be left out with --database-record',
      helpValue: 'ID',
      env: 'KEEPGW_CLUSTER_ID',
    }),
    'database-record': Flags.boolean({
      default: false,
      description:
        'make a record in the API server’s table of keep services: for clusters that list all of them there',
    }),
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(ServiceRegister)
    const clusterId = flags['cluster-id']
    if (clusterId !== undefined && !isClusterId(clusterId)) {
      throw new UsageError(`--cluster-id ${clusterId} is none: five lower-case letters or digits`)
    }
    const url = serviceUrl(args.url)
    if (flags['database-record']) return this.#record(url, clusterId)
    if (clusterId === undefined) throw new UsageError('--cluster-id is missing')
    const uuid = serviceUuid(clusterId, rendezvousOf(url))
    process.stdout.write(`${registerEntry(clusterId, url)}# For +K@ hints: ${uuid}\n`)
  }

  async #record(url: URL, clusterId: string | undefined): Promise<void> {
    const settings = arvadosSettings()
    const { uuid, isNew } = await recordService(url, clusterId, settings, this.stopSignal())
    if (!isNew) this.warning(`${url.href} is listed already`)
    process.stdout.write(`${printable(uuid)}\n`)
  }
}

/** Only scheme, host and port are a keep service's. */
function serviceUrl(text: string): URL {
  const url = URL.parse(text)
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:'
  if (url !== null && isHttp && url.href === `${url.origin}/`) return url
  throw new UsageError(`"${text}" is no URL of a keep service`, {
    hint: 'Write http://HOST:PORT or https://HOST:PORT',
  })
}
