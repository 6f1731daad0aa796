/** keepstore, Arvados' own keep service: a program of this machine that is not fetched. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { S3Access } from './s3.ts'
import { freePort, startSupervised } from './supervised.ts'

/** A running keepstore. */
export interface Keepstore {
  url: string
  port: number
  pid: number
  /** Its cluster's configuration file. */
  config: string
  stop(): Promise<void>
}

/** Where its blocks lie. */
export type KeepstoreVolume =
  | { Driver: 'Directory'; DriverParameters: { Root: string } }
  | { Driver: 'S3'; DriverParameters: Record<string, unknown> }

/** What the cluster's tokens and its signing key are. */
export const CLUSTER_SECRET = 'keepgwtestkeepgwtestkeepgwtestkeepgwtest'

/** Returns the volume of a bucket. */
export function bucketVolume(server: S3Access, bucket: string): KeepstoreVolume {
  return {
    Driver: 'S3',
    DriverParameters: {
      Endpoint: server.endpoint,
      Region: server.region,
      Bucket: bucket,
      AccessKeyID: server.accessKeyId,
      SecretAccessKey: server.secretAccessKey,
      UsePathStyle: true,
    },
  }
}

export interface KeepstoreOptions {
  volume: KeepstoreVolume
  /** Directory for its configuration and its log. */
  dir: string
  signing: boolean
  /** Other keep services of the cluster. */
  others?: string[]
}

/** Starts the program on a free port of 127.0.0.1. Throws with its log where it does not start. */
export async function startKeepstore(
  program: string,
  { volume, dir, signing, others = [] }: KeepstoreOptions,
): Promise<Keepstore> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const config = join(dir, `keepstore-${port}.yml`)
  const cluster = {
    SystemRootToken: CLUSTER_SECRET,
    ManagementToken: CLUSTER_SECRET,
    Collections: { BlobSigning: signing, BlobSigningKey: CLUSTER_SECRET },
    TLS: { Insecure: true },
    // As a cluster with a gateway has it; keep-exercise cannot even read another one with AccessViaHosts.
    Containers: { LocalKeepBlobBuffersPerVCPU: 0 },
    Services: {
      // It wants to know one, and asks it nothing here.
      Controller: { ExternalURL: 'https://127.0.0.1:9' },
      Keepstore: { InternalURLs: Object.fromEntries([url, ...others].map((each) => [each, {}])) },
    },
    Volumes: { 'zzzzz-nyw5e-000000000000000': { ...volume, AccessViaHosts: { [url]: {} } } },
  }
  // JSON is YAML, too.
  await writeFile(config, JSON.stringify({ Clusters: { zzzzz: cluster } }))
  const { pid, stop } = await startSupervised({
    args: [program, '-config', config],
    env: { PATH: process.env.PATH, HOME: dir, ARVADOS_SERVICE_INTERNAL_URL: url },
    port,
    log: join(dir, `keepstore-${port}.log`),
  })
  return { url, port, pid, config, stop }
}
