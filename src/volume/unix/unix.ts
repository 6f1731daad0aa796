/** A keepstore directory as a volume: the files of any keepstore, read and written beside it. */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { access, lstat, lutimes, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'
import { messageOf } from '../../errors.ts'
import { MAX_BLOCK } from '../../keep/locator.ts'
import { RemoteError, type Sink } from '../../remote/remote.ts'
import type {
  BlockSource,
  IndexedBlock,
  NewBlock,
  Stored,
  TrashOutcome,
  TrashPolicy,
  TrashVolume,
  Wanted,
} from '../volume.ts'
import { deviceIdOf } from './device-id.ts'
import { isAbsent, parseName, Root, unreachable } from './files.ts'
import { Mutex, NamedMutexes, noMutex } from './mutex.ts'
import { emptyShard, trashBlock, untrashBlock } from './trash.ts'
import { syncBlock, writeBlock } from './write.ts'

/** Bytes of one read: a disk that serves one at a time gets more, so that it seeks less. */
const CHUNK = 262_144
const SERIAL_CHUNK = 4_194_304
/** Files that are looked at together. */
const CONCURRENT_STATS = 16

/** How the directory is used. */
export interface UnixOptions {
  /** Let one reader or writer at a time at the disk: keepstore's Serialize. */
  serialize?: boolean | undefined
  readOnly?: boolean | undefined
  /** As a keepstore's by default. */
  storageClasses?: readonly string[] | undefined
}

/** Safe for concurrent use, also by other processes, keepstores among them. */
export class UnixVolume implements TrashVolume {
  readonly deviceId: string
  readonly allowWrite: boolean
  readonly allowTrash: boolean
  readonly replication = 1
  readonly storageClasses: readonly string[]
  readonly #root: Root
  readonly #disk: Pick<Mutex, 'run'>
  readonly #chunk: number
  readonly #changing = new NamedMutexes()

  /** Opens the directory at the absolute path `dir`. Throws KeepgwError where it is not there. */
  static async open(dir: string, options: UnixOptions = {}): Promise<UnixVolume> {
    return new UnixVolume(await Root.open(dir), await deviceIdOf(dir), options)
  }

  constructor(root: Root, deviceId: string, options: UnixOptions) {
    const { serialize = false, readOnly = false, storageClasses = ['default'] } = options
    this.storageClasses = storageClasses
    this.#root = root
    this.deviceId = deviceId
    this.allowWrite = !readOnly
    this.allowTrash = !readOnly
    this.#disk = serialize ? new Mutex() : noMutex
    this.#chunk = serialize ? SERIAL_CHUNK : CHUNK
  }

  toString(): string {
    return `unix:${this.#root.path}`
  }

  /**
   * Yields the block's file, if there is one. It is opened anew by each read, so it may be `gone` by then.
   */
  async *sources(hash: string): AsyncIterable<BlockSource> {
    const block = await this.#root.open(hash)
    if (block === undefined) return
    await block.handle.close()
    yield this.#source(hash, block.length)
  }

  /** Yields the blocks in order of their hashes. Throws RemoteError `unreachable`. */
  async *blocks(prefix: string): AsyncIterable<IndexedBlock> {
    for (const shard of await this.#shards(prefix)) {
      const names = (await this.#names(shard)).filter((name) => name.startsWith(prefix)).sort()
      const hashes = names.filter((name) => parseName(name, shard)?.kind === 'block')
      const limit = pLimit(CONCURRENT_STATS)
      const found = hashes.map((hash) => limit(() => this.#stat(hash)))
      for (const block of await Promise.all(found)) if (block !== undefined) yield block
    }
    // A disk that went away meanwhile looks like directories that vanished.
    await this.#root.check()
  }

  /** True if one of the classes is its own. */
  offers(classes: readonly string[]): boolean {
    return classes.some((each) => this.storageClasses.includes(each))
  }

  /** True for a file of the block's name, whatever is in it. Throws RemoteError `unreachable`. */
  async holds(hash: string): Promise<boolean> {
    return (await this.#stat(hash)) !== undefined
  }

  /**
   * As WritableVolume.put. Reads what is here before it counts for a copy; one change of a block at a time.
   */
  async put(block: NewBlock, _wanted: Wanted, signal: AbortSignal): Promise<Stored> {
    const { hash, data } = block
    const isThere = await this.#changing.run(hash, async () => {
      const isGood = (await this.#isGood(block, signal)) && (await this.#setTime(hash))
      if (isGood && (await this.#disk.run(() => syncBlock(this.#root, hash)))) return true
      await this.#disk.run(() => writeBlock(this.#root, block, signal))
      return false
    })
    return {
      replicas: 1,
      classes: Object.fromEntries(this.storageClasses.map((each) => [each, 1])),
      written: isThere ? 0 : data.length,
    }
  }

  /** As WritableVolume.refusal: asks the system, and writes nothing. */
  async refusal(): Promise<string | undefined> {
    const { path } = this.#root
    try {
      await access(path, constants.W_OK | constants.X_OK)
      return undefined
    } catch (error) {
      return `${path} takes no blocks, name it unix:readonly:${path} where it is not to: ${messageOf(error)}`
    }
  }

  async touch(hash: string): Promise<boolean> {
    return this.#changing.run(hash, async () => {
      if (!(await this.#root.hasShard(hash))) return false
      return (await this.#stat(hash)) !== undefined && this.#setTime(hash)
    })
  }

  async trash(hash: string, policy: TrashPolicy, mtimeNs?: bigint): Promise<TrashOutcome> {
    return this.#changing.run(hash, () => trashBlock(this.#root, hash, policy, mtimeNs))
  }

  async untrash(hash: string): Promise<boolean> {
    return this.#changing.run(hash, () => untrashBlock(this.#root, hash))
  }

  /**
   * As TrashVolume.emptyTrash. Throws RemoteError `unreachable` once all that can be looked at was; what was
   * deleted by then stays deleted.
   */
  async emptyTrash({ trashStays = false } = {}): Promise<void> {
    let first: RemoteError | undefined
    let failures = 0
    for (const shard of await this.#shards('')) {
      await emptyShard(this.#root, shard, trashStays, (error) => {
        first ??= error
        failures += 1
      })
    }
    if (first === undefined) return
    const more = failures > 1 ? `, and ${failures - 1} more failures` : ''
    throw new RemoteError('unreachable', first.message + more, { cause: first })
  }

  async close(): Promise<void> {}

  #source(hash: string, length: number): BlockSource {
    return {
      length,
      measured: true,
      store: this.deviceId,
      toString: () => `${this.#root.block(hash)}`,
      read: (from, sink, signal) => this.#read(hash, from, sink, signal),
      // A file has nothing that would tell whether its bytes are still the right ones.
      unchanged: async () => false,
    }
  }

  async #read(hash: string, from: number, sink: Sink, signal: AbortSignal): Promise<void> {
    const block = await this.#root.open(hash)
    if (block === undefined) throw new RemoteError('gone', `${this.#root.block(hash)} is gone`)
    try {
      const chunk = Buffer.allocUnsafe(Math.min(this.#chunk, Math.max(1, block.length - from)))
      for (let at = from; ; ) {
        signal.throwIfAborted()
        const { bytesRead } = await this.#disk.run(() => {
          return block.handle.read(chunk, 0, chunk.length, at).catch((error: unknown) => {
            throw unreachable(this.#root.block(hash), error)
          })
        })
        if (bytesRead === 0) return
        at += bytesRead
        await sink(chunk.subarray(0, bytesRead))
      }
    } finally {
      await block.handle.close()
    }
  }

  /** True if the block is here and has its data; what cannot be read is written anew. */
  async #isGood({ hash, data }: NewBlock, signal: AbortSignal): Promise<boolean> {
    const md5 = createHash('md5')
    let length = 0
    const take: Sink = (chunk) => {
      md5.update(chunk)
      length += chunk.length
    }
    try {
      if ((await this.#stat(hash))?.length !== data.length) return false
      await this.#read(hash, 0, take, signal)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof RemoteError) return false
      throw error
    }
    return length === data.length && md5.digest('hex') === hash
  }

  /** By its name: a file that is moved to the trash at this moment is not taken for kept. */
  async #setTime(hash: string): Promise<boolean> {
    const path = this.#root.block(hash)
    const now = Date.now() / 1000
    try {
      await lutimes(path, now, now)
      return true
    } catch (error) {
      if (isAbsent(error)) return false
      throw unreachable(path, error)
    }
  }

  async #stat(hash: string): Promise<IndexedBlock | undefined> {
    const path = this.#root.block(hash)
    try {
      const stats = await lstat(path, { bigint: true })
      const length = Number(stats.size)
      if (!stats.isFile() || length > MAX_BLOCK) return undefined
      return { hash, length, mtimeNs: stats.mtimeNs }
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw unreachable(path, error)
    }
  }

  async #shards(prefix: string): Promise<string[]> {
    try {
      await this.#root.check()
      const entries = await readdir(this.#root.path, { withFileTypes: true })
      const shards = entries.filter((entry) => {
        return entry.isDirectory() && /^[0-9a-f]{3}$/.test(entry.name)
      })
      const start = prefix.slice(0, 3)
      return shards
        .map(({ name }) => name)
        .filter((name) => name.startsWith(start))
        .sort()
    } catch (error) {
      throw unreachable(this.#root.path, error)
    }
  }

  async #names(shard: string): Promise<string[]> {
    try {
      return await readdir(join(this.#root.path, shard))
    } catch (error) {
      if (isAbsent(error)) return []
      throw unreachable(join(this.#root.path, shard), error)
    }
  }
}
