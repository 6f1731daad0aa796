/**
 * A client that costs little: it reads what it is told on standard input from one server, over so many
 * connections, checks the MD5 of all that comes, and prints how long it took. A process of its own, so
 * that its CPU is not the server's.
 */
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { openEngine } from '../src/hash/engine.ts'
import type { BlockHasher } from '../src/hash/md5.ts'

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
  /** Of the body, 32 hex digits. */
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

const SLAB_BYTES = 256 << 10

class Connection {
  readonly #socket: Socket
  readonly #slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #head = ''
  #hasher: BlockHasher | undefined
  #left = 0
  #sent = 0
  #firstByte = 0
  #answered: PromiseWithResolvers<{ firstByte: number; end: number }> | undefined

  constructor(port: number) {
    const onread = { buffer: this.#slab, callback: (bytes: number) => this.#take(bytes) }
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true, onread })
    this.#socket.on('error', (error) => this.#answered?.reject(error))
    this.#socket.on('close', () => this.#answered?.reject(new Error('the connection was closed')))
  }

  /** Resolves when all of the body has been given to the hasher. */
  async read({ path, headers }: Wanted, hasher: BlockHasher) {
    const lines = Object.entries({ host: 'localhost', ...headers }).map(([name, value]) => {
      return `${name}: ${value}\r\n`
    })
    this.#hasher = hasher
    this.#answered = Promise.withResolvers()
    this.#sent = performance.now()
    this.#socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    return this.#answered.promise
  }

  end(): void {
    this.#answered = undefined
    this.#socket.destroy()
  }

  #take(bytes: number): boolean {
    const piece = this.#slab.subarray(0, bytes)
    const body = this.#left > 0 ? piece : this.#takeHead(piece)
    if (body.length === 0) return true
    this.#firstByte ||= this.#since()
    this.#left -= body.length
    const wait = this.#hasher!.update(body)
    if (this.#left <= 0) this.#finish()
    if (wait === undefined) return true
    void wait.then(() => this.#socket.resume())
    return false
  }

  /** Returns what follows the head, if that is complete. */
  #takeHead(piece: Buffer): Buffer {
    const before = this.#head.length
    this.#head += piece.toString('latin1')
    const end = this.#head.indexOf('\r\n\r\n')
    if (end < 0) return piece.subarray(piece.length)
    const isOk = /^HTTP\/1\.1 20[06] /.test(this.#head)
    const length = Number(/^content-length: *(\d+)/im.exec(this.#head)?.[1])
    if (!isOk || !(length > 0)) {
      this.#answered?.reject(new Error(`an answer is wrong: ${this.#head.slice(0, 2000)}`))
    }
    this.#head = ''
    this.#left = length
    return piece.subarray(end + 4 - before)
  }

  #finish(): void {
    const firstByte = this.#firstByte
    this.#firstByte = 0
    if (this.#left < 0) this.#answered?.reject(new Error('an answer is too long'))
    else this.#answered?.resolve({ firstByte, end: this.#since() })
  }

  #since(): number {
    return (performance.now() - this.#sent) / 1000
  }
}

async function readAll({ port, readers, wanted }: Job): Promise<Timings> {
  const engine = openEngine(readers)
  const timings: Timings = { wall: 0, firstBytes: [], ends: [] }
  const proofs: Promise<void>[] = []
  const connections = Array.from({ length: readers }, () => new Connection(port))
  const start = performance.now()
  let next = 0
  const read = async (connection: Connection): Promise<void> => {
    while (next < wanted.length) {
      const each = wanted[next++]!
      const hasher = engine.open()
      const { firstByte, end } = await connection.read(each, hasher)
      timings.firstBytes.push(firstByte)
      timings.ends.push(end)
      proofs.push(prove(each, hasher))
    }
  }
  await Promise.all(connections.map(read))
  timings.wall = (performance.now() - start) / 1000
  for (const connection of connections) connection.end()
  await Promise.all(proofs)
  return timings
}

async function prove({ path, md5 }: Wanted, hasher: BlockHasher): Promise<void> {
  const found = (await hasher.digest()).toString('hex')
  hasher[Symbol.dispose]()
  if (found !== md5) throw new Error(`${path} came with the MD5 ${found}`)
}

const job: Job = JSON.parse(await text(process.stdin))
process.stdout.write(JSON.stringify(await readAll(job)))
