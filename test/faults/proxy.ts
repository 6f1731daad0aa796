/**
 * A proxy between keepgw and a real S3 server that breaks things on demand. It hands requests on
 * byte for byte (path, header names and their order, Host), so that signatures stay valid.
 */
import { once } from 'node:events'
import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Answer, Fault } from './fault.ts'
import { relay } from './relay.ts'

export interface SeenRequest {
  method: string
  /** The request line's path with its query, as it was received. */
  path: string
  headers: IncomingHttpHeaders
  /** The client's port: two requests that have the same came over one connection. */
  port: number
  /** What the client was answered; undefined before that, and where it got no status line. */
  readonly status: number | undefined
}

export interface Rule {
  /** How many requests it has met. */
  readonly hits: number
  /** Lets stalled answers go on, those to come as well. */
  release(): void
}

export interface FaultProxy {
  /** `http://127.0.0.1:PORT`, or https: the store's endpoint for clients. */
  readonly endpoint: string
  /** All requests since the start, in order of arrival. */
  readonly requests: SeenRequest[]
  /**
   * From now on, requests that match meet the fault, the first `times` of them only. Of several
   * rules that match, every `before` runs and then the oldest other one applies.
   */
  on(match: (request: SeenRequest) => boolean, fault: Fault, options?: { times?: number }): Rule
  /** Forgets all rules and lets stalled answers go on. */
  clear(): void
  /** Refuses connections from now on, and resets the open ones. */
  down(): Promise<void>
  /** Listens again, on the same port. */
  up(): Promise<void>
  /** Whether it takes connections. */
  readonly isUp: boolean
  /** Shows new connections another certificate. Only with HTTPS. */
  renew(tls: { cert: Buffer; key: Buffer }): void
  stop(): Promise<void>
}

interface ActiveRule extends Rule {
  hits: number
  match: (request: SeenRequest) => boolean
  fault: Fault
  times: number
  released: Promise<void>
}

/**
 * Starts a proxy to the server at `target.endpoint` (plain HTTP) on a free port of 127.0.0.1. With a
 * certificate it speaks HTTPS to its clients.
 */
export async function startFaultProxy(
  target: { endpoint: string },
  tls?: { cert: Buffer; key: Buffer },
): Promise<FaultProxy> {
  const requests: SeenRequest[] = []
  let rules: ActiveRule[] = []
  const onRequest = async (req: IncomingMessage, res: ServerResponse) => {
    const seen: SeenRequest = {
      method: req.method ?? '',
      path: req.url ?? '',
      headers: req.headers,
      port: req.socket.remotePort ?? 0,
      get status() {
        return res.headersSent ? res.statusCode : undefined
      },
    }
    requests.push(seen)
    await handle(new URL(target.endpoint), req, res, seen, rules)
  }
  const server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest)
  // A connection closed for idleness would look like a fault that no test asked for.
  server.keepAliveTimeout = 0
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)
  const clear = () => {
    for (const rule of rules) rule.release()
    rules = []
  }
  const down = async () => {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return {
    endpoint: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    requests,
    clear,
    down,
    on(match, fault, { times = Number.POSITIVE_INFINITY } = {}) {
      const { promise: released, resolve: release } = Promise.withResolvers<void>()
      const rule = { hits: 0, match, fault, times, released, release }
      rules.push(rule)
      return rule
    },
    async up() {
      await listen(port)
    },
    get isUp() {
      return server.listening
    },
    renew(certificate) {
      ;(server as TlsServer).setSecureContext(certificate)
    },
    async stop() {
      clear()
      if (server.listening) await down()
    },
  }
}

async function handle(
  target: URL,
  req: IncomingMessage,
  res: ServerResponse,
  seen: SeenRequest,
  rules: ActiveRule[],
): Promise<void> {
  let rule: ActiveRule | undefined
  for (const each of rules) {
    const isHook = each.fault.kind === 'before'
    if ((rule && !isHook) || each.hits >= each.times || !each.match(seen)) continue
    each.hits += 1
    if (each.fault.kind === 'before') await each.fault.run()
    else rule = each
  }
  // A hook may have outlived the client; nobody would end a request to the store then.
  if (res.destroyed) return
  if (rule?.fault.kind === 'answer') return answerInstead(req, res, rule.fault)
  const answer = await forward(target, req, res)
  // A store that hangs up is passed on as that: a 502 would be an answer of ours.
  if (!answer) return void res.destroy()
  try {
    await relay(answer, res, rule?.fault, rule?.released)
  } catch {
    // The store went away in the middle of its answer, and so do we.
    res.destroy()
  }
}

function answerInstead(req: IncomingMessage, res: ServerResponse, fault: Answer) {
  req.resume()
  const body = fault.body ?? ''
  res.writeHead(fault.status, { 'Content-Length': Buffer.byteLength(body), ...fault.headers })
  res.end(body)
}

/** Returns the store's answer, or undefined where there is none. */
function forward(target: URL, req: IncomingMessage, res: ServerResponse) {
  return new Promise<IncomingMessage | undefined>((resolve) => {
    const request = httpRequest({
      host: target.hostname,
      port: target.port,
      method: req.method,
      path: req.url,
      headers: req.rawHeaders,
      // A connection each: one kept from before a restart of the store would fail on its own.
      agent: false,
    })
    request.on('response', resolve)
    request.on('error', () => resolve(undefined))
    res.on('close', () => request.destroy())
    req.pipe(request)
  })
}
