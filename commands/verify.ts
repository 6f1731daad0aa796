import { availableParallelism } from 'node:os'
import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import {
  KeepgwCommand,
  mappingFlags,
  outputFlags,
  remoteFlags,
  remoteOf,
  repairFlags,
} from '../src/command.ts'
import { ExitCode, UsageError } from '../src/errors.ts'
import { mappingsDir, onlyMapping } from '../src/find-mapping.ts'
import { HashPool } from '../src/indexer/hash-pool.ts'
import { type MappingDescription, readDescription } from '../src/mapping/description.ts'
import { assertSame, openForWriting, reach } from '../src/mapping/open-mapping.ts'
import { formatPlace } from '../src/mapping/place-line.ts'
import { ProofJournal } from '../src/mapping/proofs.ts'
import { MappingTree } from '../src/mapping/tree.ts'
import { openRemote } from '../src/remote/open.ts'
import { formatSpec } from '../src/remote/spec.ts'
import { parsePercent } from '../src/units.ts'
import { type BadPlace, dropPlaces, provenBad } from '../src/verifier/repair.ts'
import { type BlockReport, isGood, verifyBlocks } from '../src/verifier/verify.ts'

const HASH = /^[0-9a-f]{32}$/

export default class Verify extends KeepgwCommand {
  static override summary = 'Read the places of blocks, and say which still hold them.'
  static override description =
    `Says of each place: ok, changed (another object by now), gone, corrupt (the same object with wrong \
bytes) or unreachable (proves nothing). With --repair, places that are proven bad are dropped and the \
next index reads their objects anew.

Exit codes: 0 every block has a good place, 1 some block has none, 2 usage, 3 some block has none that \
could be reached, 4 another run holds the mapping’s lock, 130 interrupted.`
  static override examples = [
    {
      description: 'Verify one block of a bucket',
      command:
        '<%= config.bin %> <%= command.id %> --bucket my-bucket acbd18db4cc2f85cedef654fccc4a4d8',
    },
    {
      description: 'Verify a hundredth of all blocks, and drop what is bad',
      command:
        '<%= config.bin %> <%= command.id %> --mappings /srv/keepgw/lab --all --sample 1% --repair',
    },
  ]
  static override strict = false
  static override args = {
    hash: Args.string({
      name: 'HASH…',
      description: 'MD5 hashes, or locators (HASH+SIZE…), of the blocks',
    }),
  }
  static override flags = {
    bucket: Flags.string({
      helpValue: 'BUCKET',
      description:
        'the bucket or directory, as it was given to index; not needed where there is one mapping',
    }),
    ...mappingFlags,
    all: Flags.boolean({ default: false, description: 'verify every block of the mapping' }),
    sample: Flags.string({
      helpValue: 'N%',
      description: 'with --all: verify only this share of the blocks, drawn at random',
    }),
    repair: Flags.boolean({
      default: false,
      description:
        'drop the places that are proven gone, changed or corrupt; never unreachable ones',
    }),
    ...repairFlags,
    concurrency: Flags.integer({
      helpValue: 'N',
      env: 'KEEPGW_CONCURRENCY',
      min: 1,
      max: 1024,
      default: 16,
      description: 'places read at once',
    }),
    ...outputFlags,
    ...remoteFlags,
  }

  override async run(): Promise<void> {
    const { argv, flags } = await this.parse(Verify)
    this.useJson(flags.json)
    const hashes = checkedHashes(argv as string[], flags)
    const share = checkedShare(flags.sample, flags.all)
    const asked = flags.bucket === undefined ? undefined : remoteOf(flags.bucket, flags)
    const dir =
      asked === undefined ? (flags.mappings ?? onlyMapping()) : mappingsDir(asked, flags.mappings)
    const description = await readDescription(dir)
    // The flags say how to reach it, also where the mapping names the bucket, and knows its endpoint.
    const how = asked ?? remoteOf(formatSpec(description.remote), flags, {})
    assertSame(dir, description.remote, how)
    const spec = reach(description.remote, how)
    const mapping = new MappingTree(dir)
    const { ifMatch } = description
    const remote = openRemote(spec)
    const pool = new HashPool(spec, {
      connections: flags.concurrency,
      threads: availableParallelism(),
      ifMatch,
      attempts: 3,
      access: (query) => remote.access(query),
    })
    const tally = new Tally()
    const proofs = new ProofJournal(dir)
    try {
      await verifyBlocks(flags.all ? allHashes(mapping, share) : fromArray(hashes), {
        mapping,
        pool,
        concurrency: flags.concurrency,
        signal: this.stopSignal(),
        report: (block) => {
          // An index has dropped its last place since it was listed.
          if (flags.all && block.places.length === 0) return
          tally.add(block)
          noteProofs(block, proofs)
          this.#print(block)
        },
      })
    } finally {
      await proofs.close()
      await pool.close()
      await remote.close()
    }
    if (flags.repair) await this.#repair(dir, description, tally.bad, flags)
    this.emit('summary', tally.summary(), tally.describe())
    process.exitCode = tally.exitCode()
  }

