/** An HTTP server that answers as a test tells it to, in the place of an S3 store. */
import { once } from 'node:events'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { RemoteObject, RemoteStore, S3Spec } from '../../../src/remote/remote.ts'
import type { S3ReaderOptions } from '../../../src/remote/s3/reader.ts'
import { openS3 } from '../../../src/remote/s3/s3.ts'
import type { Answer } from '../../faults/fault.ts'

export interface Asked {
  method: string
  /** As it was on the wire. */
  path: string
  headers: IncomingHttpHeaders
}

export interface Stub {
  endpoint: string
  requests: Asked[]
  /** Connections that are open now. */
  connections: Set<unknown>
}

/** Answers a request, or returns what is to be answered. */
export type Play = (asked: Asked, res: ServerResponse, req: IncomingMessage) => Answer | undefined

/** Starts a server on a free port of 127.0.0.1; it ends with the test. */
export async function startStub(t: TestContext, play: Play): Promise<Stub> {
  const requests: Asked[] = []
  const connections = new Set<unknown>()
  const server = createServer((req, res) => {
    const asked = { method: req.method!, path: req.url!, headers: req.headers }
    requests.push(asked)
    const answer = play(asked, res, req)
    if (answer === undefined) return
    const body = answer.body ?? ''
    res.writeHead(answer.status, { 'Content-Length': Buffer.byteLength(body), ...answer.headers })
    res.end(body)
  })
  server.on('connection', (socket) => {
    connections.add(socket)
    socket.on('close', () => connections.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { endpoint, requests, connections }
}

/** Opens the bucket `bucket` of a server; it is closed with the test. */
export function openBucket(
  t: TestContext,
  server: { endpoint: string },
  options: S3ReaderOptions = {},
  spec: Partial<S3Spec> = {},
): RemoteStore {
  process.env.AWS_ACCESS_KEY_ID = 'AKIDEXAMPLE'
  process.env.AWS_SECRET_ACCESS_KEY = 'the-secret-key'
  const { endpoint } = server
  const store = openS3(
    { kind: 's3', bucket: 'bucket', endpoint, region: 'us-east-1', ...spec },
    options,
  )
  t.after(() => store.close())
  return store
}

/** Returns the answer to a GET of a range of `data`, as S3 gives it. */
export function partOf(data: Buffer, asked: Asked, etag = 'etag'): Answer {
  const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(asked.headers.range ?? '') ?? []
  const last = Math.min(Number(end), data.length - 1)
  return {
    kind: 'answer',
    status: 206,
    headers: { ETag: `"${etag}"`, 'Content-Range': `bytes ${start}-${last}/${data.length}` },
    body: data.subarray(Number(start), last + 1).toString(),
  }
}

/** Returns all that is known of an object, also what is made only when it is asked for. */
export function asPlainObject(object: RemoteObject): RemoteObject {
  const { key, etag, size, lastModified, archived, unreadable } = object
  const plain = { key, etag, size, lastModified, archived }
  return unreadable === undefined ? plain : { ...plain, unreadable }
}
