/**
 * Taking an object's hash from its listing: the ETag of an object that was put in one part is its
 * MD5 in S3, but not under SSE-KMS and SSE-C, nor in every store. So the rule is proven on a sample
 * before anything is trusted, and sampling goes on: the objects that were read are at any moment a
 * uniform random sample of all that came by, and besides a fixed share of them.
 */
import { MAX_BLOCK } from '../mapping/place-line.ts'
import type { RemoteObject } from '../remote/remote.ts'
import type { ReadObject } from './object-reader.ts'
import type { Task } from './walk.ts'

/** Objects whose hash must have been their ETag before any is trusted. */
const PROOFS = 16
/** Objects that are held until then: about two pages of a listing. */
const HELD = 2000
const MD5 = /^[0-9a-f]{32}$/i

/** How objects are drawn, and what is done to them. */
export interface EtagTrustOptions {
  /** The share of the objects that are read all the same, 0 to 1. */
  sample: number
  /** Returns a random number from 0 up to 1. */
  random: () => number
  /**
   * Resolves once the reading of an object is under way, with what comes of it: undefined where the
   * object could not be read, which was reported then.
   */
  read(task: Task): Promise<{ settled: Promise<ReadObject | undefined> }>
  /** Records an object with its ETag for a hash. Returns what is to be waited for, if anything. */
  trust(task: Task): Promise<void> | undefined
}

/** True where the object's ETag looks like the MD5 of all its bytes, and these are one block. */
export function hasMd5Etag({ size, etag }: RemoteObject): boolean {
  return size > 0 && size <= MAX_BLOCK && MD5.test(etag)
}

/** True where the ETag of an object looked like its MD5, and reading has shown that it is not. */
export function hasFalseEtag({ object, hashes }: ReadObject): boolean {
  return hasMd5Etag(object) && object.etag.toLowerCase() !== hashes.toString('hex')
}

/** Decides for each object of a run whether it is read or trusted. Calls must not overlap. */
export class EtagTrust {
  readonly #options: EtagTrustOptions
  #state: 'proving' | 'trusting' | 'stopped' = 'proving'
  #proofs = 0
  /** Objects so far that could be trusted. */
  #met = 0
  #held: Task[] = []

  constructor(options: EtagTrustOptions) {
    this.#options = options
  }

  /**
   * Takes the next object, to be read, trusted, or held until finish() at the latest. Returns what is to
   * be waited for before the next one, if anything: a promise for each object would cost too much.
   */
  add(task: Task): Promise<unknown> | undefined {
    if (this.#state === 'stopped' || !isTrustable(task)) return this.#options.read(task)
    this.#met += 1
    if (this.#state === 'trusting') return this.#sample(task, PROOFS / this.#met)
    this.#held.push(task)
    return this.#held.length === HELD ? this.#prove() : undefined
  }

  /**
   * Decides on the objects that are still held: there are no more. Throws what `read` and `trust` throw.
   */
  async finish(): Promise<void> {
    await this.#prove()
  }

  /** Trusts nothing from now on: some ETag has proved false. May be called at any time. */
  stop(): void {
    this.#state = 'stopped'
  }

  /** Reads of the held objects until there are proofs enough, or none are left. */
  async #prove(): Promise<void> {
    const held = this.#held
    this.#held = []
    while (this.#state === 'proving' && this.#proofs < PROOFS && held.length > 0) {
      // What could not be read proves nothing, and another one takes its place.
      this.#proofs += await this.#countProofs(this.#draw(held, PROOFS - this.#proofs))
    }
    if (this.#state === 'proving' && this.#proofs >= PROOFS) this.#state = 'trusting'
    for (const task of held) await this.#sample(task, 0)
  }

  /** Reads the object with this probability, or that of the sample if it is higher; else trusts it. */
  #sample(task: Task, share: number): Promise<unknown> | undefined {
    const { sample, random, read, trust } = this.#options
    const trusts = this.#state === 'trusting' && random() >= Math.max(sample, share)
    return trusts ? trust(task) : read(task)
  }

  async #countProofs(tasks: Task[]): Promise<number> {
    const settled: Promise<ReadObject | undefined>[] = []
    for (const task of tasks) settled.push((await this.#options.read(task)).settled)
    let count = 0
    for (const read of await Promise.all(settled)) {
      if (read === undefined || !hasMd5Etag(read.object)) continue
      if (hasFalseEtag(read)) this.stop()
      else count += 1
    }
    return count
  }

  /** Takes so many tasks at random out of the list, whose order is kept. */
  #draw(tasks: Task[], count: number): Task[] {
    const drawn: Task[] = []
    while (drawn.length < count && tasks.length > 0) {
      const at = Math.floor(this.#options.random() * tasks.length)
      drawn.push(...tasks.splice(at, 1))
    }
    return drawn
  }
}

/** A record with the same ETag has a hole: a repair has found these bytes to be wrong. */
function isTrustable({ object, before }: Task): boolean {
  return hasMd5Etag(object) && before?.etag !== object.etag
}
