/** What the tests of a mapping share: a mapping of their own, made-up records, keys of all kinds. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { Catalog } from '../../src/mapping/catalog.ts'
import { type MappingDescription, writeDescription } from '../../src/mapping/description.ts'
import { acquireLock, type MappingLock } from '../../src/mapping/lock.ts'
import type { CatalogRecord } from '../../src/mapping/record.ts'
import { Recorder } from '../../src/mapping/recorder.ts'
import { keyFromBytes } from '../../src/remote/key.ts'

export const description: MappingDescription = {
  version: 1,
  remote: { kind: 's3', bucket: 'b' },
  ifMatch: true,
}

export interface TestMapping extends AsyncDisposable {
  dir: string
  catalog: Catalog
  lock: MappingLock
  recorder: Recorder
}

/** Makes a directory that holds nothing but a description; it goes with its scope. */
export async function makeTree(): Promise<{ dir: string } & AsyncDisposable> {
  // Where there is a file system in memory, its syncs cost nothing.
  const root = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
  const dir = await mkdtemp(join(root, 'keepgw-test-'))
  await writeDescription(dir, description)
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) }
}

/** Makes an empty mapping whose lock is held; it goes with its scope. */
export async function makeMapping(): Promise<TestMapping> {
  const tree = await makeTree()
  const { dir } = tree
  await Catalog.make(dir)
  const catalog = Catalog.open(dir)
  const lock = await acquireLock(catalog, 'test')
  const recorder = new Recorder(dir, catalog, lock.id)
  return {
    dir,
    catalog,
    lock,
    recorder,
    async [Symbol.asyncDispose]() {
      await recorder.close()
      await lock.release()
      await catalog.close()
      await tree[Symbol.asyncDispose]()
    },
  }
}

/** Everything that an iterable yields. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** A hash of a repeated digit pair: `hashOf(0xab)` is `abab…`. */
export function hashOf(byte: number): string {
  return Buffer.alloc(16, byte).toString('hex')
}

/** A record of one small segment, named by a byte of its hash. */
export function smallRecord(byte: number, etag = `etag-${byte}`): CatalogRecord {
  return { etag, size: byte, lastModified: 1_700_000_000_000, hashes: Buffer.alloc(16, byte) }
}

/** All files of a tree but keepgw's own, by their names. */
export async function readTree(dir: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>()
  for (const shard of await readdir(dir)) {
    if (shard === '.keepgw') continue
    for (const name of await readdir(join(dir, shard))) {
      files.set(name, await readFile(join(dir, shard, name)))
    }
  }
  return files
}

/** Keys of any bytes, with those that need an escape among them more often than not. */
export const anyKey = fc
  .array(
    fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 4 }),
      fc
        .constantFrom(
          '%',
          '%2',
          '%41',
          ':',
          '\t',
          '\n',
          '\r',
          '\0',
          '\x7f',
          ' ',
          'é',
          '🙂',
          '\u2028',
        )
        .map((text) => Buffer.from(text)),
    ),
    { minLength: 1, maxLength: 6 },
  )
  .map((parts) => keyFromBytes(Buffer.concat(parts)))
