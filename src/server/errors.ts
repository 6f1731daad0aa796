/** Which error becomes which answer: all of them, in one place. */
import { STATUS_CODES } from 'node:http'
import { BadLocator } from '../keep/locator.ts'
import { RemoteError } from '../remote/remote.ts'
import { BlockError, type BlockFailure } from '../volume/source-walk.ts'
import { ReaderRefused, VolumeFull } from '../volume/volume.ts'

/** What errors are counted by. `cut` is an answer that had begun and was broken off. */
export type ErrorKind = 'refused' | 'not-found' | 'corrupt' | 'unreachable' | 'internal' | 'cut'

/** An answer other than 200: one line of text. */
export interface ErrorAnswer {
  status: number
  text: string
  kind: ErrorKind
  headers?: Record<string, string>
}

/** A request that is refused for what it is. */
export class Refused extends Error {
  override readonly name = 'Refused'
  readonly status: number
  /** Headers of the answer. */
  readonly headers: Record<string, string>

  constructor(status: number, text: string, headers: Record<string, string> = {}) {
    super(text)
    this.status = status
    this.headers = headers
  }
}

/** Seconds after which a client that was refused for want of room may try again. */
const RETRY_AFTER = '1'

/** Returns the refusal of what is too much at once: Keep clients retry it, here or elsewhere. */
export function tooBusy(text: string): Refused {
  return new Refused(503, text, { 'Retry-After': RETRY_AFTER })
}

/** The client closed its connection: there is nobody to answer. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'

  constructor() {
    super('the client went away')
  }
}

/** The connection was closed, since the client or its answer took too long. */
export class TimedOut extends Error {
  override readonly name = 'TimedOut'
}

const BLOCK_ANSWERS: Record<BlockFailure, ErrorAnswer> = {
  'not-found': { status: 404, text: 'Not Found', kind: 'not-found' },
  corrupt: { status: 502, text: 'checksum mismatch in stored data', kind: 'corrupt' },
  unreachable: { status: 503, text: 'storage cannot be reached', kind: 'unreachable' },
}

const INTERNAL: ErrorAnswer = { status: 500, text: 'Internal Server Error', kind: 'internal' }

/** Returns the answer to anything that was thrown. Its text shows nothing of the storage behind. */
export function answerOf(thrown: unknown): ErrorAnswer {
  if (thrown instanceof BadLocator) return refusal(400, thrown.message)
  if (thrown instanceof Refused) {
    return { ...refusal(thrown.status, thrown.message), headers: thrown.headers }
  }
  // Not 503: clients go on to another service at once.
  if (thrown instanceof VolumeFull) return refusal(507, 'insufficient storage')
  if (thrown instanceof BlockError) return BLOCK_ANSWERS[thrown.failure]
  if (thrown instanceof ReaderRefused) {
    return refusal(thrown.status, STATUS_CODES[thrown.status] ?? 'Forbidden')
  }
  if (thrown instanceof RemoteError) return BLOCK_ANSWERS.unreachable
  return INTERNAL
}

function refusal(status: number, text: string): ErrorAnswer {
  return { status, text, kind: 'refused' }
}
