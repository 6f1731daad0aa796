/** How the SDK's requests go over the wire, and how long they may take. */
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { messageOf, UsageError } from '../../errors.ts'
import { NodeHttpHandler } from './sdk.ts'

/** Milliseconds. */
export interface Timeouts {
  connect: number
  /** From the request to the answer's first header. A throttled store may take its time. */
  headers: number
  /** Between two pieces of an answer's body: a dropped connection may never say so. */
  idle: number
}

const TIMEOUTS: Timeouts = { connect: 10_000, headers: 60_000, idle: 60_000 }

export interface HandlerLimits {
  /** Connections at once, at most. What waits for one is on the clock already. */
  connections: number
  timeouts?: Partial<Timeouts>
}

/** Returns a handler for one client. Throws UsageError where AWS_CA_BUNDLE cannot be read. */
export function requestHandler(limits: HandlerLimits): NodeHttpHandler {
  const timeouts = { ...TIMEOUTS, ...limits.timeouts }
  const options = { keepAlive: true, maxSockets: limits.connections }
  const bundle = process.env.AWS_CA_BUNDLE
  const ca = bundle ? { ca: readBundle(bundle) } : {}
  const handler = new NodeHttpHandler({
    connectionTimeout: timeouts.connect,
    requestTimeout: timeouts.headers,
    throwOnRequestTimeout: true,
    httpAgent: new HttpAgent(options),
    httpsAgent: new HttpsAgent({ ...options, ...ca }),
  })
  const handle = handler.handle.bind(handler)
  // The handler's own time-outs end at the headers, or count a reader's pauses as the store's.
  handler.handle = async (...request) => {
    const answer = await handle(...request)
    limitIdle(answer.response.body as IncomingMessage, timeouts.idle)
    return answer
  }
  return handler
}

/** Destroys a body that is being read and of which nothing comes for `limit` ms (and up to twice). */
function limitIdle(body: IncomingMessage, limit: number): void {
  const { socket } = body
  let seen = socket.bytesRead
  const check = () => {
    if (!body.isPaused() && socket.bytesRead === seen) {
      const reason = new Error(`no byte for ${limit / 1000} s`)
      body.destroy(Object.assign(reason, { code: 'ETIMEDOUT' }))
    }
    seen = socket.bytesRead
  }
  // Not before the event loop has taken in what lay ready while this process was busy.
  const timer = setInterval(() => setImmediate(check), limit)
  timer.unref()
  // Nothing could come while the reader had paused.
  body.on('resume', () => {
    seen = -1
  })
  body.once('close', () => clearInterval(timer))
}

function readBundle(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new UsageError(`cannot read AWS_CA_BUNDLE: ${messageOf(error)}`, { cause: error })
  }
}
