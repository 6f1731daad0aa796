/** Shares out segments among threads, each of which reads and hashes with connections of its own. */

import { KeepgwError } from '../errors.ts'
import type { OpenOptions } from '../remote/open.ts'
import {
  addRequests,
  type ReadRequest,
  type RemoteSpec,
  type RequestCounts,
} from '../remote/remote.ts'
import { Admission } from './admission.ts'
import type { BandwidthShare } from './bandwidth.ts'
import { HashThread } from './hash-thread.ts'
import { SegmentHasher, type SegmentHasherContext, type WantedHash } from './segment-hasher.ts'

/** How much is read at once, by how many threads, and how fast. */
export interface HashPoolOptions extends OpenOptions {
  /** Segments read at once, by all threads. */
  connections: number
  /** Threads beside the main one, at most; at least 1. */
  threads: number
  /** What they may read in a second, together. */
  bandwidth?: BandwidthShare
  /** Answers the questions of the threads' readers. */
  access(query: unknown): Promise<unknown>
}

/** What a request costs, in bytes that could be read instead: for sharing out segments fairly. */
const REQUEST_BYTES = 64 * 1024
/** A thread with less ahead of it is done before it could get company. */
const BUSY_BYTES = 32 * REQUEST_BYTES

/** A thread and what it has to do. */
class Member<Hasher extends SegmentHasher | HashThread> {
  readonly hasher: Hasher
  /** It has said that it cannot do more; one that has just started has not. */
  saturated = false
  /** Bytes that it has yet to read, and what the requests for them cost. */
  load = 0
  readonly #settled: () => void

  constructor(
    make: (onSaturated: SegmentHasherContext['onSaturated']) => Hasher,
    settled: () => void = () => {},
  ) {
    this.#settled = settled
    this.hasher = make((saturated) => {
      this.saturated = saturated
    })
  }

  take({ request, resolve, reject }: WantedHash): void {
    const cost = request.length + REQUEST_BYTES
    const settled = (): void => {
      this.load -= cost
      this.#settled()
    }
    this.load += cost
    this.hasher.take({
      request,
      resolve: (md5) => {
        settled()
        resolve(md5)
      },
      reject: (error) => {
        settled()
        reject(error)
      },
    })
  }
}

/**
 * The main thread hashes what there is until it is busy all the time, and from then on leaves it to
 * threads, of which there are as few as keep up: each costs its start, and streams hash best where there
 * are many on a thread. Most runs of an index find little that is new. Safe for concurrent use.
 */
export class HashPool {
  readonly #makeMain: () => Member<SegmentHasher>
  readonly #startThread: () => Member<HashThread>
  readonly #most: number
  readonly #admission: Admission
  /** Made when it is first needed: most runs have nothing to hash. */
  #main: Member<SegmentHasher> | undefined
  readonly #threads: Member<HashThread>[] = []
  readonly #atOnce: number
  /** Segments of the main thread that the threads' shares leave room for. */
  #reserved = 0
  #closed = false

  constructor(spec: RemoteSpec, { threads, access, bandwidth, ...options }: HashPoolOptions) {
    this.#most = Math.min(threads, options.connections)
    this.#atOnce = options.connections
    this.#admission = new Admission(options.connections)
    const setup = { spec, options, bandwidth }
    this.#makeMain = () =>
      new Member(
        (onSaturated) => new SegmentHasher(setup, { access, onSaturated }),
        () => this.#passOn(),
      )
    this.#startThread = () =>
      new Member((onSaturated) => new HashThread(setup, { access, onSaturated }))
  }

  /**
   * Returns undefined where a segment of `length` bytes may be handed over now, and else a promise
   * for when it may. Whoever has many asks first: so what waits in the threads is bounded.
   */
  room(length: number): Promise<void> | undefined {
    return this.#admission.room(length)
  }

  /**
   * Resolves to the 16 bytes of the segment's MD5. Throws RemoteError; UsageError for settings that cannot
   * be right, and KeepgwError once the pool is closed, or where keepgw was not built.
   */
  async hash(request: ReadRequest): Promise<Buffer> {
    if (this.#closed) throw new KeepgwError('the hashing has ended')
    this.#admission.enter(request.length)
    try {
      return await new Promise((resolve, reject) => this.#give({ request, resolve, reject }))
    } finally {
      this.#admission.leave(request.length)
    }
  }

  #give(wanted: WantedHash): void {
    const idlest = this.#idlest()
    const allBusy = idlest.saturated && this.#threads.every(({ saturated }) => saturated)
    const wouldHelp = allBusy && idlest.load >= BUSY_BYTES && this.#threads.length < this.#most
    const member = wouldHelp ? this.#addThread() : idlest
    member.take(wanted)
  }

  /** The main thread has other things to do once there are threads. */
  #idlest(): Member<SegmentHasher | HashThread> {
    let idlest = this.#threads[0]
    if (idlest === undefined) {
      this.#main ??= this.#makeMain()
      return this.#main
    }
    for (const thread of this.#threads) if (thread.load < idlest.load) idlest = thread
    return idlest
  }

  #addThread(): Member<HashThread> {
    const started = this.#startThread()
    this.#threads.push(started)
    this.#share()
    for (const wanted of this.#main?.hasher.giveUpQueue() ?? []) started.take(wanted)
    return started
  }

  /** The main thread ends what it has begun, and its connections' part goes to the threads. */
  #passOn(): void {
    if (this.#threads.length > 0 && this.#running < this.#reserved) this.#share()
  }

  #share(): void {
    this.#reserved = this.#running
    const share = Math.ceil((this.#atOnce - this.#reserved) / this.#threads.length)
    for (const { hasher } of this.#threads) hasher.giveShare(share)
  }

  /** Segments that the main thread is reading. */
  get #running(): number {
    return this.#main?.hasher.running ?? 0
  }

  get #hashers(): (SegmentHasher | HashThread)[] {
    const members = this.#main === undefined ? this.#threads : [this.#main, ...this.#threads]
    return members.map(({ hasher }) => hasher)
  }

  /** Returns the requests made for the segments that are done, all threads together. */
  requests(): RequestCounts {
    const none: RequestCounts = { list: 0, get: 0, head: 0 }
    return this.#hashers.map((hasher) => hasher.requests()).reduce(addRequests, none)
  }

  /** Ends the threads; segments under way fail. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#hashers.map((hasher) => hasher.close()))
  }
}
