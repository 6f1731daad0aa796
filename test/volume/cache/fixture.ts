/** Caches in a directory of their own, and blocks that are read through them. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { BlockCache, type CacheOptions } from '../../../src/volume/cache/cache.ts'
import { readThrough } from '../../../src/volume/cache/read-through.ts'
import { FailureMemory } from '../../../src/volume/failure-memory.ts'
import type { BlockSource } from '../../../src/volume/volume.ts'
import { until } from '../../e2e/keepgw.ts'
import { makeVolume } from '../fakes.ts'

const LIMIT = 100_000_000

/** What each test is to do at its end, the last first. */
const endings = new WeakMap<TestContext, (() => unknown)[]>()

/** Calls `end` after the test, before its directory is removed. */
export function atEnd(t: TestContext, end: () => unknown): void {
  endings.get(t)!.push(end)
}

/** Returns a directory that is removed after the test. */
export async function scratch(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-cache-'))
  endings.set(t, [() => rm(dir, { recursive: true, force: true })])
  t.after(async () => {
    for (const end of endings.get(t)!.reverse()) await end()
  })
  return dir
}

/** A cache, and the failures that one server remembers. */
export class CacheFixture {
  readonly cache: BlockCache
  readonly failures = new FailureMemory()
  readonly warnings: string[]

  static async open(
    t: TestContext,
    dir: string,
    options: Partial<CacheOptions> = {},
  ): Promise<CacheFixture> {
    const warnings: string[] = []
    const warn = (error: unknown) => void warnings.push(String(error))
    const cache = await BlockCache.open({ dir, limit: LIMIT, warn, ...options })
    atEnd(t, () => cache.close())
    return new CacheFixture(cache, warnings)
  }

  constructor(cache: BlockCache, warnings: string[]) {
    this.cache = cache
    this.warnings = warnings
  }

  /** Returns a block, which these places have; throws as readBlock does. */
  async read(hash: string, places: BlockSource[], size?: number): Promise<Buffer> {
    const chunks: Buffer[] = []
    const volumes = [makeVolume({ blocks: { [hash]: places } })]
    const { signal } = new AbortController()
    const query = { volumes, hash, size, signal, failures: this.failures, idleLimit: 20_000 }
    await readThrough(this.cache, query, {
      begin() {},
      async write(chunk) {
        chunks.push(Buffer.from(chunk))
        // As a socket does, it lets others have their turn.
        await setImmediate()
      },
    })
    return Buffer.concat(chunks)
  }

  /** Returns when all that was read is in the cache, or given up. */
  async settled(): Promise<void> {
    const { counts } = this.cache
    await until(() => counts.stored + counts.skipped + counts.errors >= counts.misses)
  }

  /** Reads a block and returns once it is in the cache. */
  async fill(hash: string, place: BlockSource): Promise<void> {
    await this.read(hash, [place])
    await this.settled()
  }
}

/** Returns the names of a cache's files, those under way as `tmp`. */
export async function filesIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return files
    .map(({ parentPath, name }) => (parentPath === join(dir, 'tmp') ? 'tmp' : name))
    .sort()
}
