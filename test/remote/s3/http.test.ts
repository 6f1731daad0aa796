import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Sink } from '../../../src/remote/remote.ts'
import { HttpClient } from '../../../src/remote/s3/http.ts'
import { type Certificate, makeCertificate } from '../../servers/certificate.ts'

const DATA = Buffer.alloc(5_000_000)
for (let i = 0; i < DATA.length; i += 4) DATA.writeUInt32LE((i * 2654435761) >>> 0, i)

/** Answers with the data: whole, in pieces of any size, or without saying how long it is. */
const answer: RequestListener = (req, res) => {
  if (req.url !== '/chunked') res.setHeader('Content-Length', DATA.length)
  if (req.url === '/last') res.setHeader('Connection', 'close')
  for (let at = 0, size = 1; at < DATA.length; at += size, size = (size * 7 + 11) % 90_001) {
    res.write(DATA.subarray(at, at + size))
    size ||= 1
  }
  res.end()
}

function md5(data: Uint8Array): string {
  return createHash('md5').update(data).digest('hex')
}

for (const scheme of ['http', 'https'] as const) {
  describe(`an answer over ${scheme}`, () => {
    let certificate: Certificate
    let server: Server
    let client: HttpClient
    let origin: string

    before(async () => {
      certificate = await makeCertificate()
      server = scheme === 'http' ? createHttpServer(answer) : createHttpsServer(certificate, answer)
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      origin = `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
      if (scheme === 'https') process.env.AWS_CA_BUNDLE = certificate.certFile
      client = new HttpClient({ connections: 3 })
      delete process.env.AWS_CA_BUNDLE
    })

    after(async () => {
      client.close(new Error('over'))
      server.close()
      await certificate[Symbol.asyncDispose]()
    })

    for (const path of ['/whole', '/chunked', '/last']) {
      it(`${path} is what was sent, to readers that pause and keep what they were given`, async () => {
        const readers = [
          () => undefined,
          () => Promise.resolve(),
          () => setImmediate(),
          () => new Promise<void>((resolve) => setTimeout(resolve, 1)),
        ]
        const read = async (pause: (typeof readers)[number]): Promise<void> => {
          const hash = createHash('md5')
          const request = { origin, method: 'GET' as const, path, headers: {} }
          await client.request(request, () => (chunk) => {
            // A chunk is good until the promise has settled, so it is looked at only then.
            const done = pause()
            if (done === undefined) return void hash.update(chunk)
            return done.then(() => void hash.update(chunk))
          })
          assert.equal(hash.digest('hex'), md5(DATA))
        }
        await Promise.all([...readers, ...readers, ...readers].map(read))
      })

      it(`${path} is what was sent, to readers with memory of their own`, async () => {
        const read = async (size: number): Promise<number> => {
          const reader = new RingReader(size)
          await client.request({ origin, method: 'GET', path, headers: {} }, () => reader.sink)
          assert.equal(reader.digest(), md5(DATA))
          return reader.inPlace
        }
        const inPlace = await Promise.all([1000, 40_000, 150_001, 1 << 20, 1 << 20].map(read))
        const most = Math.max(...inPlace)
        if (path === '/chunked') assert.equal(most, 0)
        else assert.ok(most > DATA.length / 2, `only ${most} bytes came right to where they belong`)
      })
    }
  })
}

/** Gathers a body in a ring, as hashers do, and looks at what it has only when it must, or had to wait. */
class RingReader {
  readonly #hash = createHash('md5')
  /** Bytes that were found where they should go. */
  inPlace = 0
  readonly #ring: Buffer
  #start = 0
  #waiting = 0

  constructor(size: number) {
    // Not of the pool: what is found in its memory must be in the ring.
    this.#ring = Buffer.allocUnsafeSlow(size)
  }

  readonly sink: Sink = Object.assign((chunk: Uint8Array) => this.#take(chunk), {
    room: () => this.#room(),
  })

  digest(): string {
    this.#drain()
    return this.#hash.digest('hex')
  }

  #take(chunk: Uint8Array): void | Promise<void> {
    if (chunk.buffer === this.#ring.buffer && chunk.byteOffset === this.#end) {
      this.inPlace += chunk.length
      this.#waiting += chunk.length
    } else this.#copy(chunk)
    if (this.#waiting > this.#ring.length / 2) return setImmediate().then(() => this.#drain())
  }

  #copy(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#waiting === this.#ring.length) this.#drain()
      const room = this.#room()!
      const some = chunk.subarray(at, at + room.length)
      room.set(some)
      this.#waiting += some.length
      at += some.length
    }
  }

  get #end(): number {
    return (this.#start + this.#waiting) % this.#ring.length
  }

  #room(): Buffer | undefined {
    const free = this.#ring.length - this.#waiting
    if (free === 0) return undefined
    return this.#ring.subarray(this.#end, Math.min(this.#end + free, this.#ring.length))
  }

  #drain(): void {
    while (this.#waiting > 0) {
      const end = Math.min(this.#start + this.#waiting, this.#ring.length)
      this.#hash.update(this.#ring.subarray(this.#start, end))
      this.#waiting -= end - this.#start
      this.#start = end % this.#ring.length
    }
  }
}