  #print(block: BlockReport): void {
    const { hash, places } = block
    if (places.length === 0) {
      const known = isGood(block)
      this.emit('block', { hash, known }, `${hash} ${known ? 'ok (the empty block)' : 'unknown'}`)
    }
    for (const { place, verdict, reason } of places) {
      const why = reason === undefined ? '' : `\t# ${reason}`
      this.emit(
        'place',
        { hash, verdict, ...place, reason },
        `${hash} ${verdict} ${formatPlace(place)}${why}`,
      )
    }
  }

  async #repair(
    dir: string,
    description: MappingDescription,
    bad: BadPlace[],
    flags: { 'allow-drop': number; 'break-lock': boolean },
  ): Promise<void> {
    if (bad.length === 0) return
    const breakLock = flags['break-lock']
    const mapping = await openForWriting(dir, description, {
      command: 'verify --repair',
      breakLock,
    })
    try {
      await dropPlaces(bad, mapping, flags['allow-drop'])
    } finally {
      await mapping.close()
    }
    this.emit(
      'repaired',
      { places: bad.length },
      `places dropped: ${bad.length}; the next keepgw index reads their objects anew`,
    )
  }
}

/** Counts over the blocks that were verified. */
class Tally {
  readonly bad: BadPlace[] = []
  #blocks = 0
  #good = 0
  #doubtful = 0

  add(block: BlockReport): void {
    this.#blocks += 1
    this.bad.push(...provenBad(block))
    if (isGood(block)) this.#good += 1
    else if (block.places.some(({ verdict }) => verdict === 'unreachable')) this.#doubtful += 1
  }

  summary(): { blocks: number; good: number; bad: number; unreachable: number; badPlaces: number } {
    const bad = this.#blocks - this.#good - this.#doubtful
    const unreachable = this.#doubtful
    return { blocks: this.#blocks, good: this.#good, bad, unreachable, badPlaces: this.bad.length }
  }

  describe(): string {
    const { blocks, good, bad, unreachable, badPlaces } = this.summary()
    return `blocks: ${blocks} verified, ${good} good, ${bad} without a good place, ${unreachable} not reachable; bad places: ${badPlaces}`
  }

  exitCode(): ExitCode {
    const { bad, unreachable } = this.summary()
    if (bad > 0) return ExitCode.failed
    return unreachable > 0 ? ExitCode.incomplete : ExitCode.ok
  }
}

function checkedHashes(argv: string[], flags: { all: boolean }): string[] {
  if (flags.all !== (argv.length === 0)) {
    throw new UsageError('name the hashes, or --all', { hint: 'See: keepgw verify --help' })
  }
  return argv.map((text) => {
    const [hash = ''] = text.split('+')
    if (HASH.test(hash)) return hash
    throw new UsageError(`"${text}" is no hash`, { hint: 'A hash is 32 lowercase hex digits' })
  })
}

/** Returns the share of the blocks to verify, 0 to 1. */
function checkedShare(sample: string | undefined, all: boolean): number {
  if (sample === undefined) return 1
  const share = parsePercent(sample)
  if (all && share > 0) return share
  throw new UsageError(`--sample ${sample} is not possible`, { hint: 'Write: --all --sample 5%' })
}

/** The next index takes the marks of what was trusted until now away. */
function noteProofs({ hash, places }: BlockReport, proofs: ProofJournal): void {
  for (const { place, verdict } of places) if (verdict === 'ok') proofs.note(hash, place)
}

async function* allHashes(mapping: MappingTree, share: number): AsyncIterable<string> {
  for await (const { hash } of mapping.blocks()) {
    if (share >= 1 || Math.random() < share) yield hash
  }
}

async function* fromArray(hashes: string[]): AsyncIterable<string> {
  yield* hashes
}
