/** Threads that read and hash segments: one a core, each with connections of its own. */
import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { KeepgwError } from '../errors.ts'
import type { OpenOptions } from '../remote/open.ts'
import {
  type ReadRequest,
  RemoteError,
  type RemoteFailure,
  type RemoteSpec,
} from '../remote/remote.ts'

/** What a thread is started with. */
export interface WorkerSetup {
  spec: RemoteSpec
  options: OpenOptions
}

export interface HashTask {
  id: number
  request: ReadRequest
}

export interface HashAnswer {
  id: number
  /** The 16 bytes of the MD5. */
  hash?: Uint8Array
  failure?: { failure: RemoteFailure; message: string; hint: string | undefined }
}

interface Pending {
  resolve(hash: Buffer): void
  reject(error: Error): void
}

interface Thread {
  worker: Worker
  /** Why it takes no segments any more: what is posted to it then is never answered. */
  ended?: Error
  pending: Map<number, Pending>
}

/** The source runs as it is in tests, compiled in the package: the worker has the same ending. */
const WORKER = new URL(`./hash-worker${extname(import.meta.url)}`, import.meta.url)

/** Safe for concurrent use: as many segments at once as the caller asks for. */
export class HashPool {
  readonly #threads: Thread[]
  #nextId = 0

  /** Starts the threads; `connections` are shared out among them. */
  constructor(spec: RemoteSpec, options: OpenOptions & { connections: number }) {
    const count = Math.min(availableParallelism(), options.connections)
    const connections = Math.ceil(options.connections / count)
    const setup: WorkerSetup = { spec, options: { ...options, connections } }
    this.#threads = Array.from({ length: count }, () => startThread(setup))
  }

  /** Resolves to the 16 bytes of the segment's MD5. Throws RemoteError. */
  hash(request: ReadRequest): Promise<Buffer> {
    const id = this.#nextId++
    const thread = this.#threads.reduce((a, b) => (b.pending.size < a.pending.size ? b : a))
    return new Promise((resolve, reject) => {
      if (thread.ended !== undefined) throw thread.ended
      thread.pending.set(id, { resolve, reject })
      thread.worker.postMessage({ id, request } satisfies HashTask)
    })
  }

  /** Ends the threads; segments under way fail. */
  async close(): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }
}

function startThread(setup: WorkerSetup): Thread {
  const worker = new Worker(WORKER, { workerData: setup })
  const pending = new Map<number, Pending>()
  const thread: Thread = { worker, pending }
  const failAll = (error: Error): void => {
    thread.ended ??= error
    for (const { reject } of pending.values()) reject(error)
    pending.clear()
  }
  worker.on('message', ({ id, hash, failure }: HashAnswer) => {
    const waiting = pending.get(id)
    pending.delete(id)
    if (failure === undefined) waiting?.resolve(Buffer.from(hash!))
    else waiting?.reject(answerError(failure))
  })
  worker.on('error', failAll)
  worker.on('exit', () => failAll(new KeepgwError('a hashing thread has ended')))
  return thread
}

function answerError({ failure, message, hint }: NonNullable<HashAnswer['failure']>): RemoteError {
  return new RemoteError(failure, message, hint === undefined ? {} : { hint })
}
