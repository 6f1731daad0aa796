/**
 * A tree of files as a remote: a network file system, a disk, a laptop. Its keys are the paths
 * below the root, its objects the regular files.
 */
import type { BigIntStats } from 'node:fs'
import { type FileHandle, stat } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import pLimit from 'p-limit'
import { UsageError } from '../../errors.ts'
import type {
  DirectorySpec,
  ListOptions,
  ListPage,
  RangeSupport,
  ReadRequest,
  RemoteObject,
  RemoteStore,
  RequestCounts,
  Sink,
  Unlisted,
} from '../remote.ts'
import { RemoteError } from '../remote.ts'
import {
  emptyAround,
  etagOf,
  examine,
  type File,
  isReached,
  openFile,
  writtenPartOf,
} from './file.ts'
import {
  asDirectory,
  bytesOf,
  isAbsence,
  keyFromPath,
  pathFromKey,
  pathFromText,
  realpath,
  reasonOf,
} from './path.ts'
import { type Found, walk } from './walk.ts'

const PAGE = 1000
/** More than libuv's four threads by default, so that none of them waits for the main thread. */
const STATS_AT_ONCE = 16
const CHUNK = 256 * 1024

/**
 * Returns the store of a directory tree; the tree itself is first looked at by the calls. Throws
 * UsageError for a root that is not an absolute path.
 */
export function openDirectory(spec: DirectorySpec): RemoteStore {
  if (!isAbsolute(spec.root)) {
    throw new UsageError(`Not an absolute path: ${JSON.stringify(spec.root)}`, {
      hint: 'Give the directory as a path that starts with /',
    })
  }
  return new Directory(spec)
}

/** The root as one listing found it. */
interface Root {
  /** Its real path, with the last `/`. */
  base: string
  dev: bigint
  ino: bigint
}

class Directory implements RemoteStore {
  readonly spec: DirectorySpec
  readonly #root: string
  readonly #closing = new AbortController()
  readonly #pending = new Set<Promise<unknown>>()

  constructor(spec: DirectorySpec) {
    this.spec = spec
    this.#root = pathFromText(resolve(spec.root))
  }

  toString(): string {
    return pathToFileURL(this.spec.root).href
  }

  /** A disk is read no faster in several places at once. */
  async ranges(): Promise<RangeSupport> {
    return 'none'
  }

  async *list(options: ListOptions = {}): AsyncGenerator<ListPage> {
    const signal = this.#signal(options.signal)
    signal.throwIfAborted()
    const root = await this.#lookAtRoot()
    let batch: Found[] = []
    for await (const found of walk(root.base, pathFromText(options.prefix ?? ''), signal)) {
      if (found.path === '' && found.unlisted !== undefined) throw this.#unreachable(found.unlisted)
      batch.push(found)
      if (batch.length < PAGE) continue
      yield await this.#page(root, batch)
      batch = []
    }
    const last = await this.#page(root, batch)
    signal.throwIfAborted()
    if (batch.length > 0) yield last
  }

  async read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void> {
    await this.#run((either) => this.#read(request, sink, either), signal)
  }

  async stat(key: string, signal?: AbortSignal): Promise<RemoteObject> {
    return this.#run(async () => objectOf(key, await this.#find(key)), signal)
  }

  /** Whoever may read the files needs nothing else. */
  async access(): Promise<unknown> {
    return undefined
  }

  requests(): Readonly<RequestCounts> {
    return { list: 0, get: 0, head: 0 }
  }

  async close(): Promise<void> {
    this.#closing.abort(new RemoteError('unreachable', `${this} was closed`))
    await Promise.allSettled(this.#pending)
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    const closing = this.#closing.signal
    return signal === undefined ? closing : AbortSignal.any([signal, closing])
  }

  /** A system call cannot be cancelled: the caller is let go, and close() waits for the call. */
  async #run<T>(work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const either = this.#signal(signal)
    either.throwIfAborted()
    const running = work(either).finally(() => this.#pending.delete(running))
    this.#pending.add(running)
    return orAbort(running, either)
  }

  async #page(root: Root, batch: Found[]): Promise<ListPage> {
    const entries = await pLimit(STATS_AT_ONCE).map(batch, (found) => this.#entry(root, found))
    // A disk that is unmounted half-way makes its files vanish; they must not be taken for deleted.
    const now = await this.#lookAtRoot()
    if (now.base !== root.base || now.dev !== root.dev || now.ino !== root.ino) {
      throw this.#unreachable('replaced by another directory while it was listed')
    }
    const page: ListPage = { objects: [], unlisted: [] }
    const empty = new Set<string>()
    for (const entry of entries) {
      if (entry === undefined) continue
      if (typeof entry === 'string') empty.add(entry)
      else if ('reason' in entry) page.unlisted.push(entry)
      else page.objects.push(entry)
    }
    return { ...page, empty: [...empty] }
  }

  /** Returns an object, what cannot be looked at, or, where there is neither, the directory if it is empty. */
  async #entry(
    { base }: Root,
    { path, unlisted, isEmpty }: Found,
  ): Promise<RemoteObject | Unlisted | string | undefined> {
    const key = keyFromPath(path)
    if (unlisted !== undefined) return { key, reason: unlisted }
    try {
      const file = await examine(base, path).catch((error) => {
        if (!isAbsence(error)) throw error
      })
      if (file) return objectOf(key, file)
      const empty = await emptyAround(base, path)
      // Its disk has come since: what lies on it was not listed.
      if (isEmpty && path !== '' && empty === undefined && (await this.#isThere(base, path))) {
        return key
      }
      // Of an empty root the one who lists can tell by himself.
      return empty ? keyFromPath(empty) : undefined
    } catch (error) {
      return { key, reason: reasonOf(error) }
    }
  }

  async #isThere(base: string, directory: string): Promise<boolean> {
    return await isReached(base, directory).catch((error) => {
      if (isAbsence(error)) return false
      throw error
    })
  }

