import * as Flags from '@oclif/core/flags'
import { chunks } from '../src/collection/chunks.ts'
import { type ManifestCounts, ManifestWriter } from '../src/collection/manifest-writer.ts'
import type { CollectionSource } from '../src/collection/source.ts'
import { splitManifests } from '../src/collection/split.ts'
import {
  CollectionCommand,
  collectionArgs,
  collectionFlags,
  locatorsOf,
  openSource,
} from '../src/collection-command.ts'
import { outputFlags } from '../src/command.ts'
import { UsageError } from '../src/errors.ts'
import { bareLocator, type LocatorText, PortableDataHash } from '../src/keep/manifest.ts'

export default class Manifest extends CollectionCommand {
  static override summary = 'Print the manifest of indexed objects: the text of a collection.'
  static override description =
    `Writes the objects of a bucket, or of a part of it, as an Arvados manifest, from what the last \
index runs have recorded; nothing is read from the bucket. A key becomes a path: "runs/a.bam" the file \
a.bam in the directory runs. The text is normalised as the Arvados SDKs do it, and is of one moment, \
also while an index runs.

What a manifest cannot hold is named on stderr and left out: keys with empty parts, "." or ".."; keys \
that are not UTF-8, or have spaces other than the plain one; an object "a" beside others "a/..."; and \
objects that must be indexed anew.

Exit codes: 0 all done, 1 failed, 2 usage, 3 done, but some objects were left out or may be missing, \
130 interrupted.`
  static override examples = [
    {
      description: 'Print the manifest of a part of a bucket, with the names below it',
      command: '<%= config.bin %> <%= command.id %> my-bucket/runs/ --strip-prefix runs/',
    },
    {
      description: 'Write a manifest for each directory, with a hint to the gateway',
      command:
        '<%= config.bin %> <%= command.id %> my-bucket --hint zzzzz-bi6l4-0123456789abcde --split --output manifests',
    },
  ]
  static override args = collectionArgs
  static override flags = {
    ...collectionFlags,
    'portable-data-hash': Flags.boolean({
      default: false,
      exclusive: ['split', 'hint', 'sign'],
      description: 'print the collection’s portable data hash instead',
    }),
    split: Flags.boolean({
      default: false,
      exclusive: ['strip-prefix'],
      description:
        'write a manifest for each directory directly below, with the names in it; and one for the files beside them',
    }),
    output: Flags.string({
      helpValue: 'DIR',
      description:
        'with --split: the directory to write NAME.manifest to for each; "manifest" has the other files',
    }),
    ...outputFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Manifest)
    this.useJson(flags.json)
    if (flags.split !== (flags.output !== undefined)) {
      throw new UsageError('--split and --output go together', {
        hint: 'Write: --split --output DIR',
      })
    }
    if (flags.json && !flags.split && !flags['portable-data-hash']) {
      throw new UsageError('a manifest cannot be printed as JSON', {
        hint: 'Leave --json out, or say --portable-data-hash or --split',
      })
    }
    const locator = flags['portable-data-hash'] ? bareLocator : await locatorsOf(flags)
    const base = flags.split ? aroundPrefix : () => flags['strip-prefix']
    const signal = this.stopSignal()
    const source = await openSource(args.bucket, flags, base, signal)
    try {
      if (flags.output !== undefined) await this.#split(source, locator, flags.output, signal)
      else if (flags['portable-data-hash']) await this.#printHash(source, signal)
      else await this.#printText(source, locator, signal)
      this.reportGaps(source)
    } finally {
      await source.close()
    }
  }

  async #printText(
    source: CollectionSource,
    locator: LocatorText,
    signal: AbortSignal,
  ): Promise<void> {
    const writer = this.#writer(source, locator)
    await this.write(chunks(writer.pieces(), signal))
    this.summary(writer.counts)
  }

  async #printHash(source: CollectionSource, signal: AbortSignal): Promise<void> {
    const writer = this.#writer(source, bareLocator)
    const hash = new PortableDataHash()
    for await (const _none of chunks(hash.tee(writer.pieces()), signal));
    const portableDataHash = hash.digest()
    this.emit('manifest', { portableDataHash, ...writer.counts }, portableDataHash)
    this.summary(writer.counts)
  }

  async #split(
    source: CollectionSource,
    locator: LocatorText,
    output: string,
    signal: AbortSignal,
  ): Promise<void> {
    const total: ManifestCounts = { files: 0, bytes: 0, streams: 0 }
    const { leftOut } = this
    for await (const written of splitManifests(source, { output, locator, signal, leftOut })) {
      total.files += written.files
      total.bytes += written.bytes
      total.streams += written.streams
      this.emit('manifest', written, `${written.portableDataHash} ${written.file}`)
    }
    this.summary(total)
  }

  #writer({ tree, base }: CollectionSource, locator: LocatorText): ManifestWriter {
    return new ManifestWriter(tree, { base, locator, leftOut: this.leftOut })
  }
}

/** Returns the directory that a prefix lies in. */
function aroundPrefix(prefix: string): string {
  return prefix.slice(0, prefix.lastIndexOf('/') + 1)
}
