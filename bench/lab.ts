/** What all cases share: the store, the data on it, and where mappings are made. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Contender, ofCommand } from './case.ts'
import { checkMapping } from './check.ts'
import { findPeers, type IndexSettings, keepgwIndex, type Peers } from './contenders.ts'
import { type DataSet, type DataSetName, type Known, makeDataSet } from './data.ts'
import { openStore, type Route, type Store } from './store.ts'

export interface LabOptions {
  /** How many times the usual number of objects there are. */
  scale: number
  /** What the shaped link lets through in all, bytes a second. */
  linkRate: number
}

/** How `keepgw index` is to run. */
export interface IndexRun {
  /** The row's name. */
  name: string
  route: Route
  bucket: string
  /** In the case's unit. */
  amount: number
  settings?: IndexSettings
  /** True: each run starts without a mapping. False: each finds that of the run before. */
  isFirst: boolean
  /** The mapping's directory; one of its own where it is left out. */
  home?: string
  /** How many objects it must find. */
  listed: number
  /** What must be in the mapping in the end; left out where that is not looked at. */
  objects?: ReadonlyMap<string, Known>
}

export class Lab {
  readonly store: Store
  readonly peers: Peers
  readonly scale: number
  readonly linkRate: number
  /** Temporary files; they go at close(). */
  readonly dir: string
  readonly #data = new Map<DataSetName, Promise<DataSet>>()
  #homes = 0

  private constructor(store: Store, peers: Peers, dir: string, { scale, linkRate }: LabOptions) {
    this.store = store
    this.peers = peers
    this.dir = dir
    this.scale = scale
    this.linkRate = linkRate
  }

  /** Starts the store. Throws where that fails, or a peer that was named does not run. */
  static async open(options: LabOptions): Promise<Lab> {
    const peers = findPeers()
    const dir = await mkdtemp(join(tmpdir(), 'keepgw-bench-'))
    try {
      return new Lab(await openStore(dir), peers, dir, options)
    } catch (error) {
      await rm(dir, { recursive: true })
      throw error
    }
  }

  /** Takes away all that was made: data, mappings, the store. */
  async close(): Promise<void> {
    // SeaweedFS drops its data when it ends, and at once.
    if (this.store.route.kind === 'external') {
      const made = await Promise.allSettled(this.#data.values())
      for (const data of made) {
        if (data.status === 'fulfilled') await data.value.bucket.destroy()
      }
    }
    await this.store.stop()
    await rm(this.dir, { recursive: true, force: true })
  }

  /** Returns the data set, which is made when it is first asked for. */
  data(name: DataSetName): Promise<DataSet> {
    const made = this.#data.get(name) ?? makeDataSet(this.store.route, name, this.scale)
    this.#data.set(name, made)
    return made
  }

  /** Returns a new place for mappings; a bucket's is the directory of that name in it. */
  home(): string {
    this.#homes += 1
    return join(this.dir, `mappings-${this.#homes}`)
  }

  /** Returns a run of keepgw as a contender. */
  keepgw({
    name,
    route,
    bucket,
    amount,
    settings,
    isFirst,
    home,
    listed,
    objects,
  }: IndexRun): Contender {
    const mappings = home ?? this.home()
    return {
      name,
      amount,
      ...ofCommand(keepgwIndex(route, bucket, mappings, settings)),
      prepare: async () => {
        // Not deleted before the end: ext4 makes files slowly for minutes after many were deleted.
        if (isFirst) await rename(mappings, this.home()).catch(ignoreMissing)
        await mkdir(mappings, { recursive: true })
      },
      check: async (stdout) => {
        const summary = await summaryOf(stdout)
        assert.deepEqual([summary.listed, summary.unreadable], [listed, 0], 'objects are missing')
        if (objects !== undefined) await checkMapping(join(mappings, bucket), objects)
      },
    }
  }
}

/** Returns the summary that `keepgw index --json` printed last. */
async function summaryOf(stdout: string): Promise<Record<string, unknown>> {
  return JSON.parse((await readFile(stdout, 'utf8')).trimEnd().split('\n').at(-1)!)
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}
