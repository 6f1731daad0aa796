/**
 * Lists the directories of a mapping tree, in threads: a file for each block must be opened, which keeps
 * a thread busy for seconds in a tree of a million, and would hold up the blocks that are served.
 */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { MappedBlock } from './mapping.ts'

/** Blocks in the order of their hashes, in the form that is cheapest to hand over. */
export interface ListedShard {
  /** 32 hex digits each, one after the other. */
  hashes: string
  /** Bytes. */
  lengths: Uint32Array
  /** Nanoseconds since 1970. */
  mtimes: BigInt64Array
}

/** Names a directory; only hashes that start with the prefix are listed. */
export interface ToLister {
  shard: string
  prefix: string
}
/** What a thread answers to each ToLister, in their order. `failure` is the message of the error. */
export type FromLister = { listed: ListedShard } | { failure: string }

/** So many files are looked at together: a disk, or a server of files, can do several at a time. */
const THREADS = 4
/** Directories that a thread has ahead of it. */
const AHEAD = 2
/** The source runs as it is in tests, compiled in the package: the worker has the same ending. */
const WORKER = new URL(`./list-worker${extname(import.meta.url)}`, import.meta.url)
/** A thread holds a directory's names at a time; without limits V8 is in no hurry to clear up. */
const HEAP = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 256 }
const HASH_LENGTH = 32

/**
 * Yields the blocks in these directories of the tree at `mappings` whose hashes start with the prefix,
 * in the order of the directories and then of the hashes. Throws where one of them cannot be listed.
 */
export async function* listShards(
  mappings: string,
  shards: readonly string[],
  prefix: string,
): AsyncIterable<MappedBlock> {
  const count = Math.min(THREADS, shards.length)
  const threads: ListerThread[] = []
  const ahead: Promise<ListedShard>[] = []
  const ask = (at: number) => {
    if (at < shards.length) ahead.push(threads[at % count]!.list({ shard: shards[at]!, prefix }))
  }
  try {
    // Where the system has no more threads, those that were begun are ended.
    while (threads.length < count) threads.push(new ListerThread(mappings))
    for (let at = 0; at < AHEAD * count; at++) ask(at)
    for (let at = 0; at < shards.length; at++) {
      // Each step of a yield* would be a promise more.
      for (const block of blocksOf(await ahead.shift()!)) yield block
      ask(at + AHEAD * count)
    }
  } finally {
    for (const thread of threads) thread.end()
  }
}

function* blocksOf({ hashes, lengths, mtimes }: ListedShard): Iterable<MappedBlock> {
  for (const [i, length] of lengths.entries()) {
    const hash = hashes.slice(HASH_LENGTH * i, HASH_LENGTH * (i + 1))
    yield { hash, length, mtimeNs: mtimes[i]! }
  }
}

/** Answers in the order of its questions. */
class ListerThread {
  readonly #worker: Worker
  readonly #waiting: PromiseWithResolvers<ListedShard>[] = []
  /** Why it answers nothing any more. */
  #ended: Error | undefined

  constructor(mappings: string) {
    this.#worker = new Worker(WORKER, { workerData: mappings, resourceLimits: HEAP })
    this.#worker.on('message', (answer: FromLister) => {
      const asked = this.#waiting.shift()
      if ('listed' in answer) asked?.resolve(answer.listed)
      else asked?.reject(new Error(answer.failure))
    })
    const fail = (error: Error) => {
      this.#ended ??= error
      for (const asked of this.#waiting.splice(0)) asked.reject(error)
    }
    this.#worker.on('error', fail)
    this.#worker.on('exit', () => fail(new Error('the thread has ended')))
  }

  list(question: ToLister): Promise<ListedShard> {
    const asked = Promise.withResolvers<ListedShard>()
    // Its turn may never come, where one before it fails.
    asked.promise.catch(() => {})
    if (this.#ended === undefined) {
      this.#waiting.push(asked)
      this.#worker.postMessage(question)
    } else asked.reject(this.#ended)
    return asked.promise
  }

  end(): void {
    void this.#worker.terminate()
  }
}
