/**
 * fauxqs: an S3 server in this very process, with all data in memory. It is there without any
 * download, so the demo runs on it; a real server is the better witness for tests.
 */
import { buildApp } from 'fauxqs'
import type { S3Server } from './s3.ts'

/**
 * Starts a server on a free port of 127.0.0.1 and returns how to reach it. It takes any
 * credentials, takes bodies (and parts) of at most 11 MiB, and ignores encoding-type=url.
 */
export async function startFauxqs(): Promise<S3Server> {
  // Its own startFauxqs() listens on every interface, so the server is built and started here.
  const app = buildApp({ logger: false })
  const endpoint = await app.listen({ host: '127.0.0.1', port: 0 })
  return {
    endpoint,
    region: 'us-east-1',
    accessKeyId: 'test',
    secretAccessKey: 'test',
    kind: 'fauxqs',
    stop: async () => {
      await app.close()
    },
  }
}
