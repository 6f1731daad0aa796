/** A bucket that is served by the built command line, and readers that look at every byte. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { environment, keepgwOk, md5, type Served, serve, temporary } from '../e2e/keepgw.ts'
import { makeBucket, type S3Access, type TestBucket } from '../servers/s3.ts'
import { type Holding, holdingOfAll } from './processes.ts'

export const BLOCK = 67_108_864

/** An indexed bucket, and the blocks that are in it. */
export class IndexedBucket {
  /** The small blocks by their hashes, up to 300 kB each. */
  readonly small = new Map<string, Buffer>()
  /** One block of 64 MiB. */
  readonly large: { hash: string; data: Buffer }
  readonly env: NodeJS.ProcessEnv
  readonly dir: string
  readonly #bucket: TestBucket
  readonly #remove: () => Promise<void>

  static async make(server: S3Access): Promise<IndexedBucket> {
    const bucket = await makeBucket(server)
    const scratch = await temporary()
    const made = new IndexedBucket(bucket, scratch.dir, scratch.remove)
    for (const [hash, data] of made.small) await bucket.put(`small/${hash}`, data)
    await bucket.putLarge('large', made.large.data, 16 << 20)
    await keepgwOk(['index', bucket.name], made.env)
    return made
  }

  constructor(bucket: TestBucket, dir: string, remove: () => Promise<void>) {
    this.#bucket = bucket
    this.dir = dir
    this.#remove = remove
    this.env = environment(bucket.server, dir)
    for (let at = 0; at < 40; at++) {
      const data = randomBytes(1 + at * 7_919)
      this.small.set(md5(data), data)
    }
    const data = Buffer.alloc(BLOCK, randomBytes(1_000_003))
    this.large = { hash: md5(data), data }
  }

  /** Serves it; the server is killed at the test's end, if it has not ended by then. */
  async serve(t: TestContext, flags: string[] = []): Promise<Served> {
    const volume = `s3:${join(this.dir, this.#bucket.name)}:${this.#bucket.name}`
    const served = await serve([volume], this.env, flags)
    t.after(() => served.process.kill('SIGKILL'))
    return served
  }

  /** Reads a block by a connection of its own, and looks at every byte. */
  async read({ url }: Served, hash: string): Promise<void> {
    const answer = await fetch(`${url}/${hash}`, { headers: { Connection: 'close' } })
    assert.equal(answer.status, 200, hash)
    const data = hash === this.large.hash ? this.large.data : this.small.get(hash)!
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(data), `${hash}: other bytes`)
  }

  /** Reads every block once, and the large one. */
  async readAll(served: Served): Promise<void> {
    const hashes = [this.large.hash, ...this.small.keys()]
    await Promise.all(hashes.map((hash) => this.read(served, hash)))
  }

  async destroy(): Promise<void> {
    await this.#bucket.destroy()
    await this.#remove()
  }
}

/** Opens a connection; what goes wrong with it is nobody's concern but who reads it. */
export async function open({ url }: Served): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** Returns all that comes until the connection ends, however it ends. */
export async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of socket) chunks.push(chunk)
  } catch {
    // A reset is an end, too.
  }
  return Buffer.concat(chunks)
}

/** Resolves when a server holds hardly more descriptors than `before`; its idle connections to a store last 15 s. */
export async function descriptorsAreBack(served: Served, before: Holding): Promise<void> {
  const end = Date.now() + 60_000
  const most = before.descriptors + 8
  for (;;) {
    const { descriptors } = holdingOfAll(served)
    if (descriptors <= most) return
    assert.ok(Date.now() < end, `${descriptors} descriptors, ${before.descriptors} before`)
    await delay(250)
  }
}

/** Looks at a server's memory all the time, until it is disposed of. */
export class MemoryWatch implements Disposable {
  /** Bytes: the most that RssAnon was. */
  most = 0
  readonly #timer: NodeJS.Timeout

  constructor(served: Served) {
    const look = () => {
      this.most = Math.max(this.most, holdingOfAll(served).rssAnon)
    }
    look()
    this.#timer = setInterval(look, 100)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}
