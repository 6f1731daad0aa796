/**
 * TOUCH, a method of Keep's own that Node's parser refuses. The request is given to the parser again
 * as a PURGE, on a connection of its own that writes to the client's; and the server takes it for
 * what it was. The client's connection ends with the answer, since its own parser is spent.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { ParserError } from './unparsed.ts'

/** Milliseconds in which the rest of the head must come. */
const PATIENCE = 10_000
/** As long as TOUCH, and known to the parser. */
const STAND_IN = 'PURGE'

/** The TOUCH requests of one server. */
export class Touches {
  readonly #server: Server
  readonly #opened: string
  readonly #relays = new WeakMap<Socket, TouchRelay>()

  /** `opened` is the event by which the server is told of a connection that speaks HTTP. */
  constructor(server: Server, opened: 'connection' | 'secureConnection') {
    this.#server = server
    this.#opened = opened
  }

  /** Takes what the parser has refused, if that is a TOUCH or a piece of one; false otherwise. */
  take({ rawPacket }: ParserError, socket: Socket): boolean {
    const known = this.#relays.get(socket)
    if (known !== undefined) {
      known.push(rawPacket ?? null)
      return true
    }
    if (rawPacket?.toString('latin1', 0, 6) !== 'TOUCH ') return false
    const relay = new TouchRelay(socket)
    this.#relays.set(socket, relay)
    // Node takes any stream for a connection.
    this.#server.emit(this.#opened, relay)
    const end = rawPacket.indexOf('\r\n')
    const lineEnd = end < 0 ? rawPacket.length : end
    relay.push(Buffer.concat([Buffer.from(STAND_IN), rawPacket.subarray(5, lineEnd)]))
    if (end >= 0) relay.push(Buffer.from('\r\nConnection: close'))
    relay.push(rawPacket.subarray(lineEnd))
    return true
  }

  /** True where a TOUCH of this client's is under way on another connection. */
  isRelayed(socket: Socket): boolean {
    return this.#relays.get(socket)?.hasHead === true
  }

  /** Gives a request its method back. */
  static restore(req: { socket: unknown; method?: string | undefined }): void {
    if (!(req.socket instanceof TouchRelay)) return
    req.method = 'TOUCH'
    req.socket.headHasCome()
  }
}

/** A connection that reads what it is given, and writes to the client's. */
class TouchRelay extends Duplex {
  readonly remoteAddress: string | undefined
  readonly remotePort: number | undefined
  readonly #socket: Socket
  readonly #late: NodeJS.Timeout
  hasHead = false

  constructor(socket: Socket) {
    super()
    this.#socket = socket
    this.remoteAddress = socket.remoteAddress
    this.remotePort = socket.remotePort
    this.#late = setTimeout(() => this.destroy(), PATIENCE)
    this.once('close', () => clearTimeout(this.#late))
    socket.once('close', () => this.destroy())
  }

  /** What it asks for may take longer than its head. */
  headHasCome(): void {
    this.hasHead = true
    clearTimeout(this.#late)
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done)
  }

  override _final(done: () => void): void {
    this.#socket.destroySoon()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroySoon()
    done(error)
  }

  /** As a socket's, for the server. */
  destroySoon(): void {
    this.end()
  }
}
