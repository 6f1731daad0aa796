/** The HTTP server below the service: its connections, what it bounds of them, and what is no HTTP. */
import { createServer, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { createApp } from './app.ts'
import { TimedOut } from './errors.ts'
import type { Service } from './service.ts'
import type { ClientTimeouts } from './timeouts.ts'
import { Touches } from './touch.ts'
import { Turns } from './turns.ts'
import { answerUnparsed, type ParserError } from './unparsed.ts'

/**
 * What HTTPS is spoken with: a certificate, with those that vouch for it behind it, and its key. Both PEM.
 */
export interface TlsFiles {
  cert: Buffer
  key: Buffer
}

/** Bytes of a request's first line and headers; more is 431. Tokens and locators are far from it. */
const MOST_HEAD = 16_384

/** Returns the server, which does not listen yet. With `tls` it speaks HTTPS, and nothing else. */
export function createHttpServer(service: Service, tls: TlsFiles | undefined): Server {
  const handle = createApp(service).callback()
  const { timeouts } = service
  const server = openServer(timeouts, tls)
  const opened = tls === undefined ? 'connection' : 'secureConnection'
  const touches = service.writes === undefined ? undefined : new Touches(server, opened)
  const turns = new Turns((req, res) => {
    Touches.restore(req)
    res.once('close', () => {
      // A connection that is kept alive would hold up the end by its time-out.
      if (!server.listening) setImmediate(() => server.closeIdleConnections())
    })
    handle(req, res)
  })
  const sockets = new Set<Socket>()
  server.on(opened, (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  // Node's own spares connections that have not sent a whole request, and bounds these no more once it ends.
  server.closeIdleConnections = () => {
    const isBusy = (socket: Socket): boolean =>
      turns.isAnswering(socket) || touches?.isRelayed(socket) === true
    for (const socket of sockets) if (!isBusy(socket)) socket.destroy()
  }
  server.on('request', (req, res) => turns.take({ req, res }))
  // Who is told to go on and send a body is told so by the route that wants one.
  server.on('checkContinue', (req, res) => turns.take({ req, res }))
  server.on('timeout', (socket) => {
    if (turns.isAtWork(socket)) return
    const silence = `the client neither sent nor took a byte for ${timeouts.silence / 1000} s`
    socket.destroy(turns.isAnswering(socket) ? new TimedOut(silence) : undefined)
  })
  server.on('clientError', (error: ParserError, socket: Socket) => {
    if (turns.isAnswering(socket)) socket.destroy(lateness(error, timeouts))
    else if (!mayBeAnswered(error, socket)) socket.destroy()
    else if (!touches?.take(error, socket)) answerUnparsed(service, error, socket)
  })
  return server
}

function openServer(timeouts: ClientTimeouts, tls: TlsFiles | undefined): Server {
  const { head, request, silence, idle } = timeouts
  const options = {
    maxHeaderSize: MOST_HEAD,
    headersTimeout: head,
    requestTimeout: request,
    keepAliveTimeout: idle,
    connectionsCheckingInterval: head / 4,
  }
  const server =
    tls === undefined
      ? createServer(options)
      : createTlsServer({ ...options, ...tls, handshakeTimeout: head })
  server.timeout = silence
  return server
}

/** Returns what the log says of a request that is being answered, if it is its body that is late. */
function lateness({ code }: ParserError, { request }: ClientTimeouts): TimedOut | undefined {
  if (code !== 'ERR_HTTP_REQUEST_TIMEOUT') return undefined
  return new TimedOut(`the request did not come whole within ${request / 1000} s`)
}

/** False where nobody is left to read an answer, or there is no TLS to send it through. */
function mayBeAnswered({ code = '' }: ParserError, socket: Socket): boolean {
  const isTls = code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')
  return !isTls && code !== 'ECONNRESET' && socket.writable
}
