/** Reads segments from the remote and hashes them, several at once, on the thread that it is made on. */
import { setTimeout } from 'node:timers/promises'
import { KeepgwError } from '../errors.ts'
import { openEngine } from '../hash/engine.ts'
import type { HashEngine } from '../hash/md5.ts'
import type { OpenOptions } from '../remote/open.ts'
import { openReader } from '../remote/open-reader.ts'
import {
  asRemoteError,
  type ReadRequest,
  type RemoteReader,
  type RemoteSpec,
  type RequestCounts,
  type Sink,
} from '../remote/remote.ts'
import { readResuming } from '../remote/resume.ts'
import {
  type BandwidthClock,
  BandwidthLimit,
  type BandwidthShare,
  SYSTEM_CLOCK,
} from './bandwidth.ts'

/** How often it looks at how busy its thread is. */
const WATCH_MS = 200
/** The part of its time in which a thread that cannot do more is at work. */
const SATURATED = 0.9

/** What it reads from, and how. Plain data: it travels to worker threads. */
export interface SegmentHasherSetup {
  spec: RemoteSpec
  /** `connections` is also the number of segments that are read at once, at first. */
  options: OpenOptions & { connections: number }
  /** What all threads together may read in a second. */
  bandwidth: BandwidthShare | undefined
}

/** Whom it needs, and who hears of it. */
export interface SegmentHasherContext {
  /** Answers the reader's questions (see openReader). */
  access(query: unknown): Promise<unknown>
  /** Called whenever it changes whether the thread has as much to do as one can. */
  onSaturated(saturated: boolean): void
}

/** A segment that is wanted, and whoever waits for its MD5. */
export interface WantedHash {
  request: ReadRequest
  resolve(md5: Buffer): void
  reject(error: unknown): void
}

/** Safe for concurrent use. */
export class SegmentHasher {
  readonly #reader: RemoteReader
  readonly #engine: HashEngine
  readonly #limit: BandwidthLimit | undefined
  readonly #closing = new AbortController()
  readonly #running = new Set<WantedHash>()
  readonly #watch: NodeJS.Timeout
  #queue: WantedHash[] = []
  #share: number

  /** Throws UsageError for settings that cannot be right, KeepgwError where keepgw was not built. */
  constructor(
    { spec, options, bandwidth }: SegmentHasherSetup,
    { access, onSaturated }: SegmentHasherContext,
  ) {
    this.#share = options.connections
    this.#engine = openEngine(options.connections)
    this.#reader = openReader(spec, options, access)
    this.#limit = bandwidth && new BandwidthLimit(bandwidth, this.#clock())
    this.#watch = watchThread(onSaturated)
  }

  /** Segments that are being read. */
  get running(): number {
    return this.#running.size
  }

  /** Resolves to the 16 bytes of the segment's MD5. Throws RemoteError, or KeepgwError once closed. */
  hash(request: ReadRequest): Promise<Buffer> {
    return new Promise((resolve, reject) => this.take({ request, resolve, reject }))
  }

  /** As `hash`, for somebody who waits already. */
  take(wanted: WantedHash): void {
    this.#queue.push(wanted)
    this.#begin()
  }

  /** Segments that are read at once from now on. */
  giveShare(share: number): void {
    this.#share = share
    this.#begin()
  }

  /** Returns the segments that were not begun; somebody else is to hash them. */
  giveUpQueue(): WantedHash[] {
    const queue = this.#queue
    this.#queue = []
    return queue
  }

  /** Returns all requests that were made. */
  requests(): Readonly<RequestCounts> {
    return this.#reader.requests()
  }

  /** Frees connections. Segments under way fail at once, and all that come later. */
  async close(): Promise<void> {
    const closed = new KeepgwError('the hashing has ended')
    this.#closing.abort(closed)
    clearInterval(this.#watch)
    for (const { reject } of [...this.#running, ...this.giveUpQueue()]) reject(closed)
    await this.#reader.close()
  }

  #begin(): void {
    while (this.#running.size < this.#share && this.#queue.length > 0) {
      void this.#run(this.#queue.shift()!)
    }
  }

  async #run(wanted: WantedHash): Promise<void> {
    this.#running.add(wanted)
    const ended = (): void => {
      this.#running.delete(wanted)
      this.#begin()
    }
    const fail = (error: unknown): void => wanted.reject(asRemoteError(error))
    await this.#read(wanted.request).finally(ended).then(wanted.resolve, fail)
  }

  async #read(request: ReadRequest): Promise<Buffer> {
    const { signal } = this.#closing
    signal.throwIfAborted()
    using hasher = this.#engine.open()
    const sink: Sink = Object.assign((chunk: Uint8Array) => hasher.update(chunk), {
      room: () => hasher.room(),
    })
    await readResuming(this.#reader, request, this.#limit?.before(sink) ?? sink, signal)
    return await hasher.digest()
  }

  /** Nobody waits for a limit's turn once this is closed: a process could not end. */
  #clock(): BandwidthClock {
    const { signal } = this.#closing
    return { ...SYSTEM_CLOCK, sleep: (ms) => setTimeout(ms, undefined, { signal }) }
  }
}

/** Tells whenever it changes whether this thread is as busy as one can be; does not keep it alive. */
function watchThread(onSaturated: (saturated: boolean) => void): NodeJS.Timeout {
  let before = busyTime()
  let saturated = false
  return setInterval(() => {
    const now = busyTime()
    const part = (now.busy - before.busy) / (now.at - before.at)
    before = now
    if (part > SATURATED === saturated) return
    saturated = !saturated
    onSaturated(saturated)
  }, WATCH_MS).unref()
}

/** Milliseconds; of the thread's CPU where Node tells, since on a full machine it may only wait for it. */
function busyTime(): { at: number; busy: number } {
  const at = performance.now()
  if (process.threadCpuUsage === undefined) {
    return { at, busy: performance.eventLoopUtilization().active }
  }
  const { user, system } = process.threadCpuUsage()
  return { at, busy: (user + system) / 1000 }
}
