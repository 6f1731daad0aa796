import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { HttpClient } from '../../../src/remote/s3/http.ts'

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
    let dir: string
    let server: Server
    let client: HttpClient
    let origin: string

    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'keepgw-http-'))
      server = scheme === 'http' ? createHttpServer(answer) : await secureServer(dir)
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      origin = `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
      if (scheme === 'https') process.env.AWS_CA_BUNDLE = join(dir, 'cert.pem')
      client = new HttpClient({ connections: 3 })
      delete process.env.AWS_CA_BUNDLE
    })

    after(async () => {
      await client.close(new Error('over'))
      server.close()
      await rm(dir, { recursive: true })
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
    }
  })
}

async function secureServer(dir: string): Promise<Server> {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const files = ['-keyout', key, '-out', cert]
  execFileSync('openssl', ['req', '-x509', ...made, ...name, ...files], { stdio: 'ignore' })
  return createHttpsServer({ key: await readFile(key), cert: await readFile(cert) }, answer)
}
