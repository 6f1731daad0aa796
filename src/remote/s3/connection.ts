/**
 * One connection to a server, plain or TLS, and what comes over it. It reads into memory that is used
 * again, its own or its reader's: Node's fresh buffer for each piece of a body costs more than to hash
 * it. Node has `onread` for that, in net.connect and tls.connect.
 */
import { connect as connectPlain, isIP, type Socket } from 'node:net'
import { connect as connectSecurely } from 'node:tls'
import type { Exchange } from './exchange.ts'
import {
  BodyFraming,
  formatRequest,
  MAX_HEAD_BYTES,
  MalformedResponse,
  parseHead,
  staysOpen,
} from './http-message.ts'

/** What one read into memory of our own can bring. It fits a core's second cache. */
const SLAB_BYTES = 128 * 1024
/** Slabs of closed connections that are kept for new ones: each read that is broken off costs a connection. */
const MAX_FREE_SLABS = 16
const freeSlabs: Buffer[] = []
const KEEP_ALIVE_PROBE_MS = 60_000
const HEAD_END = Buffer.from('\r\n\r\n')

/** A server, and how it is reached. */
export interface Target {
  secure: boolean
  /** Name or address, without brackets. */
  host: string
  port: number
  /** The Host header. */
  authority: string
}

/** TLS as it is to be: whom to trust, and sessions to take up again, by server. */
export interface TlsSettings {
  /** Certificates to trust instead of the built-in ones, PEM. */
  ca?: Buffer
  sessions: Map<string, Buffer>
}

/** What becomes of a connection, for its pool. */
export interface ConnectionEvents {
  /** It may be used for another exchange. */
  free(connection: Connection): void
  /** It is of no more use; what it was used for has been told. */
  closed(connection: Connection): void
}

/** What is being waited for. */
export type Phase = 'connecting' | 'answer' | 'body' | 'idle'

/** The server has closed a connection that it had kept open, before it took the request on. */
export class ClosedIdle extends Error {
  override readonly name = 'ClosedIdle'
}

/** The connection ended in the middle of an answer. */
class ClosedEarly extends Error {
  override readonly name = 'ClosedEarly'
  readonly code = 'HTTP_CLOSED'

  constructor() {
    super('connection closed')
  }
}

/** For one exchange after the other. */
export class Connection {
  readonly #target: Target
  readonly #events: ConnectionEvents
  readonly #socket: Socket
  #memory = takeSlab()
  /** It was ended by the reader of what is in its memory. */
  #mayBeLookedAt = false
  /** Takes turns with the memory whenever a reader pauses, and may still look at what it has. */
  #spare: Buffer | undefined
  #exchange: Exchange | undefined
  /** The exchange under way is not the connection's first. */
  #usedBefore = false
  /** The beginning of a head that has not come whole. */
  #head: Buffer | undefined
  #body: BodyFraming | undefined
  #staysOpen = false
  /** What came while the reader was busy: TLS delivers records that it had read before. */
  readonly #backlog: Buffer[] = []
  /** Why nothing more comes; told when the reader has had all that came before. */
  #ended: Error | undefined
  #destroyed = false
  #connected = false
  /** Milliseconds since something happened; the pool counts them. */
  quiet = 0

