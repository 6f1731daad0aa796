/** The requests of one connection, answered one after the other: clients may send several at once (pipelining). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests that wait for the answers before theirs; each takes some kilobytes. */
const MOST_WAITING = 32

interface Exchange {
  req: IncomingMessage
  res: ServerResponse
}

/** Whose turn it is on each connection. */
export class Turns {
  readonly #handle: (req: IncomingMessage, res: ServerResponse) => void
  readonly #current = new WeakMap<Socket, Exchange>()
  readonly #waiting = new WeakMap<Socket, Exchange[]>()

  /** `handle` is called with each request when its turn has come. */
  constructor(handle: (req: IncomingMessage, res: ServerResponse) => void) {
    this.#handle = handle
  }

  /** Takes a request that has come. A connection on which too many wait is closed. */
  take(exchange: Exchange): void {
    const { socket } = exchange.req
    // What the parser still finds in what had come before.
    if (socket.destroyed) return
    if (!this.isAnswering(socket)) {
      this.#begin(exchange)
      return
    }
    const waiting = this.#waiting.get(socket) ?? []
    if (waiting.length === MOST_WAITING) socket.destroy()
    else this.#waiting.set(socket, [...waiting, exchange])
  }

  /** True while an answer is on its way, or to come. */
  isAnswering(socket: Socket): boolean {
    return this.#current.has(socket)
  }

  /** True while nothing is to come from the client, and nothing is there that it does not take. */
  isAtWork(socket: Socket): boolean {
    const current = this.#current.get(socket)
    return current?.req.complete === true && socket.writableLength === 0
  }

  #begin(exchange: Exchange): void {
    const { req, res } = exchange
    const { socket } = req
    this.#current.set(socket, exchange)
    res.once('close', () => {
      this.#current.delete(socket)
      const next = this.#waiting.get(socket)?.shift()
      if (next !== undefined && !socket.destroyed) this.#begin(next)
    })
    this.#handle(req, res)
  }
}
