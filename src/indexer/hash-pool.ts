/** Threads that read and hash segments, each with connections and hashers of its own. */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { BandwidthShare } from '../bandwidth.ts'
import { KeepgwError, messageOf } from '../errors.ts'
import type { OpenOptions } from '../remote/open.ts'
import {
  type ReadRequest,
  RemoteError,
  type RemoteFailure,
  type RemoteSpec,
  type RequestCounts,
} from '../remote/remote.ts'
import { Admission } from './admission.ts'

/** What a thread is started with. */
export interface WorkerSetup {
  spec: RemoteSpec
  /** `connections` is also the number of segments that all threads read at once. */
  options: OpenOptions & { connections: number }
  bandwidth: BandwidthShare | undefined
}

export interface HashTask {
  id: number
  request: ReadRequest
}

export interface HashFailure {
  id: number
  failure: RemoteFailure
  message: string
  hint: string | undefined
}

/** What has become of some tasks, in the form that is cheapest to hand over. */
export interface HashAnswers {
  /** Tasks that were done. */
  ids: number[]
  /** Their MD5s, 16 bytes each. */
  hashes: Uint8Array
  failures: HashFailure[]
  /** All that the thread has made. */
  requests: RequestCounts
}

/** A question of a thread's reader (see openReader) and the answer to it. */
export interface AccessQuestion {
  id: number
  query: unknown
}
export interface AccessAnswer {
  id: number
  access?: unknown
  /** The thread knows it again by `code`. */
  failure?: { code: string; message: string }
}

/** Several at a time: a message costs as much as the hash of a small object. */
export type ToWorker =
  | { tasks: HashTask[] }
  | { access: AccessAnswer }
  /** Segments that this thread reads at once from now on. */
  | { share: number }
export type FromWorker =
  | { answers: HashAnswers }
  | { ask: AccessQuestion }
  /** Whether the thread has as much to do as one can. */
  | { saturated: boolean }

export interface HashPoolOptions extends OpenOptions {
  /** Segments read at once, by all threads. */
  connections: number
  threads: number
  /** What they may read in a second, together. */
  bandwidth?: BandwidthShare
  /** Answers the questions of the threads' readers. */
  access(query: unknown): Promise<unknown>
}

interface Pending {
  length: number
  resolve(hash: Buffer): void
  reject(error: Error): void
}

/** The source runs as it is in tests, compiled in the package: the worker has the same ending. */
const WORKER = new URL(`./hash-worker${extname(import.meta.url)}`, import.meta.url)
/** What a request costs, in bytes that could be read instead: for sharing out segments fairly. */
const REQUEST_BYTES = 64 * 1024
export const HASH_BYTES = 16
/** A thread with less ahead of it is done before it could get company. */
const BUSY_BYTES = 32 * REQUEST_BYTES
/** What a thread holds beside its buffers is little; without limits V8 is in no hurry to clear up. */
const HEAP = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 128 }

/** Safe for concurrent use. */
export class HashPool {
  readonly #start: () => Thread
  readonly #most: number
  readonly #admission: Admission
  /**
   * As few as keep up: each costs its start, and streams hash best where there are many on a thread.
   * Most runs of an index find little that is new, and one thread keeps up with most links.
   */
  readonly #threads: Thread[] = []
  readonly #atOnce: number
  #nextId = 0
  #closed = false

  constructor(spec: RemoteSpec, { threads, access, bandwidth, ...options }: HashPoolOptions) {
    this.#most = Math.min(threads, options.connections)
    this.#atOnce = options.connections
    const setup: WorkerSetup = { spec, options, bandwidth }
    this.#admission = new Admission(options.connections)
    this.#start = () => new Thread(setup, access)
  }

  /**
   * Returns undefined where a segment of `length` bytes may be handed over now, and else a promise
   * for when it may. Whoever has many asks first: so what waits in the threads is bounded.
   */
  room(length: number): Promise<void> | undefined {
    return this.#admission.room(length)
  }

