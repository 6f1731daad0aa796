import * as Flags from '@oclif/core/flags'
import { arvadosSettings } from '../../src/arvados/settings.ts'
import { chunks } from '../../src/collection/chunks.ts'
import { ManifestWriter } from '../../src/collection/manifest-writer.ts'
import { createCollection, gatherText } from '../../src/collection/save.ts'
import {
  CollectionCommand,
  collectionArgs,
  collectionFlags,
  locatorsOf,
  openSource,
} from '../../src/collection-command.ts'
import { outputFlags } from '../../src/command.ts'
import { KeepgwError, UsageError } from '../../src/errors.ts'
import { PortableDataHash } from '../../src/keep/manifest.ts'
import { parsePart } from '../../src/remote/spec.ts'

const OWNER = /^[a-z0-9]{5}-(tpzed|j7d0g)-[a-z0-9]{15}$/

export default class CollectionCreate extends CollectionCommand {
  static override summary = 'Save indexed objects as a collection at the Arvados API server.'
  static override description =
    `Saves the manifest that \`keepgw manifest\` prints, and prints the collection’s UUID and portable \
data hash. What the manifest cannot hold is named, and the collection is saved without it.

ARVADOS_API_HOST, ARVADOS_API_TOKEN and ARVADOS_API_HOST_INSECURE say where and for whom, as for all \
Arvados tools; they are also read from ~/.config/arvados/settings.conf. A token that is not an \
administrator’s needs --sign where the cluster signs.

The collection asks for one copy in the storage class keepgw, which no other service has: so Arvados \
neither counts on the bucket for data that it keeps itself, nor copies the bucket into Keep, as it \
would where a collection wants more copies than its storage classes have.

Exit codes: 0 saved, 1 failed, 2 usage, 3 saved, but some objects were left out or may be missing, 130 \
interrupted.`
  static override examples = [
    {
      description: 'Save a whole bucket as a collection of a project',
      command:
        '<%= config.bin %> <%= command.id %> my-bucket --owner-uuid zzzzz-j7d0g-0123456789abcde',
    },
    {
      description: 'Save a part of a bucket, for users of a gateway with this UUID',
      command:
        '<%= config.bin %> <%= command.id %> my-bucket/runs/ --strip-prefix runs/ --name "Runs of 2026" --hint zzzzz-bi6l4-0123456789abcde --sign',
    },
  ]
  static override args = collectionArgs
  static override flags = {
    ...collectionFlags,
    name: Flags.string({
      helpValue: 'NAME',
      description: 'the collection’s name; default: "BUCKET - PREFIX", made unique by the server',
    }),
    'owner-uuid': Flags.string({
      helpValue: 'UUID',
      description: 'the project, or the user, that it is to belong to; default: the token’s user',
    }),
    'storage-classes': Flags.string({
      helpValue: 'CLASS,…',
      default: 'keepgw',
      description: 'storage classes in which copies are wanted',
    }),
    replication: Flags.integer({
      helpValue: 'N',
      min: 1,
      default: 1,
      description: 'copies wanted; with more than the gateway’s one, keep-balance copies into Keep',
    }),
    ...outputFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(CollectionCreate)
    this.useJson(flags.json)
    const ownerUuid = checkedOwner(flags['owner-uuid'])
    const settings = arvadosSettings()
    const locator = await locatorsOf(flags)
    const signal = this.stopSignal()
    const source = await openSource(args.bucket, flags, () => flags['strip-prefix'], signal)
    try {
      const { tree, base } = source
      const writer = new ManifestWriter(tree, { base, locator, leftOut: this.leftOut })
      const hash = new PortableDataHash()
      const text = chunks(hash.tee(writer.pieces()), signal)
      const manifestText = await gatherText(text, settings, signal)
      if (writer.counts.streams === 0) throw new KeepgwError('nothing is left to be saved')
      const saved = await createCollection(
        {
          name: flags.name ?? nameOf(args.bucket),
          manifestText,
          isSigned: flags.sign,
          portableDataHash: hash.digest(),
          ownerUuid,
          storageClasses: flags['storage-classes'].split(',').filter((name) => name !== ''),
          replication: flags.replication,
        },
        settings,
        { uniqueName: flags.name === undefined, signal },
      )
      this.emit('collection', saved, `${saved.uuid} ${saved.portableDataHash}`)
      this.summary(writer.counts)
      this.reportGaps(source)
    } finally {
      await source.close()
    }
  }
}

/** Returns the name that a bucket, or a part of one, gives: without slashes, which Arvados does not take. */
function nameOf(bucket: string): string {
  const spec = parsePart(bucket)
  const parts = spec.kind === 's3' ? [spec.bucket, spec.prefix ?? ''] : [spec.root]
  return parts.join('/').split('/').filter(Boolean).join(' - ') || 'root'
}

function checkedOwner(uuid: string | undefined): string | undefined {
  if (uuid === undefined || OWNER.test(uuid)) return uuid
  throw new UsageError(`"${uuid}" is no UUID of a project or a user`, {
    hint: 'Write it like zzzzz-j7d0g-0123456789abcde',
  })
}
