/** A thread that hashes segments, as the main thread sees it; hash-worker.ts is its other end. */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { KeepgwError, messageOf } from '../errors.ts'
import { RemoteError, type RequestCounts } from '../remote/remote.ts'
import {
  type AccessQuestion,
  type FromWorker,
  HASH_BYTES,
  type HashAnswers,
  type HashFailure,
  type HashTask,
  type ToWorker,
} from './hash-messages.ts'
import type { SegmentHasherContext, SegmentHasherSetup, WantedHash } from './segment-hasher.ts'

/** The source runs as it is in tests, compiled in the package: the worker has the same ending. */
const WORKER = new URL(`./hash-worker${extname(import.meta.url)}`, import.meta.url)
/** What a thread holds beside its buffers is little; without limits V8 is in no hurry to clear up. */
const HEAP = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 128 }

/** Safe for concurrent use. */
export class HashThread {
  readonly #worker: Worker
  readonly #pending = new Map<number, WantedHash>()
  readonly #context: SegmentHasherContext
  /** Handed over together when this turn of the event loop is done. */
  #outbox: HashTask[] = []
  #nextId = 0
  /** Why it takes no segments any more: what is posted to it then is never answered. */
  #ended: Error | undefined
  /** Those made until its last answers. */
  #requests: RequestCounts = { list: 0, get: 0, head: 0 }

  constructor(setup: SegmentHasherSetup, context: SegmentHasherContext) {
    this.#context = context
    this.#worker = new Worker(WORKER, { workerData: setup, resourceLimits: HEAP })
    this.#worker.on('message', (message: FromWorker) => this.#receive(message))
    this.#worker.on('error', (error) => this.#end(error as Error))
    this.#worker.on('exit', () => this.#end(new KeepgwError('a hashing thread has ended')))
  }

  /** Hashes a segment; fails with RemoteError, or with why the thread has ended. */
  take(wanted: WantedHash): void {
    if (this.#ended !== undefined) {
      wanted.reject(this.#ended)
      return
    }
    const id = this.#nextId++
    this.#pending.set(id, wanted)
    const { request } = wanted
    if (this.#outbox.push({ id, request }) === 1) setImmediate(() => this.#flush())
  }

  /** Segments that it reads at once from now on. */
  giveShare(share: number): void {
    this.#post({ share })
  }

  /** Returns the requests made for the segments that are done. */
  requests(): Readonly<RequestCounts> {
    return this.#requests
  }

  /** Ends it; segments under way fail. */
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
    else if ('saturated' in message) this.#context.onSaturated(message.saturated)
    else this.#settle(message.answers)
  }

  #settle({ ids, hashes, failures, requests }: HashAnswers): void {
    this.#requests = requests
    if (hashes.length !== ids.length * HASH_BYTES) throw new Error('an MD5 for each, or none')
    const bytes = Buffer.from(hashes.buffer, hashes.byteOffset, hashes.length)
    for (const [i, id] of ids.entries()) {
      this.#done(id)?.resolve(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES))
    }
    for (const failure of failures) this.#done(failure.id)?.reject(remoteError(failure))
  }

  /** Returns undefined where the thread has ended meanwhile: its answers may come after that. */
  #done(id: number): WantedHash | undefined {
    const wanted = this.#pending.get(id)
    this.#pending.delete(id)
    return wanted
  }

  async #tell({ id, query }: AccessQuestion): Promise<void> {
    try {
      this.#post({ access: { id, access: await this.#context.access(query) } })
    } catch (error) {
      const { code, name } = error as NodeJS.ErrnoException
      const failure = { code: code || name, message: messageOf(error) }
      this.#post({ access: { id, failure } })
    }
  }

  #end(error: Error): void {
    this.#ended ??= error
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}

function remoteError({ failure, message, hint, archived }: HashFailure): RemoteError {
  return new RemoteError(failure, message, hint === undefined ? { archived } : { archived, hint })
}
