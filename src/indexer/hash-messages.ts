/** What the main thread and a hashing thread say to each other. */
import type { ReadRequest, RemoteFailure, RequestCounts } from '../remote/remote.ts'

/** Bytes of an MD5. */
export const HASH_BYTES = 16

/** A segment to be hashed. Its answer has the same `id`. */
export interface HashTask {
  id: number
  request: ReadRequest
}

/** A RemoteError in its parts: as an error it would arrive without them. */
export interface HashFailure {
  id: number
  failure: RemoteFailure
  message: string
  hint: string | undefined
  archived: boolean
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
/** One of `access` and `failure`, for the question of this `id`. */
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
/** From a hashing thread to the main one. */
export type FromWorker =
  | { answers: HashAnswers }
  | { ask: AccessQuestion }
  /** Whether the thread has as much to do as one can. */
  | { saturated: boolean }