  constructor(target: Target, tls: TlsSettings, events: ConnectionEvents) {
    this.#target = target
    this.#events = events
    this.#socket = target.secure ? this.#connectSecurely(tls) : connectPlain(this.#options())
    this.#socket.once(target.secure ? 'secureConnect' : 'connect', () => this.#onConnect())
    // Whatever ends a socket, it is closed in the end; only the first reason counts.
    this.#socket.on('error', (error) => this.#end(error))
    this.#socket.on('end', () => this.#end(undefined))
    this.#socket.on('close', () => {
      this.#end(undefined)
      // Nothing is read into it any more; what a reader that paused may still look at is the spare one.
      if (freeSlabs.length < MAX_FREE_SLABS && !this.#mayBeLookedAt) freeSlabs.push(this.#memory)
    })
  }

  /** What it waits for now; the pool has a time-out for each. */
  get phase(): Phase {
    if (!this.#connected) return 'connecting'
    if (this.#exchange === undefined) return 'idle'
    return this.#body === undefined ? 'answer' : 'body'
  }

  /** True while it is the reader that takes its time. */
  get waitsForReader(): boolean {
    return this.#exchange?.isBusy === true
  }

  /** Sends a request, and gives its answer to the exchange. Only while there is none. */
  begin(exchange: Exchange): void {
    this.#usedBefore = this.#connected
    this.#exchange = exchange
    this.quiet = 0
    exchange.attach(this)
    if (this.#connected) this.#send(exchange)
  }

  /** Goes on after the reader had asked to wait. */
  resume(): void {
    while (this.#backlog.length > 0) {
      if (this.#destroyed || this.waitsForReader) return
      this.#take(this.#backlog.shift()!)
    }
    if (this.#ended !== undefined) this.#tellEnd(this.#ended)
    else if (!this.#destroyed && !this.waitsForReader) this.#socket.resume()
  }

  /** Closes it; an exchange under way is told nothing. */
  destroy(): void {
    if (this.#destroyed) return
    this.#destroyed = true
    this.#exchange = undefined
    this.#socket.destroy()
    this.#events.closed(this)
  }

  /** Closes it, and fails the exchange under way. */
  fail(reason: Error): void {
    const exchange = this.#exchange
    this.destroy()
    exchange?.broke(reason)
  }

  #connectSecurely({ ca, sessions }: TlsSettings): Socket {
    const { host, authority } = this.#target
    const session = sessions.get(authority)
    const socket = connectSecurely({
      ...this.#options(),
      ALPNProtocols: ['http/1.1'],
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === undefined ? {} : { ca }),
      ...(session === undefined ? {} : { session }),
    })
    socket.on('session', (fresh) => sessions.set(authority, fresh))
    return socket
  }

  #options() {
    const { host, port } = this.#target
    const keepAliveInitialDelay = KEEP_ALIVE_PROBE_MS
    const onread = {
      buffer: () => this.#nextMemory(),
      callback: (bytes: number, memory: Uint8Array) => this.#onRead(memory, bytes),
    }
    return { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay, onread }
  }

  #onConnect(): void {
    if (this.#destroyed) return
    this.#connected = true
    this.quiet = 0
    if (this.#exchange === undefined) this.#events.free(this)
    else this.#send(this.#exchange)
  }

  #send({ request }: Exchange): void {
    try {
      this.#socket.write(formatRequest(this.#target.authority, request), 'latin1')
    } catch (error) {
      this.fail(error as Error)
    }
  }

  /** Where the next read goes: to where the reader wants it, if nothing else comes before. */
  #nextMemory(): Uint8Array {
    const exchange = this.#exchange
    if (exchange === undefined || !this.#body?.isPlain) return this.#memory
    // What TLS delivers to a busy reader has to wait, and would be overwritten by what follows.
    if (exchange.isBusy && this.#target.secure) return this.#memory
    return exchange.room(this.#body.run) ?? this.#memory
  }

  /** Returns false where nothing more should be read for now. */
  #onRead(memory: Uint8Array, bytes: number): boolean {
    if (this.#destroyed) return false
    this.quiet = 0
    const chunk = bytes === memory.length ? memory : memory.subarray(0, bytes)
    if (this.waitsForReader) {
      this.#backlog.push(Buffer.from(chunk))
      return false
    }
    const exchange = this.#exchange
    this.#take(chunk)
    if (memory === this.#memory) {
      if (this.#destroyed) this.#mayBeLookedAt = true
      // Also when the answer is over: its reader may be busy with the last piece.
      else if (exchange?.isBusy) this.#takeTurns()
    }
    return !this.#destroyed && !this.waitsForReader
  }

  #takeTurns(): void {
    const lent = this.#memory
    this.#memory = this.#spare ?? takeSlab()
    this.#spare = lent
  }

  #take(chunk: Uint8Array): void {
    try {
      for (let at = 0; at < chunk.length && !this.#destroyed; ) {
        if (this.waitsForReader) return void this.#backlog.unshift(Buffer.from(chunk.subarray(at)))
        if (this.#exchange === undefined) throw new MalformedResponse('an answer to no request')
        at = this.#body === undefined ? this.#takeHead(chunk, at) : this.#takeBody(chunk, at)
        // Who sends more than it was asked for is not asked again.
        if (at < chunk.length && this.#body?.done) this.#staysOpen = false
        if (this.#body?.done) this.#finish()
      }
    } catch (error) {
      this.fail(error as Error)
    }
  }

  /** Returns where in the chunk the head ends. Throws MalformedResponse. */
  #takeHead(chunk: Uint8Array, at: number): number {
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset + at, chunk.length - at)
    const before = this.#head?.length ?? 0
    const text = this.#head === undefined ? fresh : Buffer.concat([this.#head, fresh])
    const end = text.indexOf(HEAD_END, Math.max(0, before - HEAD_END.length + 1))
    if (end > MAX_HEAD_BYTES || (end < 0 && text.length > MAX_HEAD_BYTES)) {
      throw new MalformedResponse('headers without an end')
    }
    if (end < 0) {
      this.#head = Buffer.from(text)
      return chunk.length
    }
    this.#head = undefined
    this.#begin(text.toString('latin1', 0, end))
    return at + end + HEAD_END.length - before
  }

  #begin(head: string): void {
    const exchange = this.#exchange!
    const answer = parseHead(head)
    // What comes before the answer, such as 103: there is another head behind it.
    if (answer.status < 200) {
      if (answer.status === 101) throw new MalformedResponse('another protocol')
      return
    }
    this.#body = new BodyFraming(exchange.request.method, answer)
    this.#staysOpen = staysOpen(answer) && !this.#body.endsWithConnection
    exchange.answered(answer)
  }

  #takeBody(chunk: Uint8Array, at: number): number {
    const body = this.#body!
    if (body.run === 0) return body.skim(chunk, at)
    const end = Math.min(chunk.length, at + body.run)
    body.took(end - at)
    this.#exchange!.deliver(at === 0 && end === chunk.length ? chunk : chunk.subarray(at, end))
    return end
  }

  /** The answer has come to its end. */
  #finish(): void {
    const exchange = this.#exchange
    if (exchange === undefined || this.#destroyed) return
    this.#exchange = undefined
    this.#body = undefined
    if (this.#staysOpen) this.#release(exchange)
    else this.destroy()
    exchange.ended()
  }

  /** While the reader is busy with the last piece, its memory must be left alone. */
  #release(exchange: Exchange): void {
    if (exchange.isBusy) exchange.whenFree(() => !this.#destroyed && this.#events.free(this))
    else this.#events.free(this)
  }

  /** Nothing more will come. */
  #end(error: Error | undefined): void {
    if (this.#destroyed || this.#ended !== undefined) return
    this.#ended = error ?? new ClosedEarly()
    if (this.#backlog.length === 0) this.#tellEnd(this.#ended)
  }

  #tellEnd(reason: Error): void {
    if (this.#destroyed) return
    const isUntouched = this.#usedBefore && this.#body === undefined && this.#head === undefined
    if (this.#body?.endsWithConnection && reason instanceof ClosedEarly) this.#finish()
    else this.fail(isUntouched ? new ClosedIdle('closed while idle', { cause: reason }) : reason)
  }
}

function takeSlab(): Buffer {
  return freeSlabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES)
}
