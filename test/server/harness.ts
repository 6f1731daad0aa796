/** A server on a port of its own, with its log at hand. */
import { EventEmitter, once } from 'node:events'
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http'
import { request as requestTls } from 'node:https'
import { connect, type Socket } from 'node:net'
import { PassThrough, Writable } from 'node:stream'
import type { TestContext } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { makeMount } from '../../src/server/mounts.ts'
import { createLog } from '../../src/server/request-log.ts'
import { type RunningServer, type ServeOptions, startServer } from '../../src/server/serve.ts'
import { CLIENT_TIMEOUTS, type ClientTimeouts } from '../../src/server/timeouts.ts'
import type { WriteOptions } from '../../src/server/writes.ts'
import { WRITING } from '../../src/server/writes.ts'
import type { Volume } from '../../src/volume/volume.ts'
import { assertKeepsSecrets } from '../secrets.ts'

/** What a test says of its server. */
export interface TestOptions extends Partial<Omit<ServeOptions, 'writing' | 'timeouts'>> {
  volumes?: readonly Volume[]
  writing?: Partial<WriteOptions>
  timeouts?: Partial<ClientTimeouts>
}

/** Returns all that a server is told: without a word, it does one thing at a time, and logs to nobody. */
export function serveOptions({
  volumes = [],
  writing,
  timeouts,
  ...options
}: TestOptions): ServeOptions {
  return {
    mounts: volumes.map((volume) => makeMount(volume, 'zzzzz')),
    listen: { host: '127.0.0.1', port: 0 },
    log: createLog(new PassThrough().resume()),
    tls: undefined,
    tokens: {},
    signing: undefined,
    head: 'if-match',
    cache: undefined,
    maxRequests: 0,
    maxBlocks: 0,
    idleLimit: 30_000,
    readAhead: 0,
    hedgeAfter: 0,
    snapshot: undefined,
    ...options,
    writing: { ...WRITING, ...writing },
    timeouts: { ...CLIENT_TIMEOUTS, ...timeouts },
  }
}

export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  body: Buffer
  /** False if the connection broke before the end that the headers announce. */
  complete: boolean
}

export interface LogLine {
  level: string
  msg: string
  [field: string]: unknown
}

export class Harness {
  readonly server: RunningServer
  readonly port: number
  readonly logLines: LogLine[] = []
  /** The certificate to be met; undefined for plain HTTP. */
  readonly #ca: Buffer | undefined
  readonly #logged = new EventEmitter().setMaxListeners(0)

  /** Starts a server of these volumes, each with a mount as `keepgw serve` makes it. */
  static async start(t: TestContext, options: TestOptions): Promise<Harness> {
    const lines = new EventEmitter()
    let printed = ''
    const log = createLog(
      new Writable({
        decodeStrings: false,
        write: (text, _encoding, done) => {
          printed += text
          lines.emit('line', JSON.parse(text))
          done()
        },
      }),
    )
    const server = await startServer(serveOptions({ log, ...options }))
    const harness = new Harness(server, options.tls?.cert)
    lines.on('line', (line: LogLine) => {
      harness.logLines.push(line)
      harness.#logged.emit('line')
    })
    t.after(async () => {
      await harness.server.close()
      const { systemRoot = '', management = '' } = options.tokens ?? {}
      assertKeepsSecrets(printed, [systemRoot, management, options.signing?.key ?? ''], 'the log')
    })
    return harness
  }

  constructor(server: RunningServer, ca: Buffer | undefined) {
    this.server = server
    this.#ca = ca
    this.port = Number(server.address.split(':').at(-1))
  }

  /** Sends a request on a connection of its own. `path` goes out as it is. */
  async send(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders = {},
    body?: Uint8Array,
  ): Promise<Answer> {
    const options = { port: this.port, host: '127.0.0.1', method, path, headers }
    const req =
      this.#ca === undefined
        ? request({ ...options, agent: false })
        : requestTls({ ...options, agent: false, ca: this.#ca })
    req.end(body)
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    return readAnswer(res)
  }

  get(path: string, headers: OutgoingHttpHeaders = {}): Promise<Answer> {
    return this.send('GET', path, headers)
  }

  /** A bare connection. */
  async connect(): Promise<Socket> {
    const where = { port: this.port, host: '127.0.0.1' }
    const socket = this.#ca === undefined ? connect(where) : connectTls({ ...where, ca: this.#ca })
    await once(socket, this.#ca === undefined ? 'connect' : 'secureConnect')
    return socket
  }

  /** Sends text as it is, and returns all that comes until the server closes. */
  async sendRaw(text: string): Promise<string> {
    const socket = await this.connect()
    socket.write(text)
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk)
    return Buffer.concat(chunks).toString('latin1')
  }

  /** Returns the first line of the log that fits, waiting for it where it has not come yet. */
  async logLine(fits: (line: LogLine) => boolean): Promise<LogLine> {
    for (;;) {
      const line = this.logLines.find(fits)
      if (line !== undefined) return line
      await once(this.#logged, 'line')
    }
  }
}

export async function readAnswer(res: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of res) chunks.push(chunk)
  } catch {
    // Told by `complete`.
  }
  return {
    status: res.statusCode ?? 0,
    headers: res.headers,
    body: Buffer.concat(chunks),
    complete: res.complete,
  }
}
