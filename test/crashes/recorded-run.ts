/** An index run whose doings were recorded, and whose machine may lose its power at any of them. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { Disk } from './disk-model.ts'
import type { CrashLab, Kind } from './lab.ts'
import { pick } from './moments.ts'
import { type Operation, record } from './recording.ts'
import { hashesOf, inspect } from './state.ts'
import { readTree, type Tree, writeTree } from './tree.ts'

/** Where the mapping lies below the directory that is recorded: two more have to be made for it. */
const MAPPING = join('new', 'mapping')
const CATALOG = join('.keepgw', 'catalog', 'data.mdb')

/** What a run is, and what it begins with. */
type Run = Pick<Kind, 'flags' | 'base' | 'proven'>

export class RecordedRun {
  readonly kind: Run
  readonly operations: readonly Operation[]
  /** Hashes of lines that were there before. */
  readonly hashes: Set<string>
  readonly #root: string
  readonly #before: Tree
  /** The power is not cut before. */
  readonly #begin: number

  /** Records a run from its beginning to its end. */
  static async record(lab: CrashLab, kind: Run, env = lab.env): Promise<RecordedRun> {
    const root = join(lab.scratch, `recorded-${lab.recorded++}`)
    const mapping = join(root, MAPPING)
    mkdirSync(root)
    if (kind.base !== undefined) {
      mkdirSync(dirname(mapping))
      lab.newMapping(mapping, kind.base)
    }
    const parts = { kind, root, before: readTree(root), hashes: hashesOf(await inspect(mapping)) }
    const command = lab.command(mapping, kind)
    const operations = await record(command, { env, root, scratch: lab.scratch })
    return new RecordedRun({ ...parts, operations, begin: 0 })
  }

  private constructor(parts: {
    kind: Run
    root: string
    before: Tree
    hashes: Set<string>
    operations: readonly Operation[]
    begin: number
  }) {
    this.kind = parts.kind
    this.operations = parts.operations
    this.hashes = parts.hashes
    this.#root = parts.root
    this.#before = parts.before
    this.#begin = parts.begin
    const seen = this.#disk().seenAt(Number.POSITIVE_INFINITY)
    assertSameFiles(seen, readTree(this.#root))
    const syncs = this.operations.filter(({ kind }) => kind === 'sync')
    console.log(`recorded ${this.operations.length} operations, ${syncs.length} of them syncs`)
  }

  /**
   * Records the next run, after this one was killed when its lines were written and not synced: what
   * it has done is there, and need not be on disk.
   */
  async killedAndRunAgain(lab: CrashLab): Promise<RecordedRun> {
    const sync = this.#largestSync()
    const killed = this.operations.filter(({ end }) => end < sync.start)
    rmSync(this.#root, { recursive: true })
    writeTree(this.#root, this.#disk().seenAt(sync.start - 1))
    const command = lab.command(join(this.#root, MAPPING), this.kind)
    const next = await record(command, { env: lab.env, root: this.#root, scratch: lab.scratch })
    const later = next.map((each) => {
      return { ...each, start: each.start + sync.start, end: each.end + sync.start }
    })
    return new RecordedRun({
      kind: this.kind,
      root: this.#root,
      before: this.#before,
      hashes: this.hashes,
      operations: [...killed, ...later],
      begin: sync.start,
    })
  }

  /** Returns the sync of the file system that most was done before, since the last one. */
  #largestSync(): Operation {
    let largest: { sync: Operation; count: number } | undefined
    let last = 0
    for (const [at, sync] of this.operations.entries()) {
      if (sync.kind !== 'sync' || sync.of !== 'all') continue
      if (largest === undefined || at - last > largest.count) largest = { sync, count: at - last }
      last = at
    }
    return largest!.sync
  }

  /** Returns moments of the run: half of them anywhere, half around the syncs of its batches. */
  moments(count: number, random: () => number): number[] {
    const own = this.operations.filter(({ end }) => end >= this.#begin)
    const syncs = own.filter(({ kind }) => kind === 'sync')
    return Array.from({ length: count }, (_, i) => {
      if (i % 2 === 0) return pick(own, random).end
      const { start, end } = pick(syncs, random)
      return Math.max(this.#begin, pick([start - 1, start, end, end + 1], random))
    })
  }

  /** Returns the moments at which a commit to the catalog has just returned. */
  commits(): number[] {
    const commits = this.operations.filter((each) => {
      return each.kind === 'write' && each.lasting && isCatalog(each.path)
    })
    return commits.map(({ end }) => end)
  }

  /** Says what was done last at a moment. */
  describe(at: number): string {
    const done = this.operations.filter(({ end }) => end <= at)
    const last = done.at(-1)
    if (last === undefined) return 'cut before all'
    const path = relative(join(this.#root, MAPPING), last.kind === 'rename' ? last.to : last.path)
    return `cut behind ${done.length} of ${this.operations.length} operations, a ${last.kind} of ${path}`
  }

  /**
   * Makes a mapping below `root`, which is made, as a power cut at that moment may leave it. Returns
   * its directory. Of a disk that lies about syncs only those of lmdb are true: of a catalog in pieces
   * no reader knows whether it may be opened.
   */
  cut(at: number, root: string, random: () => number, { lies = false } = {}): string {
    writeTree(root, this.#disk(lies).afterCut(at, random))
    return join(root, MAPPING)
  }

  /** Asserts that a mapping knows of all transactions whose commits had returned by then. */
  assertCommitted(at: number, mapping: string): void {
    const numbers = this.operations.map((each) => {
      if (each.kind !== 'write' || !each.lasting || each.end > at) return 0
      if (!isCatalog(each.path) || each.offset === 'end') return 0
      return Number(each.data.readBigUInt64LE(TRANSACTION - (each.offset % PAGE)))
    })
    assert.ok(transactionOf(mapping) >= Math.max(0, ...numbers), 'a commit was lost')
  }

  #disk(lies = false): Disk {
    return new Disk(this.operations, {
      root: this.#root,
      before: this.#before,
      inPlace: isCatalog,
      heeds: ({ path }) => !lies || isCatalog(path),
    })
  }
}

function isCatalog(path: string): boolean {
  return path.endsWith(CATALOG)
}

/** The table of readers is written through a mapping into memory, which is in no record. */
function assertSameFiles(modelled: Tree, found: Tree): void {
  const described = (tree: Tree) =>
    [...tree]
      .filter(([path]) => !path.endsWith('lock.mdb'))
      .map(([path, bytes]) => `${path} ${bytes?.toString('latin1')}`)
      .sort()
  const isSame = described(modelled).join('\n') === described(found).join('\n')
  assert.ok(isSame, 'the record, played again, makes other files')
}

/** Where LMDB has its number of the last transaction, in each of its two first pages (MDB_meta). */
const TRANSACTION = 152
const PAGE = 4096

/** Returns the last transaction that a mapping's catalog knows; 0 without a catalog. */
function transactionOf(mapping: string): number {
  const file = join(mapping, CATALOG)
  if (!existsSync(file)) return 0
  const head = readFileSync(file)
  return Math.max(...[0, PAGE].map((page) => Number(head.readBigUInt64LE(page + TRANSACTION))))
}
