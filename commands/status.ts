import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { KeepgwCommand, mappingFlags, outputFlags } from '../src/command.ts'
import { knownMappings, mappingsDir, onlyMapping } from '../src/find-mapping.ts'
import { Catalog } from '../src/mapping/catalog.ts'
import { readDescription } from '../src/mapping/description.ts'
import { describeHolder } from '../src/mapping/lock.ts'
import { describePart, type RunReport } from '../src/mapping/run-report.ts'
import { isProvenDead } from '../src/process-id.ts'
import { formatSpec, parseBucket } from '../src/remote/spec.ts'
import { formatBytes, formatSeconds } from '../src/units.ts'

export default class Status extends KeepgwCommand {
  static override summary = 'Say what a mapping holds, and how fresh it is.'
  static override description =
    `Prints how many objects, segments and bytes are indexed, how much of that is there twice, and how \
the last index run ended. With --lost it names the blocks that have no place left, and the keys they \
had: collections that use these blocks are broken.

Exit codes: 0 all done, 1 failed, 2 usage.`
  static override examples = [
    {
      description: 'See how fresh a bucket’s mapping is',
      command: '<%= config.bin %> <%= command.id %> my-bucket',
    },
    {
      description: 'Name the blocks that are lost, for a script',
      command: '<%= config.bin %> <%= command.id %> --mappings /srv/keepgw/lab --lost --json',
    },
  ]
  static override args = {
    bucket: Args.string({
      name: 'BUCKET',
      description:
        'the bucket or directory, as it was given to index; default: every mapping there is',
    }),
  }
  static override flags = {
    ...mappingFlags,
    lost: Flags.boolean({ default: false, description: 'name the blocks that have no place left' }),
    ...outputFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Status)
    this.useJson(flags.json)
    for (const dir of mappingsOf(args.bucket, flags.mappings)) {
      const { remote } = await readDescription(dir)
      const catalog = Catalog.open(dir, { readOnly: true, allPages: false })
      try {
        if (flags.lost) this.#printLost(catalog)
        else this.#printStatus(catalog, { remote: formatSpec(remote), mapping: dir })
      } finally {
        await catalog.close()
      }
    }
  }

  #printStatus(catalog: Catalog, names: { remote: string; mapping: string }): void {
    const stats = catalog.stats()
    const lastRun = catalog.lastRun()
    const lock = catalog.lockRecord()
    const running = lock !== undefined && !isProvenDead(lock) ? lock : undefined
    let lost = 0
    for (const _block of catalog.lostBlocks()) lost += 1
    const duplicates = stats.segments - stats.blocks
    const duplicateBytes = stats.bytes - stats.blockBytes
    const age = lastRun === undefined ? undefined : ageOf(lastRun.ended)
    const open = lastRun?.earlier.filter(({ outcome }) => outcome !== 'complete') ?? []
    this.emit(
      'status',
      { ...names, ...stats, duplicates, duplicateBytes, lost, lastRun, ageSeconds: age, running },
      [
        `remote      ${names.remote}`,
        `mapping     ${names.mapping}`,
        `objects     ${stats.objects}`,
        `segments    ${stats.segments} (${formatBytes(stats.bytes)})`,
        `blocks      ${stats.blocks} (${formatBytes(stats.blockBytes)})`,
        `duplicates  ${duplicates} segments (${formatBytes(duplicateBytes)})`,
        `trusted     ${stats.trusted} segments by their ETags alone${stats.trusted > 0 ? ', not read yet' : ''}`,
        `lost        ${lost} blocks without a place${lost > 0 ? ' (see --lost)' : ''}`,
        `last run    ${lastRun === undefined ? 'never' : describeRun(lastRun)}`,
        ...open.map((run) => `still open  ${describeRun(run)}`),
        ...(running === undefined ? [] : [`running     ${describeHolder(running)}`]),
      ].join('\n'),
    )
  }

  #printLost(catalog: Catalog): void {
    for (const { hash, block } of catalog.lostBlocks()) {
      const { length, keys, since } = block
      const names = keys.map((key) => JSON.stringify(key)).join(' ')
      this.emit('lost', { hash, ...block }, `${hash}+${length} since ${since}: ${names}`)
    }
  }
}

function describeRun({ outcome, incomplete, unreadable, part, ended }: RunReport): string {
  const about = part === undefined ? '' : ` with ${describePart(part)}`
  const reasons = [
    ...(incomplete === undefined ? [] : [`it ended at --${incomplete}`]),
    ...(unreadable > 0 ? [`${unreadable} objects not readable`] : []),
  ]
  const why = reasons.length === 0 ? '' : ` (${reasons.join(', ')})`
  return `${outcome}${about}${why}, ended ${ended} (${formatSeconds(ageOf(ended))} ago)`
}

/** Seconds. */
function ageOf(moment: string): number {
  return (Date.now() - Date.parse(moment)) / 1000
}

/** Returns the mappings that the command line names: without a name all there are. */
function mappingsOf(bucket: string | undefined, flag: string | undefined): string[] {
  if (bucket !== undefined) return [mappingsDir(parseBucket(bucket), flag)]
  if (flag !== undefined) return [flag]
  const known = knownMappings()
  return known.length > 0 ? known : [onlyMapping()]
}