  /** Resolves to the 16 bytes of the segment's MD5. Throws RemoteError. */
  async hash(request: ReadRequest): Promise<Buffer> {
    if (this.#closed) throw new KeepgwError('the hashing threads have ended')
    const thread = this.#idlest()
    this.#admission.enter(request.length)
    try {
      return await thread.hash(this.#nextId++, request)
    } finally {
      this.#admission.leave(request.length)
    }
  }

  #idlest(): Thread {
    let idlest: Thread | undefined
    for (const thread of this.#threads) {
      if (idlest === undefined || thread.load < idlest.load) idlest = thread
    }
    if (idlest === undefined) return this.#startThread()
    const wouldHelp = idlest.load >= BUSY_BYTES && this.#threads.every((each) => each.saturated)
    return wouldHelp && this.#threads.length < this.#most ? this.#startThread() : idlest
  }

  #startThread(): Thread {
    const started = this.#start()
    this.#threads.push(started)
    const share = Math.ceil(this.#atOnce / this.#threads.length)
    for (const thread of this.#threads) thread.giveShare(share)
    return started
  }

  /** Returns the requests made for the segments that are done, all threads together. */
  requests(): RequestCounts {
    const sum = { list: 0, get: 0, head: 0 }
    for (const { requests } of this.#threads) {
      sum.list += requests.list
      sum.get += requests.get
      sum.head += requests.head
    }
    return sum
  }

  /** Ends the threads; segments under way fail. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#threads.map((thread) => thread.close()))
  }
}

class Thread {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #access: HashPoolOptions['access']
  /** Handed over together when this turn of the event loop is done. */
  #outbox: HashTask[] = []
  /** Why it takes no segments any more: what is posted to it then is never answered. */
  #ended: Error | undefined
  /** It has said that it cannot do more; a thread that has just started has not. */
  saturated = false
  /** Bytes that it has yet to read, and what the requests for them cost. */
  load = 0
  /** Those made until its last answers. */
  requests: RequestCounts = { list: 0, get: 0, head: 0 }

  constructor(setup: WorkerSetup, access: HashPoolOptions['access']) {
    this.#access = access
    this.#worker = new Worker(WORKER, { workerData: setup, resourceLimits: HEAP })
    this.#worker.on('message', (message: FromWorker) => this.#receive(message))
    this.#worker.on('error', (error) => this.#end(error as Error))
    this.#worker.on('exit', () => this.#end(new KeepgwError('a hashing thread has ended')))
  }

  hash(id: number, request: ReadRequest): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) throw this.#ended
      const { length } = request
      this.load += length + REQUEST_BYTES
      this.#pending.set(id, { length, resolve, reject })
      if (this.#outbox.push({ id, request }) === 1) setImmediate(() => this.#flush())
    })
  }

  /** Segments that it reads at once from now on. */
  giveShare(share: number): void {
    this.#post({ share })
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }

  #flush(): void {
    const tasks = this.#outbox
    this.#outbox = []
    this.#post({ tasks })
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message)
  }

  #receive(message: FromWorker): void {
    if ('ask' in message) void this.#tell(message.ask)
    else if ('saturated' in message) this.saturated = message.saturated
    else this.#settle(message.answers)
  }

  #settle({ ids, hashes, failures, requests }: HashAnswers): void {
    this.requests = requests
    if (hashes.length !== ids.length * HASH_BYTES) throw new Error('an MD5 for each, or none')
    const bytes = Buffer.from(hashes.buffer, hashes.byteOffset, hashes.length)
    for (const [i, id] of ids.entries()) {
      this.#take(id)?.resolve(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES))
    }
    for (const failure of failures) this.#take(failure.id)?.reject(remoteError(failure))
  }

  /** Returns undefined where the thread has ended meanwhile: its answers may come after that. */
  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    if (pending === undefined) return undefined
    this.#pending.delete(id)
    this.load -= pending.length + REQUEST_BYTES
    return pending
  }

  async #tell({ id, query }: AccessQuestion): Promise<void> {
    try {
      this.#post({ access: { id, access: await this.#access(query) } })
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? ''
      this.#post({ access: { id, failure: { code, message: messageOf(error) } } })
    }
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}

function remoteError({ failure, message, hint }: HashFailure): RemoteError {
  return new RemoteError(failure, message, hint === undefined ? {} : { hint })
}
