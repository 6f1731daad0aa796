/**
 * Connections that read into memory of their own, over and over, where Node would make a fresh
 * buffer for each piece of an answer: for bulk reading that is most of the cost. Node offers it
 * (`onread` of net.connect and tls.connect) to those who take the bytes from a callback; undici asks
 * its sockets with read() whenever they say `readable`. A Slab stands between the two.
 */
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { buildConnector as BuildConnector } from 'undici'
import { buildConnector } from './undici.ts'

/** What one read of a socket can bring. It fits a core's second cache, with what is made of it. */
const SLAB_BYTES = 128 * 1024

export interface ConnectorOptions {
  /** Milliseconds until a connection must stand. */
  timeout: number
  /** Certificates to trust instead of the built-in ones, PEM. */
  ca?: Buffer
}

/**
 * Returns a function that connects for undici, plain and TLS. What such a socket's read() returns is
 * valid until the next read() of it. Safe for concurrent use.
 */
export function slabConnector({ timeout, ca }: ConnectorOptions): BuildConnector.connector {
  /** The last TLS session of each server: the next connection resumes it. */
  const sessions = new Map<string, Buffer>()
  return (target, callback) => {
    const slab = new Slab()
    const server = `${target.servername ?? target.hostname}:${target.port}`
    const session = sessions.get(server)
    const connect = buildConnector({
      timeout,
      allowH2: false,
      onread: slab.onread,
      ...(ca === undefined ? {} : { ca }),
      ...(session === undefined ? {} : { session }),
    })
    // undici's types leave out that the socket is returned, before it is connected.
    const socket = connect(target, callback) as unknown as Socket | TLSSocket
    slab.attach(socket)
    socket.on('session', (fresh: Buffer) => sessions.set(server, fresh))
    return socket
  }
}

/**
 * A reader that pauses may still use what it took last, and TLS goes on to deliver the records that
 * it has read already: so there are two memories in turn, and what comes during a pause is copied.
 */
class Slab {
  #memory: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #spare: Buffer | undefined
  /** What has just come in, in the memory. */
  #fresh: Buffer | undefined
  /** What came earlier and was not taken. */
  readonly #waiting: Buffer[] = []
  /** The reader has not asked for more than it was given. */
  #paused = false
  #socket!: Socket

  readonly onread = {
    buffer: (): Buffer => this.#memory,
    /** Returns false where the reader has paused: then nothing more should come in. */
    callback: (bytes: number): boolean => {
      const chunk = this.#memory.subarray(0, bytes)
      if (this.#paused) {
        this.#waiting.push(Buffer.from(chunk))
        return false
      }
      this.#fresh = chunk
      this.#paused = true
      this.#socket.emit('readable')
      if (this.#fresh !== undefined) {
        this.#waiting.push(Buffer.from(chunk))
        this.#fresh = undefined
      } else if (this.#paused) this.#takeTurns()
      return !this.#paused
    },
  }

  attach(socket: Socket): void {
    this.#socket = socket
    const read = socket.read
    socket.read = (size?: number) => {
      // With 0 it is the stream itself that begins to read, or looks for its end.
      if (size === 0) return read.call(socket, 0)
      const next = this.#fresh ?? this.#waiting.shift()
      this.#fresh = undefined
      if (next !== undefined) return next
      this.#paused = false
      // Goes on where the callback had stopped it; else this does nothing.
      if (!socket.destroyed && !socket.readableEnded) socket._read(0)
      return read.call(socket)
    }
    // A reader that pauses gives back what it had not come to.
    socket.unshift = (rest: Buffer) => {
      if (rest.length > 0) this.#waiting.unshift(Buffer.from(rest))
    }
  }

  #takeTurns(): void {
    const lent = this.#memory
    this.#memory = this.#spare ?? Buffer.allocUnsafeSlow(SLAB_BYTES)
    this.#spare = lent
  }
}
