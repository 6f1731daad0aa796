/** A thread that hashes segments; hash-thread.ts is its other end. */
import { parentPort, workerData } from 'node:worker_threads'
import { KeepgwError } from '../errors.ts'
import type { RemoteError } from '../remote/remote.ts'
import {
  type AccessAnswer,
  type FromWorker,
  HASH_BYTES,
  type HashFailure,
  type HashTask,
  type ToWorker,
} from './hash-messages.ts'
import { SegmentHasher, type SegmentHasherSetup } from './segment-hasher.ts'

/** Results wait this long for others to go with them. */
const REPORT_MS = 3

const questions = new Map<number, (answer: AccessAnswer) => void>()
let nextQuestion = 0
/** MD5s of `done`, one after the other. */
let hashes: Buffer[] = []
let done: number[] = []
let failures: HashFailure[] = []

const hasher = new SegmentHasher(workerData as SegmentHasherSetup, {
  access,
  onSaturated: (saturated) => post({ saturated }),
})

parentPort!.on('message', (message: ToWorker) => {
  if ('access' in message) questions.get(message.access.id)?.(message.access)
  else if ('share' in message) hasher.giveShare(message.share)
  else for (const task of message.tasks) void run(task)
})

async function run({ id, request }: HashTask): Promise<void> {
  try {
    const md5 = await hasher.hash(request)
    hashes.push(md5)
    done.push(id)
  } catch (error) {
    const { failure, message, hint, archived } = error as RemoteError
    failures.push({ id, failure, message, hint, archived })
  }
  // A message costs as much as a small object's hash, so it is sent for several.
  if (done.length + failures.length === 1) setTimeout(report, REPORT_MS)
}

function report(): void {
  // Memory of its own: of a pooled buffer the whole pool would be handed over.
  const packed = new Uint8Array(hashes.length * HASH_BYTES)
  for (const [i, hash] of hashes.entries()) packed.set(hash, i * HASH_BYTES)
  post({ answers: { ids: done, hashes: packed, failures, requests: hasher.requests() } })
  hashes = []
  done = []
  failures = []
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message)
}

/** Asks the main thread what the reader must know. */
function access(query: unknown): Promise<unknown> {
  const id = nextQuestion++
  return new Promise((resolve, reject) => {
    questions.set(id, ({ access, failure }) => {
      questions.delete(id)
      if (failure === undefined) resolve(access)
      else reject(Object.assign(new KeepgwError(failure.message), { code: failure.code }))
    })
    post({ ask: { id, query } })
  })
}
