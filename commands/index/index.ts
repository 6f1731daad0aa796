import { availableParallelism } from 'node:os'
import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import {
  bandwidthOf,
  durationOf,
  KeepgwCommand,
  limitFlags,
  mappingFlags,
  outputFlags,
  remoteFlags,
  remoteOf,
} from '../../src/command.ts'
import { ExitCode, UsageError } from '../../src/errors.ts'
import { mappingsDir } from '../../src/find-mapping.ts'
import { indexRemote } from '../../src/indexer/index-run.ts'
import type { IndexCounts, IndexResult } from '../../src/indexer/run-tally.ts'
import { makeScope } from '../../src/indexer/scope.ts'
import { findDescription } from '../../src/mapping/description.ts'
import { Progress } from '../../src/progress.ts'
import type { RequestCounts } from '../../src/remote/remote.ts'
import { requestCost } from '../../src/remote/s3/cost.ts'
import { formatBytes, formatDollars, formatSeconds, parsePercent } from '../../src/units.ts'

/** Unreadable objects that are named one by one; --json names all. */
const NAMED = 20

export default class Index extends KeepgwCommand {
  static override summary = 'Learn the hashes of a bucket’s objects.'
  static override description =
    `Walks the bucket, reads what is new or has changed, and records where each 64 MiB block lies in \
the mapping tree. Run it from cron: what has not changed is not read again. A run that is stopped or \
killed has kept what it had done. So has one that ends at --max-objects or --max-duration, with 0 and \
"incomplete" in its summary. What vanished is dropped by a run that comes to its end, and not before. \
SIGUSR1 makes it say where it stands.

Exit codes: 0 all done, 1 failed, 2 usage, 3 some objects could not be read, 4 another run holds the \
mapping’s lock, 130 interrupted.`
  static override examples = [
    {
      description: 'Index a bucket of Amazon’s, with the credentials that the AWS tools use',
      command: '<%= config.bin %> <%= command.id %> my-bucket',
    },
    {
      description: 'Index part of a bucket of another S3 service into a mapping of its own',
      command:
        '<%= config.bin %> <%= command.id %> s3://lab/runs/ --endpoint-url https://s3.example.org --mappings /srv/keepgw/lab-runs',
    },
  ]
  static override args = {
    bucket: Args.string({
      name: 'BUCKET',
      description: 'NAME, s3://NAME[/PREFIX], ./DIR, /DIR or file:///DIR',
    }),
  }
  static override flags = {
    ...mappingFlags,
    prefix: Flags.string({
      helpValue: 'PREFIX',
      multiple: true,
      multipleNonGreedy: true,
      description: 'only keys that start with this; may be given more than once',
    }),
    include: Flags.string({
      helpValue: 'GLOB',
      multiple: true,
      multipleNonGreedy: true,
      description:
        'only keys that match; * stops at /, ** does not; without / the last part counts',
    }),
    exclude: Flags.string({
      helpValue: 'GLOB',
      multiple: true,
      multipleNonGreedy: true,
      description: 'leave out keys that match, whatever --include says',
    }),
    concurrency: Flags.integer({
      helpValue: 'N',
      env: 'KEEPGW_CONCURRENCY',
      min: 1,
      max: 1024,
      default: 32,
      description: 'segments read at once by all threads, each on a connection of its own',
    }),
    'list-concurrency': Flags.integer({
      helpValue: 'N',
      env: 'KEEPGW_LIST_CONCURRENCY',
      min: 1,
      max: 64,
      description:
        'ranges of keys listed at once; default: 8 at Amazon, 1 elsewhere. More than one needs a store that lists in byte order; the run fails where that proves false',
    }),
    workers: Flags.integer({
      helpValue: 'N',
      env: 'KEEPGW_WORKERS',
      min: 1,
      max: 256,
      description:
        'threads that read and hash once there is more to do than the main one can; default: one a core',
    }),
    etag: Flags.string({
      helpValue: 'ignore|trust',
      options: ['ignore', 'trust'],
      env: 'KEEPGW_ETAG',
      default: 'ignore',
      description:
        'with trust: take the hash of an object of at most 64 MiB from its ETag, where that is an MD5, once a sample of the bucket has proved the rule; with ignore: read everything, also what was only trusted before',
    }),
    'etag-sample': Flags.string({
      helpValue: 'PERCENT',
      default: '0.1',
      description:
        'with --etag=trust: read this many in a hundred of such objects all the same, at random',
    }),
    'allow-drop': Flags.integer({
      helpValue: 'PERCENT',
      min: 0,
      max: 100,
      default: 20,
      description: 'stop, rather than drop more than this share of the objects indexed before',
    }),
    'break-lock': Flags.boolean({
      default: false,
      description: 'take the mapping’s lock from a run that cannot be alive any more',
    }),
    'dry-run': Flags.boolean({
      exclusive: ['break-lock', 'max-objects', 'max-duration'],
      default: false,
      description: 'only say what would be read and dropped',
    }),
    ...limitFlags,
    quiet: Flags.boolean({ default: false, description: 'print nothing but warnings and errors' }),
    ...outputFlags,
    ...remoteFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(Index)
    this.useJson(flags.json)
    if (args.bucket === undefined) {
      throw new UsageError('name the BUCKET to index', { hint: 'See: keepgw index --help' })
    }
    const remote = remoteOf(args.bucket, flags)
    const mappings = mappingsDir(remote, flags.mappings)
    const started = Date.now()
    const seconds = (): number => (Date.now() - started) / 1000
    let latest: Readonly<IndexCounts> | undefined
    const describe = (): string => (latest ? describeProgress(latest, seconds()) : 'starting')
    const progress = await Progress.start(describe, { quiet: flags.quiet || flags.json })
    let named = 0
    try {
      const counts = await indexRemote({
        mappings,
        remote,
        scope: makeScope({
          prefixes: flags.prefix ?? [],
          include: flags.include ?? [],
          exclude: flags.exclude ?? [],
        }),
        concurrency: flags.concurrency,
        listConcurrency: flags['list-concurrency'],
        workers: flags.workers ?? availableParallelism(),
        trustEtags:
          flags.etag === 'trust' ? { sample: parsePercent(flags['etag-sample']) } : undefined,
        allowDrop: flags['allow-drop'],
        limits: {
          maxObjects: flags['max-objects'],
          maxSeconds: durationOf(flags['max-duration']),
        },
        bandwidthLimit: bandwidthOf(flags['bandwidth-limit']),
        breakLock: flags['break-lock'],
        dryRun: flags['dry-run'],
        signal: this.stopSignal(),
        observer: {
          progress: (counts) => {
            latest = counts
          },
          unreadable: (key, reason) => {
            this.emit('unreadable', { key, reason })
            if (++named <= NAMED) progress.say(`keepgw: not indexed: ${reason}`)
          },
          notice: (message) => progress.say(`keepgw: ${message}`),
        },
      })
      progress.stop()
      if (named > NAMED) this.warning(`not indexed: ${named - NAMED} more`)
      const { waiting: _waiting, ...summary } = counts
      // A mapping remembers the endpoint; a rehearsal makes none.
      const paid = (await findDescription(mappings))?.remote ?? remote
      const requestCostUsd = requestCost(counts.requests, paid)
      // A directory takes none.
      const requests =
        paid.kind === 's3' ? describeRequests(counts.requests, requestCostUsd) : undefined
      const line = flags['dry-run']
        ? describeRehearsal(counts)
        : describeResult(counts, seconds(), requests)
      if (!flags.quiet) {
        const data = { ...summary, requestCostUsd, dryRun: flags['dry-run'], seconds: seconds() }
        this.emit('summary', data, line)
      }
      if (counts.unreadable > 0) process.exitCode = ExitCode.incomplete
    } finally {
      progress.stop()
    }
  }
}

