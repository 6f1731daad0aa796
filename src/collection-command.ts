/** What the commands share that make collections of indexed objects. */
import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { arvadosToken } from './arvados/settings.ts'
import { type ClusterFlags, findClusterConfig } from './cluster/cluster-config.ts'
import { requireSigningKey } from './cluster/signing.ts'
import { locatorText } from './collection/locators.ts'
import type { ManifestCounts } from './collection/manifest-writer.ts'
import { CollectionSource } from './collection/source.ts'
import { clusterFlags, KeepgwCommand, mappingFlags } from './command.ts'
import { ExitCode } from './errors.ts'
import { mappingPart } from './find-mapping.ts'
import type { LocatorText } from './keep/manifest.ts'
import { showKey } from './remote/key.ts'
import { formatBytes } from './units.ts'

interface LocatorFlags extends ClusterFlags {
  hint?: string | undefined
  sign: boolean
  'blob-signing-ttl'?: string | undefined
}

/** Names the objects that are to be in the collections. */
export const collectionArgs = {
  bucket: Args.string({
    name: 'BUCKET',
    description:
      'NAME[/PREFIX], s3://NAME[/PREFIX], ./DIR, /DIR or file:///DIR: what was indexed, or a part of it',
    required: true,
  }),
}

/** Flags that say where the mapping lies, and how names and locators are written. */
export const collectionFlags = {
  ...mappingFlags,
  'strip-prefix': Flags.string({
    helpValue: 'PREFIX',
    default: '',
    description: 'take this off the names; every key in question must start with it',
  }),
  hint: Flags.string({
    helpValue: 'UUID',
    description:
      'lead clients to this keep service, or to the proxy of a cluster, named by its five characters',
  }),
  sign: Flags.boolean({
    default: false,
    description:
      'sign the locators for the token in ARVADOS_API_TOKEN, with the cluster’s BlobSigningKey: that of KEEPGW_BLOB_SIGNING_KEY, or of the configuration',
  }),
  ...clusterFlags,
  'allow-trusted': Flags.boolean({
    default: false,
    description: 'take in objects whose MD5 was only taken from their ETag',
  }),
}

/** A command that makes collections. */
export abstract class CollectionCommand extends KeepgwCommand {
  #leftOut = 0

  /** Names an object that is not in the collection, and why. */
  protected readonly leftOut = (key: string, reason: string): void => {
    this.#leftOut += 1
    if (this.json) this.emit('left-out', { key, reason })
    this.warning(`left out: ${showKey(key)}: ${reason}`)
    process.exitCode ||= ExitCode.incomplete
  }

  /** Names what the last index run has left open. */
  protected reportGaps(source: CollectionSource): void {
    for (const gap of source.gaps()) {
      this.warning(gap)
      process.exitCode ||= ExitCode.incomplete
    }
  }

  /** Prints a summary of all that was made to stderr, or as JSON. */
  protected summary(counts: ManifestCounts): void {
    const { files, bytes, streams } = counts
    const leftOut = this.#leftOut
    const rest = leftOut > 0 ? `; ${leftOut} objects left out` : ''
    if (this.json) this.emit('summary', { files, bytes, streams, leftOut })
    else this.warning(`${files} files (${formatBytes(bytes)}) in ${streams} directories${rest}`)
  }
}

/**
 * Returns the objects that the command line names; `baseOf` says what to take off the keys that start
 * with a prefix. Throws KeepgwError, also where hashes are only trusted. Close it in the end.
 */
export async function openSource(
  bucket: string,
  flags: { mappings?: string | undefined; 'allow-trusted': boolean },
  baseOf: (prefix: string) => string,
  signal: AbortSignal,
): Promise<CollectionSource> {
  const { dir, prefix } = await mappingPart(bucket, flags.mappings)
  const source = await CollectionSource.open(dir, { prefix, base: baseOf(prefix) })
  try {
    if (!flags['allow-trusted']) await source.refuseTrusted(signal)
    return source
  } catch (error) {
    await source.close()
    throw error
  }
}

/**
 * Returns the locators that the flags ask for. Reads the cluster's configuration only where something
 * is to be signed. Throws UsageError.
 */
export async function locatorsOf(flags: LocatorFlags): Promise<LocatorText> {
  if (!flags.sign) return locatorText({ service: flags.hint })
  const token = arvadosToken()
  const cluster = await findClusterConfig(flags, process.env)
  const key = requireSigningKey(cluster, process.env, flags['blob-signing-ttl'])
  return locatorText({ service: flags.hint, signing: { token, key } })
}
