import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { type CheckResult, check } from '../src/checker/check.ts'
import { type Finding, severityOf } from '../src/checker/findings.ts'
import { checkAndRepair } from '../src/checker/repair.ts'
import { KeepgwCommand, outputFlags, remoteFlags, remoteOf, repairFlags } from '../src/command.ts'
import { ExitCode } from '../src/errors.ts'
import { onlyMapping } from '../src/find-mapping.ts'
import { assertSame, reach } from '../src/mapping/open-mapping.ts'
import { openRemote } from '../src/remote/open.ts'
import { formatSpec } from '../src/remote/spec.ts'

export default class Check extends KeepgwCommand {
  static override summary = 'Say whether a mapping is whole, and mend it.'
  static override description =
    `Compares the mapping’s tree with its catalog, and looks at each line and each record, without reading \
an object. A line for each finding says of which kind it is, where, and what is the matter; a last one \
sums up. It may run beside an index.

With --repair, what is missing or wrong is written anew from what is right, and what nothing proves is left \
to the next index to read. A catalog that cannot be read is made anew from the tree and a listing of the \
bucket. A repair that was cut short is run again.

Exit codes: 0 the mapping is whole, 1 it is not, or failed, 2 usage, 4 another run holds the mapping’s lock \
(with --repair), 130 interrupted.`
  static override examples = [
    {
      description: 'Check the only mapping there is',
      command: '<%= config.bin %> <%= command.id %>',
    },
    {
      description: 'Mend a mapping',
      command: '<%= config.bin %> <%= command.id %> /srv/keepgw/lab --repair',
    },
  ]
  static override args = {
    mappings: Args.string({
      name: 'MAPPINGS',
      description: 'directory of the mapping tree; not needed where there is one mapping',
    }),
  }
  static override flags = {
    repair: Flags.boolean({ default: false, description: 'mend what is found' }),
    ...repairFlags,
    ...outputFlags,
    ...remoteFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Check)
    this.useJson(flags.json)
    const dir = args.mappings ?? onlyMapping('Name its directory')
    const options = {
      dir,
      signal: this.stopSignal(),
      report: (finding: Finding) => this.#print(finding),
    }
    if (!flags.repair) return this.#end(await check(options), {}, '')
    const result = await checkAndRepair({
      ...options,
      allowDrop: flags['allow-drop'],
      breakLock: flags['break-lock'],
      remote: ({ remote }) => {
        // The mapping knows its own endpoint.
        const asked = remoteOf(formatSpec(remote), flags, {})
        assertSame(dir, remote, asked)
        return openRemote(reach(remote, asked))
      },
      notice: (message) => this.warning(message),
    })
    const { adopted, dropped, found } = result
    const mended = found.total('damage') - result.tally.total('damage')
    this.#end(
      result,
      { mended: Math.max(0, mended), adopted, dropped },
      `; mended: ${Math.max(0, mended)}, ${adopted} objects by the listing alone, ${dropped} lines dropped by it`,
    )
  }

  #print({ kind, where, what }: Finding): void {
    const severity = severityOf(kind)
    this.emit('finding', { kind, severity, where, what }, `${kind} ${where}: ${what}`)
  }

  #end({ tally, counts }: CheckResult, more: object, text: string): void {
    const [damage, notices] = [tally.total('damage'), tally.total('notice')]
    const { objects, segments, blocks } = counts
    const isWhole = damage === 0
    this.emit(
      'summary',
      {
        whole: isWhole,
        damage,
        notices,
        kinds: tally.counts(),
        objects,
        segments,
        blocks,
        ...more,
      },
      `${isWhole ? 'whole' : 'damaged'}: ${objects} objects, ${segments} segments, ${blocks} blocks; findings: ${damage} of damage, ${notices} to know of${text}`,
    )
    if (!isWhole) process.exitCode = ExitCode.failed
  }
}
