/** The S3 server that all contenders read from. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { S3Access } from '../test/servers/s3.ts'
import { startSeaweedfs } from '../test/servers/seaweedfs.ts'

/** A way to a server. */
export interface Route extends S3Access {
  /** File of the certificates to trust, PEM, where they are not the usual ones. */
  ca?: string
}

export interface Store {
  /** Its kind and version, or its address. */
  about: string
  route: Route
  /** The same by HTTPS, where the server has it. */
  https: Route | undefined
  /** Its process, where it runs on this machine and was started here. */
  pid: number | undefined
  stop(): Promise<void>
}

/**
 * Returns the server that the KEEPGW_BENCH_S3_* variables name (ENDPOINT, REGION, ACCESS_KEY,
 * SECRET_KEY), or else starts SeaweedFS, which keeps its data until stop(). Certificates are made in
 * `dir`. Throws where the server does not start.
 */
export async function openStore(dir: string): Promise<Store> {
  const env = process.env
  if (env.KEEPGW_BENCH_S3_ENDPOINT === undefined) return await openSeaweedfs(dir)
  const route: Route = {
    endpoint: env.KEEPGW_BENCH_S3_ENDPOINT,
    region: env.KEEPGW_BENCH_S3_REGION ?? 'us-east-1',
    accessKeyId: env.KEEPGW_BENCH_S3_ACCESS_KEY ?? '',
    secretAccessKey: env.KEEPGW_BENCH_S3_SECRET_KEY ?? '',
    kind: 'external',
  }
  const https = route.endpoint.startsWith('https:') ? route : undefined
  return { about: route.endpoint, route, https, pid: undefined, stop: async () => {} }
}

async function openSeaweedfs(dir: string): Promise<Store> {
  const cert = join(dir, 'cert.pem')
  const server = await startSeaweedfs(makeCertificate(cert, join(dir, 'key.pem')))
  const https = server.httpsEndpoint && { ...server, endpoint: server.httpsEndpoint, ca: cert }
  const about = `SeaweedFS ${server.version} on the same machine`
  return { about, route: server, https: https || undefined, pid: server.pid, stop: server.stop }
}

/** Undefined where the machine has no openssl. The certificate is its own authority. */
function makeCertificate(cert: string, key: string): { cert: string; key: string } | undefined {
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const subject = ['-subj', '/CN=keepgw bench', '-addext', 'subjectAltName=IP:127.0.0.1']
  const files = ['-keyout', key, '-out', cert, '-days', '2']
  try {
    execFileSync('openssl', ['req', ...kind, ...subject, ...files], { stdio: 'ignore' })
    return { cert, key }
  } catch {
    return undefined
  }
}
