/** A bucket, mappings of it whose runs end in a crash, and what the next run has to make of them. */
import assert from 'node:assert/strict'
import { cpSync } from 'node:fs'
import { resolve } from 'node:path'
import { withoutTrust } from '../../src/mapping/record.ts'
import { CLI, environment, keepgwOk, summaryOf, temporary } from '../e2e/keepgw.ts'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, type S3Access, type TestBucket } from '../servers/s3.ts'
import { type Content, store } from './bucket.ts'
import { countSyncs, hasty, type Victim } from './kill.ts'
import {
  assertHonest,
  assertSameLines,
  describeRecords,
  hashesOf,
  inspect,
  linesAhead,
  linesOf,
  recordsAfter,
  type State,
} from './state.ts'

/** A kind of run: its flags, and the mapping that it begins with; none for a first run. */
export interface Kind {
  flags: string[]
  base?: string
  /** Keys whose trusted hashes the base's journal proves, with their ETags. */
  proven?: ReadonlyMap<string, string>
  /** What it takes undisturbed. */
  syncs: number
  milliseconds: number
}

/** A mapping that a crash has left. */
export interface Crashed {
  mapping: string
  kind: Pick<Kind, 'flags' | 'proven'>
  state: State
  /** All hashes that it has ever had lines of. */
  hashes: Set<string>
}

/** Everything that the crashes of one test file have in common. Nothing of it may be called concurrently. */
export class CrashLab {
  readonly scratch: string
  readonly bucket: TestBucket
  readonly proxy: FaultProxy
  content: Content = new Map()
  /** How many crashes it has seen, and how many of those between the lines of a batch and its commit. */
  crashes = 0
  betweenLinesAndCommit = 0
  /** How many runs were recorded. */
  recorded = 0
  readonly #name: string
  readonly #server: S3Access
  readonly #remove: () => Promise<void>
  #reference: State | undefined

  /** `name` begins what is printed. */
  static async open(name: string, server: S3Access): Promise<CrashLab> {
    const { dir, remove } = await temporary()
    const [bucket, proxy] = [await makeBucket(server), await startFaultProxy(server)]
    return new CrashLab({ name, server, scratch: dir, bucket, proxy, remove })
  }

  private constructor(parts: {
    name: string
    server: S3Access
    scratch: string
    bucket: TestBucket
    proxy: FaultProxy
    remove: () => Promise<void>
  }) {
    this.#name = parts.name
    this.#server = parts.server
    this.#remove = parts.remove
    this.scratch = parts.scratch
    this.bucket = parts.bucket
    this.proxy = parts.proxy
  }

  /** Prints how many crashes there were, and removes all that was made. */
  async close(): Promise<void> {
    console.log(
      `${this.#name}: ${this.crashes} crashes, ` +
        `${this.betweenLinesAndCommit} with lines ahead of the catalog`,
    )
    await this.bucket.destroy()
    await this.proxy.stop()
    await this.#remove()
  }

