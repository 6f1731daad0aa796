/**
 * A slow, long way to a server: a proxy that holds requests back and lets answers through at a rate,
 * each connection's and that of all. It counts bytes of TCP, and knows nothing of what they say:
 * `node shaped-link.ts HOST PORT CONNECT-MS ANSWER-MS RATE-EACH RATE-ALL`, rates in bytes a second.
 */
import { connect, createServer, type Socket } from 'node:net'
import { serveParent } from './child.ts'

/** What is let through at once: a few milliseconds' worth. */
const SLAB_BYTES = 128 << 10
/** How far a timer that fires late may be caught up with; else late timers would lower the rate. */
const CATCH_UP_MS = 20

const [host = '', ...numbers] = process.argv.slice(2)
const [port = 0, connectMs = 0, answerMs = 0, rateEach = 0, rateAll = 0] = numbers.map(Number)

/** A wire on which bytes follow one another. */
class Wire {
  readonly #rate: number
  #free = 0

  constructor(rate: number) {
    this.#rate = rate
  }

  /** Returns when the bytes are through that are put on it now, on the clock of `now`, ms. */
  put(bytes: number, now: number): number {
    this.#free = Math.max(this.#free, now - CATCH_UP_MS) + (1000 * bytes) / this.#rate
    return this.#free
  }
}

const all = new Wire(rateAll)

serveParent(createServer({ noDelay: true }, shape))

function shape(client: Socket): void {
  const wire = new Wire(rateEach)
  const slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
  let isWaiting = false
  let hasEnded = false
  const pass = (bytes: number): void => {
    client.write(slab.subarray(0, bytes), () => {
      isWaiting = false
      if (hasEnded) client.end()
      else server.resume()
    })
  }
  const callback = (bytes: number): boolean => {
    isWaiting = true
    const now = performance.now()
    const through = Math.max(wire.put(bytes, now), all.put(bytes, now))
    setTimeout(pass, Math.max(0, through - now), bytes)
    return false
  }
  const server = connect({
    port,
    host,
    noDelay: true,
    onread: { buffer: slab, callback },
  })
  // Making a connection costs a round trip as well.
  let delay = connectMs + answerMs
  client.on('data', (bytes) => {
    setTimeout(() => server.write(bytes), delay)
    delay = answerMs
  })
  server.on('end', () => {
    hasEnded = true
    if (!isWaiting) client.end()
  })
  for (const [socket, other] of [
    [client, server],
    [server, client],
  ] as const) {
    socket.on('error', () => other.destroy())
  }
  client.on('close', () => server.destroy())
}
