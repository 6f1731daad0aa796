/**
 * Files of a keepstore directory: `ROOT/abc/abcd…`, in the trash `ROOT/abc/abcd….trash.SECONDS`, and
 * half written `ROOT/abc/tmpabcd….*`. Paths are made of a hash's digits alone, so that none can lead
 * out of the root; nor is a symbolic link followed on the way.
 */
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readlink, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { KeepgwError, messageOf } from '../../errors.ts'
import { MAX_BLOCK } from '../../keep/locator.ts'
import { RemoteError } from '../../remote/remote.ts'

/** What a file's name says of it. */
export type FileName =
  | { kind: 'block'; hash: string }
  | { kind: 'trash'; hash: string; deadline: number }
  | { kind: 'temporary'; hash: string }

/** A block's file, open. The holder closes the handle. */
export interface OpenBlock {
  handle: FileHandle
  /** Bytes. */
  length: number
}

/** Returns what a name in the directory `shard` stands for, or undefined for a stranger's. */
export function parseName(name: string, shard: string): FileName | undefined {
  const [, temporary, hash = '', rest = ''] = /^(tmp)?([0-9a-f]{32})(.*)$/s.exec(name) ?? []
  if (hash === '' || !hash.startsWith(shard)) return undefined
  // keepstore's end in digits, too.
  if (temporary !== undefined) return /^\d*$/.test(rest) ? { kind: 'temporary', hash } : undefined
  if (rest === '') return { kind: 'block', hash }
  const [, deadline] = /^\.trash\.(\d{1,15})$/.exec(rest) ?? []
  return deadline === undefined ? undefined : { kind: 'trash', hash, deadline: Number(deadline) }
}

/** The root of a volume, and that it is still the one that was there at the start. */
export class Root {
  /** Absolute, without symbolic links. */
  readonly path: string
  readonly #identity: string
  /** The directories of blocks whose own names are known to be on disk. */
  readonly #lasting = new Set<string>()

  /** Returns the root. Throws KeepgwError where it is no directory that can be read. */
  static async open(path: string): Promise<Root> {
    const hint = 'Name a directory that is there, and whose disk is mounted'
    try {
      const stats = await stat(path, { bigint: true })
      if (stats.isDirectory()) return new Root(await realpath(path), `${stats.dev}:${stats.ino}`)
    } catch (error) {
      throw new KeepgwError(`volume ${path} cannot be read: ${messageOf(error)}`, {
        cause: error,
        hint,
      })
    }
    throw new KeepgwError(`volume ${path} is no directory`, { hint })
  }

  constructor(path: string, identity: string) {
    this.path = path
    this.#identity = identity
  }

  /** Returns the directory that holds a hash's files. Throws for what is no hash. */
  shard(hash: string): string {
    if (!/^[0-9a-f]{32}$/.test(hash)) throw new TypeError('not the MD5 of a block')
    return join(this.path, hash.slice(0, 3))
  }

  /** Returns where a block lies. */
  block(hash: string): string {
    return join(this.shard(hash), hash)
  }

  /**
   * Throws RemoteError `unreachable` unless the directory is the one that was opened: the mount point
   * of a disk that went away is an empty directory, which must not be read as "no block", nor
   * written to.
   */
  async check(): Promise<void> {
    try {
      const { dev, ino } = await stat(this.path, { bigint: true })
      if (`${dev}:${ino}` === this.#identity) return
    } catch (error) {
      throw unreachable(this.path, error)
    }
    throw new RemoteError('unreachable', `${this.path} is another directory than at the start`, {
      hint: 'Mount its disk again, and restart',
    })
  }

  /**
   * True if the directory of the hash is there, and a real one: a link could lead anywhere. Throws
   * RemoteError `unreachable` as check does.
   */
  async hasShard(hash: string): Promise<boolean> {
    await this.check()
    try {
      return (await lstat(this.shard(hash))).isDirectory()
    } catch (error) {
      if (isAbsent(error)) return false
      throw unreachable(this.shard(hash), error)
    }
  }

  /**
   * Has a block's name outlast a power cut. So must its directory's, which somebody may have made who was
   * killed before he had synced it: that is looked after once.
   */
  async syncNames(hash: string): Promise<void> {
    const shard = this.shard(hash)
    await syncDirectory(shard)
    if (this.#lasting.has(shard)) return
    await syncDirectory(this.path)
    this.#lasting.add(shard)
  }

  /**
   * Opens a block's file. Undefined stands for no block: also for a symbolic link, anything but a
   * regular file, and one of more than 64 MiB. Throws RemoteError `unreachable`.
   */
  async open(hash: string): Promise<OpenBlock | undefined> {
    const path = this.block(hash)
    // At the moment of opening, a write may have given its name to another file, or the trash taken it.
    for (let tries = 2; tries > 0; tries--) {
      const block = await this.#openOnce(path)
      if (block !== 'elsewhere') return block
    }
    if (!(await this.hasShard(hash)) && (await this.#isInPlace())) return undefined
    throw new RemoteError('unreachable', `${path} leads to another place than at the start`, {
      hint: `Restart where ${this.path} was moved`,
    })
  }

  /** False where a link has taken the root's name; it may lead to the root, and its blocks. */
  async #isInPlace(): Promise<boolean> {
    try {
      return (await realpath(this.path)) === this.path
    } catch (error) {
      throw unreachable(this.path, error)
    }
  }

  /** As open(); `elsewhere` for what is not where its path says. */
  async #openOnce(path: string): Promise<OpenBlock | 'elsewhere' | undefined> {
    // Opening a fifo would wait for its writer.
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
    let handle: FileHandle
    try {
      handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    } catch (error) {
      if (!isAbsent(error)) throw unreachable(path, error)
      await this.check()
      return undefined
    }
    try {
      const stats = await handle.stat()
      // The directory on the way could be a link to anywhere.
      const isHere = (await readlink(`/proc/self/fd/${handle.fd}`)) === path
      if (isHere && stats.isFile() && stats.size <= MAX_BLOCK) return { handle, length: stats.size }
      await handle.close()
      return isHere ? undefined : 'elsewhere'
    } catch (error) {
      await handle.close()
      throw unreachable(path, error)
    }
  }
}

/** Has the names in a directory outlast a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** True for the errors that say: nothing of this name is there. */
export function isAbsent(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP'
}

/** Returns the RemoteError for what a file system said. */
export function unreachable(path: string, error: unknown): RemoteError {
  if (error instanceof RemoteError) return error
  return new RemoteError('unreachable', `${path}: ${messageOf(error)}`, { cause: error })
}
