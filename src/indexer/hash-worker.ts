/** A thread that reads segments from the remote and hashes them; hash-pool.ts is its other end. */
import { parentPort, workerData } from 'node:worker_threads'
import { BandwidthLimit } from '../bandwidth.ts'
import { KeepgwError, messageOf } from '../errors.ts'
import { openEngine } from '../hash/engine.ts'
import { openReader } from '../remote/open-reader.ts'
import { type ReadRequest, RemoteError, type Sink } from '../remote/remote.ts'
import { readResuming } from '../remote/resume.ts'
import {
  type AccessAnswer,
  type FromWorker,
  HASH_BYTES,
  type HashFailure,
  type HashTask,
  type ToWorker,
  type WorkerSetup,
} from './hash-pool.ts'

/** Results wait this long for others to go with them. */
const REPORT_MS = 3
/** How often the thread looks at how busy it is. */
const WATCH_MS = 200
/** The part of its time in which a thread that cannot do more is at work. */
const SATURATED = 0.9

const { spec, options, bandwidth } = workerData as WorkerSetup
const limit = bandwidth === undefined ? undefined : new BandwidthLimit(bandwidth)
const engine = openEngine(options.connections)
const questions = new Map<number, (answer: AccessAnswer) => void>()
const remote = openReader(spec, options, ask)
let nextQuestion = 0
const queue: HashTask[] = []
let running = 0
/** Segments that are read at once, at most. */
let share = options.connections
let saturated = false
/** MD5s of `done`, one after the other. */
let hashes: Buffer[] = []
let done: number[] = []
let failures: HashFailure[] = []

watch()

parentPort!.on('message', (message: ToWorker) => {
  if ('access' in message) {
    questions.get(message.access.id)?.(message.access)
  } else if ('share' in message) {
    share = message.share
    begin()
  } else {
    queue.push(...message.tasks)
    begin()
  }
})

function begin(): void {
  while (running < share && queue.length > 0) {
    running += 1
    void run(queue.shift()!)
  }
}

async function run({ id, request }: HashTask): Promise<void> {
  try {
    const md5 = await hash(request)
    hashes.push(md5)
    done.push(id)
  } catch (error) {
    failures.push({ id, ...failureOf(error) })
  }
  // A message costs as much as a small object's hash, so it is sent for several.
  if (done.length + failures.length === 1) setTimeout(report, REPORT_MS)
  running -= 1
  begin()
}

/** Tells whenever it changes whether this thread is as busy as one can be. */
function watch(): void {
  let before = busyTime()
  setInterval(() => {
    const now = busyTime()
    const part = (now.busy - before.busy) / (now.at - before.at)
    before = now
    if (part > SATURATED === saturated) return
    saturated = !saturated
    post({ saturated })
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

function report(): void {
  // Memory of its own: of a pooled buffer the whole pool would be handed over.
  const packed = new Uint8Array(hashes.length * HASH_BYTES)
  for (const [i, hash] of hashes.entries()) packed.set(hash, i * HASH_BYTES)
  post({ answers: { ids: done, hashes: packed, failures, requests: remote.requests() } })
  hashes = []
  done = []
  failures = []
}

function post(message: FromWorker): void {
  parentPort!.postMessage(message)
}

async function hash(request: ReadRequest): Promise<Buffer> {
  using hasher = engine.open()
  const sink: Sink = Object.assign((chunk: Uint8Array) => hasher.update(chunk), {
    room: () => hasher.room(),
  })
  await readResuming(remote, request, limit === undefined ? sink : limit.before(sink))
  return await hasher.digest()
}

function failureOf(error: unknown): Omit<HashFailure, 'id'> {
  const { failure, hint } =
    error instanceof RemoteError ? error : { failure: 'unreachable' as const, hint: undefined }
  return { failure, message: messageOf(error), hint }
}

/** Asks the main thread what the reader must know. */
function ask(query: unknown): Promise<unknown> {
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
