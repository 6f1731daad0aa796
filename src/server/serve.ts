/** Starts and stops the server. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Logger } from 'pino'
import { FailureMemory } from '../volume/failure-memory.ts'
import type { Volume } from '../volume/volume.ts'
import { createApp } from './app.ts'
import { Counters } from './counters.ts'
import { formatListen, type ListenAddress, listenError } from './listen.ts'
import type { ServerTokens, Service } from './service.ts'
import { answerUnparsed, type ParserError } from './unparsed.ts'

export interface ServeOptions {
  volumes: readonly Volume[]
  listen: ListenAddress
  log: Logger
  tokens?: ServerTokens
  /** Milliseconds a place may be silent before the next one is tried; 30,000 unless told. */
  idleLimit?: number
}

export interface RunningServer {
  /** `HOST:PORT`, with the port that was found where 0 was asked for. */
  readonly address: string
  /** Stops listening, closes idle connections, and returns when the last answer is out. */
  close(): Promise<void>
}

/** Returns the server once it listens. The volumes stay the caller's. Throws KeepgwError. */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  const { volumes, log, tokens = {}, idleLimit = 30_000 } = options
  const failures = new FailureMemory()
  const service = { volumes, log, tokens, idleLimit, failures, counters: new Counters() }
  const server = createHttpServer(service)
  await listen(server, options.listen)
  const { port } = server.address() as AddressInfo
  return {
    address: formatListen({ host: options.listen.host, port }),
    close: () => close(server),
  }
}

function createHttpServer(service: Service): Server {
  const handle = createApp(service).callback()
  /** Sockets with an answer on its way, where bytes of another one would be taken for its body. */
  const answering = new WeakMap<Socket, number>()
  const count = (socket: Socket, change: number) => {
    answering.set(socket, (answering.get(socket) ?? 0) + change)
  }
  const server = createServer()
  const onRequest = (...[req, res]: Parameters<typeof handle>) => {
    const { socket } = req
    count(socket, 1)
    res.once('close', () => {
      count(socket, -1)
      // A connection that is kept alive would hold up the end by its time-out.
      if (!server.listening) setImmediate(() => server.closeIdleConnections())
    })
    handle(req, res)
  }
  server.on('request', onRequest)
  // Nobody is told to go on and send a body: none is ever wanted.
  server.on('checkContinue', onRequest)
  server.on('clientError', (error: ParserError, socket: Socket) => {
    if (error.code === 'ECONNRESET' || !socket.writable || (answering.get(socket) ?? 0) > 0) {
      socket.destroy()
    } else answerUnparsed(service, error, socket)
  })
  return server
}

async function listen(server: Server, address: ListenAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onError = (error: Error) => reject(listenError(address, error))
  server.once('error', onError)
  server.listen(address.port, address.host, resolve)
  await promise
  server.off('error', onError)
}

async function close(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  server.closeIdleConnections()
  await promise
}
