import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { isClusterId } from '../../src/cluster/config-file.ts'
import { registerEntry, rendezvousOf, serviceUuid } from '../../src/cluster/register.ts'
import { KeepgwCommand } from '../../src/command.ts'
import { UsageError } from '../../src/errors.ts'

export default class ServiceRegister extends KeepgwCommand {
  static override summary = 'Print what makes a gateway known to a cluster.'

  static override description =
    `Prints the entry for Services.Keepstore.InternalURLs in the cluster’s configuration, \
and the UUID that the service then has, for +K@ hints in locators. Both are always the same for one \
URL. Nothing is changed anywhere.`

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
      description: 'the cluster: five letters or digits',
      helpValue: 'ID',
      required: true,
      env: 'KEEPGW_CLUSTER_ID',
    }),
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(ServiceRegister)
    const clusterId = flags['cluster-id']
    if (!isClusterId(clusterId)) {
      throw new UsageError(`--cluster-id ${clusterId} is none: five lower-case letters or digits`)
    }
    const url = serviceUrl(args.url)
    const uuid = serviceUuid(clusterId, rendezvousOf(url))
    process.stdout.write(`${registerEntry(clusterId, url)}# For +K@ hints: ${uuid}\n`)
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
