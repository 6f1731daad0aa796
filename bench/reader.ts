/**
 * A client that costs little: it reads what it is told on standard input from one server, over so many
 * connections, and prints how long it took. A process of its own, so that its CPU is not the server's;
 * and it checks the MD5 of all that came once the clock has stopped, as the checking of clients on
 * other machines would not keep the server waiting.
 */
import { createHash } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'

/** What is to be read. */
export interface Job {
  port: number
  /** Connections, each with one request at a time. */
  readers: number
  wanted: Wanted[]
}

export interface Wanted {
  path: string
  headers?: Record<string, string>
  /** Of the body: bytes, and 32 hex digits. */
  size: number
  md5: string
}

/** Seconds. */
export interface Timings {
  /** From the first request to the last byte. */
  wall: number
  /** Of each request: until the first byte of the body, and the last one. */
  firstBytes: number[]
  ends: number[]
}

/** For a head, and what of the body comes with it. */
const SLAB_BYTES = 64 << 10
/** Read at once, at most. */
const READ_BYTES = 1 << 20

class Connection {
  readonly #socket: Socket
  readonly #slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #head = ''
  #body: Buffer = Buffer.alloc(0)
  /** Bytes of the body that have come; undefined until its head has. */
  #filled: number | undefined
  #sent = 0
  #firstByte = 0
  #answered: PromiseWithResolvers<{ firstByte: number; end: number }> | undefined

  constructor(port: number) {
    const onread = {
      buffer: () => this.#nextRoom(),
      callback: (bytes: number) => {
        this.#take(bytes)
        return true
      },
    }
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true, onread })
    this.#socket.on('error', (error) => this.#answered?.reject(error))
    this.#socket.on('close', () => this.#answered?.reject(new Error('the connection was closed')))
  }

  /** Resolves when `body` is full. */
  async read({ path, headers }: Wanted, body: Buffer) {
    const lines = Object.entries({ host: 'localhost', ...headers }).map(([name, value]) => {
      return `${name}: ${value}\r\n`
    })
    this.#body = body
    this.#firstByte = 0
    this.#answered = Promise.withResolvers()
    this.#sent = performance.now()
    this.#socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    return this.#answered.promise
  }

  end(): void {
    this.#answered = undefined
    this.#socket.destroy()
  }

  /** Returns where the next bytes go to. */
  #nextRoom(): Buffer {
    const at = this.#filled
    return at === undefined ? this.#slab : this.#body.subarray(at, at + READ_BYTES)
  }

  #take(bytes: number): void {
    if (this.#filled === undefined) this.#takeHead(this.#slab.subarray(0, bytes))
    else this.#filled += bytes
    if (!this.#filled) return
    this.#firstByte ||= this.#since()
    if (this.#filled < this.#body.length) return
    this.#filled = undefined
    this.#answered?.resolve({ firstByte: this.#firstByte, end: this.#since() })
  }

  #takeHead(piece: Buffer): void {
    const before = this.#head.length
    this.#head += piece.toString('latin1')
    const end = this.#head.indexOf('\r\n\r\n')
    if (end < 0) return
    const isOk = /^HTTP\/1\.1 20[06] /.test(this.#head)
    const length = Number(/^content-length: *(\d+)/im.exec(this.#head)?.[1])
    const start = piece.subarray(end + 4 - before)
    if (!isOk || length !== this.#body.length || start.length > length) {
      this.#answered?.reject(new Error(`an answer is wrong: ${this.#head.slice(0, 2000)}`))
    }
    this.#head = ''
    this.#filled = start.copy(this.#body)
  }

  #since(): number {
    return (performance.now() - this.#sent) / 1000
  }
}

async function readAll({ port, readers, wanted }: Job): Promise<Timings> {
  const timings: Timings = { wall: 0, firstBytes: [], ends: [] }
  // Filled now: else the kernel would make its pages within the time that counts.
  const bodies = wanted.map(({ size }) => Buffer.allocUnsafeSlow(size).fill(0))
  const connections = Array.from({ length: readers }, () => new Connection(port))
  const start = performance.now()
  let next = 0
  const read = async (connection: Connection): Promise<void> => {
    while (next < wanted.length) {
      const at = next++
      const { firstByte, end } = await connection.read(wanted[at]!, bodies[at]!)
      timings.firstBytes.push(firstByte)
      timings.ends.push(end)
    }
  }
  await Promise.all(connections.map(read))
  timings.wall = (performance.now() - start) / 1000
  for (const connection of connections) connection.end()
  for (const [at, { path, md5 }] of wanted.entries()) {
    const found = createHash('md5').update(bodies[at]!).digest('hex')
    if (found !== md5) throw new Error(`${path} came with the MD5 ${found}`)
  }
  return timings
}

const job: Job = JSON.parse(await text(process.stdin))
process.stdout.write(JSON.stringify(await readAll(job)))
