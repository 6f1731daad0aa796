/** Fills buckets with little CPU, as 100,000 objects are put before a case runs. */
import { createHmac, hash } from 'node:crypto'
import { Pool } from 'undici'
import type { S3Access } from '../test/servers/s3.ts'

/** For a body that is not part of the signature (S3 API reference, "x-amz-content-sha256"). */
const UNSIGNED = 'UNSIGNED-PAYLOAD'

/** Puts objects into one bucket, one on each connection at once. */
export class Uploader {
  readonly #server: S3Access
  readonly #bucket: string
  readonly #connections: number
  readonly #pool: Pool

  constructor(server: S3Access, bucket: string, connections: number) {
    this.#server = server
    this.#bucket = bucket
    this.#connections = connections
    this.#pool = new Pool(server.endpoint, { connections, pipelining: 1 })
  }

  /** Puts the objects that `make` gives for 0 to `count` - 1. Throws what the store refuses. */
  async putAll(count: number, make: (i: number) => { key: string; body: Buffer }): Promise<void> {
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < count) {
        const { key, body } = make(next++)
        await this.#put(key, body)
      }
    }
    try {
      await Promise.all(Array.from({ length: this.#connections }, worker))
    } finally {
      await this.#pool.destroy()
    }
  }

  async #put(key: string, body: Buffer): Promise<void> {
    const path = `/${this.#bucket}/${key}`
    const headers = signedHeaders(this.#server, 'PUT', path)
    const answer = await this.#pool.request({ method: 'PUT', path, headers, body })
    const said = await answer.body.text()
    if (answer.statusCode !== 200) throw new Error(`PUT ${key}: ${answer.statusCode} ${said}`)
  }
}

/**
 * Returns the headers of a request without a query, signed with AWS Signature Version 4. The path
 * needs no encoding: letters, digits and `/._-` only.
 */
export function signedHeaders(
  { endpoint, region, accessKeyId, secretAccessKey }: S3Access,
  method: string,
  path: string,
): Record<string, string> {
  const date = new Date().toISOString().replace(/[-:]|\.\d{3}/g, '')
  const headers = {
    host: new URL(endpoint).host,
    'x-amz-content-sha256': UNSIGNED,
    'x-amz-date': date,
  }
  const names = Object.keys(headers).join(';')
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`)
  const request = `${method}\n${path}\n\n${lines.join('')}\n${names}\n${UNSIGNED}`
  const scope = `${date.slice(0, 8)}/${region}/s3/aws4_request`
  let key: Buffer | string = `AWS4${secretAccessKey}`
  for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest()
  const signature = createHmac('sha256', key)
    .update(`AWS4-HMAC-SHA256\n${date}\n${scope}\n${hash('sha256', request)}`)
    .digest('hex')
  const authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`
  return { ...headers, authorization }
}