  async #lookAtRoot(): Promise<Root> {
    try {
      const base = asDirectory(await realpath(this.#root))
      // With its last `/`, the path of anything but a directory fails.
      const { dev, ino } = await stat(bytesOf(base), { bigint: true })
      return { base, dev, ino }
    } catch (error) {
      throw this.#unreachable(reasonOf(error), error)
    }
  }

  async #find(key: string): Promise<File> {
    const path = pathFromKey(key)
    const { base } = await this.#lookAtRoot()
    if (path === undefined) throw await this.#absent(key)
    const isReal = await this.#try(key, isReached(base, path))
    const file = isReal ? await this.#try(key, examine(base, path)) : undefined
    if (file === undefined) throw await this.#absent(key)
    return file
  }

  async #read(request: ReadRequest, sink: Sink, signal: AbortSignal): Promise<void> {
    const { key } = request
    const file = await this.#find(key)
    signal.throwIfAborted()
    const handle = await this.#try(key, openFile(file))
    if (handle === undefined) throw this.#changed(key, 'it was moved while it was opened')
    try {
      const before = await this.#check(request, handle)
      await this.#deliver(request, handle, sink, signal)
      const after = await this.#try(key, handle.stat({ bigint: true }), request.length)
      if (!isStill(request, etagOf(before), after)) {
        throw this.#changed(key, 'it was written to while it was read', request.length)
      }
    } finally {
      await handle.close()
    }
  }

  /** Compares the open file with what is asked for. */
  async #check(request: ReadRequest, handle: FileHandle): Promise<BigIntStats> {
    const { key, etag, size, offset, length } = request
    const stats = await this.#try(key, handle.stat({ bigint: true }))
    if (!stats.isFile()) throw await this.#absent(key)
    if (etag !== undefined && !isStill(request, etag, stats)) {
      throw this.#changed(key, `its ETag is ${etagOf(stats)}, not ${etag}`)
    }
    if (size !== undefined && size !== Number(stats.size)) {
      throw this.#changed(key, `it has ${stats.size} bytes, not ${size}`)
    }
    if (offset + length > stats.size) {
      throw this.#changed(key, `it has ${stats.size} bytes, and ${offset + length} are wanted`)
    }
    return stats
  }

  async #deliver(
    { key, offset, length }: ReadRequest,
    handle: FileHandle,
    sink: Sink,
    signal: AbortSignal,
  ): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK, length))
    for (let delivered = 0; delivered < length; ) {
      const wanted = Math.min(buffer.length, length - delivered)
      const reading = handle.read(buffer, 0, wanted, offset + delivered)
      const { bytesRead } = await this.#try(key, reading, delivered)
      signal.throwIfAborted()
      if (bytesRead === 0) throw this.#changed(key, 'it became shorter', delivered)
      const taken = sink(buffer.subarray(0, bytesRead))
      delivered += bytesRead
      if (taken !== undefined) await orAbort(taken, signal)
    }
  }

  /** Makes a RemoteError of a system call's error: no such file, or one that cannot be reached. */
  async #try<T>(key: string, call: Promise<T>, delivered = 0): Promise<T> {
    try {
      return await call
    } catch (error) {
      if (isAbsence(error)) {
        throw await this.#absent(key)
      }
      const message = `Cannot read ${JSON.stringify(key)} in ${this}: ${reasonOf(error)}`
      throw new RemoteError('unreachable', message, { cause: error, delivered })
    }
  }

  /** Nothing is gone with the root, nor from an empty directory: a mount point without its disk looks like that. */
  async #absent(key: string): Promise<RemoteError> {
    const { base } = await this.#lookAtRoot()
    const empty = await this.#try(key, emptyAround(base, pathFromKey(key) ?? ''))
    if (empty === undefined) {
      return new RemoteError('gone', `No file ${JSON.stringify(key)} in ${this}`)
    }
    const which = empty === '' ? 'it' : JSON.stringify(keyFromPath(empty))
    return this.#unreachable(`${which} is empty, as without its disk`)
  }

  #changed(key: string, how: string, delivered = 0): RemoteError {
    const message = `${JSON.stringify(key)} in ${this} has changed: ${how}`
    return new RemoteError('changed', message, { delivered })
  }

  #unreachable(reason: string, cause?: unknown): RemoteError {
    return new RemoteError('unreachable', `Cannot read the directory ${this}: ${reason}`, {
      cause,
      hint: 'Check that the path is right, that its disk is mounted, and that this user may read it',
    })
  }
}

/** Whether a file is in the state that an ETag names, as far as the request asks. */
function isStill({ willProve }: ReadRequest, etag: string, stats: BigIntStats): boolean {
  const now = etagOf(stats)
  return now === etag || (willProve === true && writtenPartOf(now) === writtenPartOf(etag))
}

function objectOf(key: string, { stats }: File): RemoteObject {
  return {
    key,
    size: Number(stats.size),
    etag: etagOf(stats),
    lastModified: Number(stats.mtimeMs),
    archived: false,
  }
}

/** Waits for the work, or throws the signal's reason as soon as that is aborted. */
async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
