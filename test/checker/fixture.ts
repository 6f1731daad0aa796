/** A directory that is indexed, and what an undisturbed index of it says, for the tests of checks. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type CheckResult, check } from '../../src/checker/check.ts'
import type { Finding } from '../../src/checker/findings.ts'
import { checkAndRepair } from '../../src/checker/repair.ts'
import { indexRemote } from '../../src/indexer/index-run.ts'
import { makeScope } from '../../src/indexer/scope.ts'
import { Catalog } from '../../src/mapping/catalog.ts'
import { openRemote } from '../../src/remote/open.ts'
import type { DirectorySpec } from '../../src/remote/remote.ts'
import { assertSameLines, inspect } from '../crashes/state.ts'

const signal = new AbortController().signal

/** What there is to know of a mapping, in lines that can be compared. */
export interface Contents {
  lines: string[]
  records: string[]
  stats: object
}

/** Objects, their index, and copies of that which may be damaged. */
export class Bench implements AsyncDisposable {
  readonly root: string
  readonly spec: DirectorySpec
  /** An index that nobody has touched. */
  readonly good: string
  /** What the last check or repair has found. */
  findings: Finding[] = []
  notices: string[] = []
  #copies = 0

  private constructor(root: string) {
    this.root = root
    this.spec = { kind: 'directory', root: join(root, 'objects') }
    this.good = join(root, 'good')
  }

  /** Indexes these objects: key to content. */
  static async make(objects: Iterable<[key: string, data: string | Buffer]>): Promise<Bench> {
    const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
    const bench = new Bench(await mkdtemp(join(parent, 'keepgw-check-')))
    for (const [key, data] of objects) await bench.put(key, data)
    await bench.index(bench.good)
    return bench
  }

  async put(key: string, data: string | Buffer): Promise<void> {
    const file = join(this.spec.root, key)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, data)
  }

  /** Returns a copy of the good index. */
  async copy(): Promise<string> {
    const to = join(this.root, `copy${this.#copies++}`)
    await cp(this.good, to, { recursive: true })
    return to
  }

  /** Runs an index. Returns how many objects it has read. */
  async index(mappings: string): Promise<number> {
    const { added, changed } = await indexRemote({
      mappings,
      remote: this.spec,
      scope: makeScope({}),
      concurrency: 4,
      listConcurrency: undefined,
      workers: 1,
      trustEtags: undefined,
      allowDrop: 20,
      limits: { maxObjects: undefined, maxSeconds: undefined },
      bandwidthLimit: undefined,
      breakLock: false,
      dryRun: false,
      signal,
      observer: { progress: () => {}, unreadable: () => {}, notice: () => {} },
    })
    return added + changed
  }

  async check(dir: string, options: { placesAtOnce?: number } = {}): Promise<CheckResult> {
    this.findings = []
    return await check({ dir, signal, report: (found) => this.findings.push(found), ...options })
  }

  async repair(dir: string, options: { allowDrop?: number } = {}) {
    this.findings = []
    this.notices = []
    return await checkAndRepair({
      dir,
      signal,
      allowDrop: 20,
      breakLock: false,
      remote: ({ remote }) => openRemote(remote),
      report: (found) => this.findings.push(found),
      notice: (message) => this.notices.push(message),
      ...options,
    })
  }

  /** The kinds of what was found last, each once. */
  kinds(): string[] {
    return [...new Set(this.findings.map(({ kind }) => kind))].sort()
  }

  /** Asserts that a mapping is whole, and says what an undisturbed one says. */
  async assertGood(dir: string): Promise<void> {
    const { tally } = await this.check(dir)
    assert.deepEqual(tally.counts(), {}, JSON.stringify(this.findings.slice(0, 3)))
    const [is, expected] = [await contentsOf(dir), await contentsOf(this.good)]
    assertSameLines(is.lines, expected.lines, 'lines')
    assertSameLines(is.records, expected.records, 'records')
    assert.deepEqual(is.stats, expected.stats)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}

/** Returns what tree and catalog hold. */
export async function contentsOf(dir: string): Promise<Contents> {
  const { lines, records } = await inspect(dir)
  const catalog = Catalog.open(dir, { readOnly: true })
  try {
    return {
      lines,
      records: Array.from(records, ([key, { etag, size, lastModified, hashes, trusted }]) => {
        return `${key} ${etag} ${size} ${lastModified} ${hashes.toString('hex')} ${trusted ?? ''}`
      }).sort(),
      stats: catalog.stats(),
    }
  } finally {
    await catalog.close()
  }
}

/** Returns the names of a mapping's hash files, in order, below it. */
export async function hashFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir, { recursive: true })
  return names.filter((name) => /^[0-9a-f]{3}\/[0-9a-f]{32}$/.test(name)).sort()
}