  /** The environment of a run that goes through the proxy, and writes many small batches. */
  get env(): NodeJS.ProcessEnv {
    const server = { ...this.#server, endpoint: this.proxy.endpoint }
    return hasty(environment(server, this.scratch))
  }

  /** Returns the arguments of an index run. */
  index(mapping: string, flags: readonly string[] = []): string[] {
    return ['index', this.bucket.name, '--mappings', mapping, '--json', ...flags]
  }

  /** Returns the command of such a run. */
  command(mapping: string, { flags }: Pick<Kind, 'flags'>): string[] {
    return [process.execPath, CLI, ...this.index(mapping, flags)]
  }

  /** Returns a mapping's directory, which is not there yet, or is a copy. */
  newMapping(name: string, base?: string): string {
    const mapping = resolve(this.scratch, name.replaceAll(' ', '-'))
    if (base !== undefined) cpSync(base, mapping, { recursive: true })
    return mapping
  }

  /** Returns what a way to kill needs to know. */
  victim(mapping: string, { flags }: Pick<Kind, 'flags'>): Victim {
    return { args: this.index(mapping, flags), env: this.env, mapping, scratch: this.scratch }
  }

  /** Changes the bucket. Returns an undisturbed first run of it, and the mapping that this has made. */
  async change(to: Content, name: string): Promise<{ first: Kind; mapping: string }> {
    await store(this.bucket, this.content, to)
    this.content = to
    const { kind: first, mapping } = await this.measure(name, { flags: [] })
    this.#reference = await inspect(mapping)
    assert.equal(this.#reference.records.size, to.size)
    assertHonest(this.#reference)
    return { first, mapping }
  }

  /** Lets a run of this kind come to its end, undisturbed. */
  async measure(
    name: string,
    parts: Omit<Kind, 'syncs' | 'milliseconds'>,
  ): Promise<{ kind: Kind; mapping: string }> {
    const mapping = this.newMapping(name, parts.base)
    const began = Date.now()
    const syncs = await countSyncs(this.victim(mapping, parts))
    const milliseconds = Date.now() - began
    const { size } = this.content
    console.log(`${this.#name}: ${name}: ${size} objects, ${syncs} syncs, ${milliseconds} ms`)
    return { kind: { ...parts, syncs, milliseconds }, mapping }
  }

  /** Looks at what a crash has left, which must be honest. `earlier` are hashes of lines before it. */
  async crashed(
    name: string,
    mapping: string,
    kind: Crashed['kind'],
    earlier: Iterable<string> = [],
  ): Promise<Crashed> {
    const state = await inspect(mapping)
    const ahead = linesAhead(state)
    this.crashes += 1
    if (ahead > 0) this.betweenLinesAndCommit += 1
    const { lines, torn, strangers, records, intent } = state
    const batch = intent && `intent of ${intent.changes.length} objects, ${ahead} lines ahead`
    console.log(
      `${this.#name} ${this.crashes}: ${name}: ${lines.length} lines, ${records.size} records, ` +
        `${batch ?? 'no intent'}, ${torn.length} files torn, ${strangers.length} left beside`,
    )
    assertHonest(state)
    return { mapping, kind, state, hashes: new Set([...earlier, ...hashesOf(state)]) }
  }

  /** Runs once more, undisturbed, and asserts that all is as if nothing had happened. */
  async finish({ mapping, kind, state, hashes }: Crashed): Promise<void> {
    const { flags, proven = new Map() } = kind
    const reference = this.#reference!
    const outcome = await keepgwOk(this.index(mapping, flags), this.env)
    const now = await inspect(mapping)
    const known = recordsAfter(state)
    const expected: State['records'] = new Map()
    let unchanged = 0
    for (const [key, record] of reference.records) {
      const { etag, size } = record
      const before = known.get(key)
      if (before?.etag === etag && before.size === size) {
        // Stored anew with the same content, it is not read again and keeps its time.
        expected.set(key, proven.get(key) === etag ? withoutTrust(before) : before)
        unchanged += 1
      } else {
        // Which objects are trusted is a matter of chance.
        expected.set(key, now.records.get(key)?.trusted ? { ...record, trusted: true } : record)
      }
    }
    // What was recorded, or about to be, is not read again.
    assert.equal(summaryOf(outcome).unchanged, unchanged)
    assert.equal(/cut short/.test(outcome.stderr), state.intent !== undefined, outcome.stderr)

    const lines = Array.from(expected, ([key, record]) => linesOf(key, record)).flat()
    assertSameLines(now.lines, lines.sort(), 'lines')
    assertSameLines(describeRecords(now.records), describeRecords(expected), 'records')
    assertHonest(now)
    const { torn, strangers, intent } = now
    assert.deepEqual({ torn, strangers, intent }, { torn: [], strangers: [], intent: undefined })
    const there = new Set(now.lines.map((line) => line.slice(0, 32)))
    const lost = [...hashes].filter((hash) => !there.has(hash)).sort()
    assertSameLines(now.lost, lost, 'lost blocks')
    const trusted = [...expected.values()].filter((record) => record.trusted).length
    assert.deepEqual(now.stats, { ...reference.stats, trusted })
    assert.equal(now.lastRun?.outcome, 'complete')
    if (!flags.includes('--etag=trust')) assert.equal(trusted, 0)
  }
}