function describeProgress(counts: Readonly<IndexCounts>, seconds: number): string {
  const { listed, unchanged, added, changed, waiting, bytes } = counts
  const rate = `${formatBytes(bytes / Math.max(seconds, 0.001))}/s`
  return `${listed} listed, ${unchanged} unchanged, ${added + changed} read, ${waiting} waiting, ${formatBytes(bytes)} at ${rate}`
}

function describeResult(counts: IndexResult, seconds: number, requests?: string): string {
  const { listed, added, changed, unchanged, dropped, archived, unreadable, bytes } = counts
  const { trusted, proven, falseEtags, incomplete } = counts
  const end = [
    requests === undefined ? '' : `; ${requests}`,
    incomplete === undefined ? '' : `; incomplete: it ended at --${incomplete}`,
  ].join('')
  const extras = [
    trusted > 0 ? `, ${trusted} by their ETags` : '',
    proven > 0 ? `, ${proven} of those trusted before proven` : '',
    falseEtags > 0 ? `, ${falseEtags} with an ETag that is not their MD5` : '',
    archived > 0 ? `, ${archived} archived (skipped)` : '',
    unreadable > 0 ? `, ${unreadable} not readable` : '',
  ].join('')
  return `${listed} objects: ${added} new, ${changed} changed, ${unchanged} unchanged, ${dropped} dropped${extras}; read ${formatBytes(bytes)} in ${formatSeconds(seconds)}${end}`
}

function describeRequests({ list, get, head }: RequestCounts, dollars?: number): string {
  const cost = dollars === undefined ? '' : ` (${formatDollars(dollars)})`
  return `${list} LIST, ${get} GET, ${head} HEAD requests${cost}`
}

function describeRehearsal(counts: IndexCounts): string {
  const { listed, added, changed, unchanged, dropped, proven } = counts
  const trusted = proven > 0 ? `, prove ${proven} that were trusted` : ''
  return `${listed} objects: would read ${added} new and ${changed} changed, leave ${unchanged}, drop ${dropped}${trusted}`
}
