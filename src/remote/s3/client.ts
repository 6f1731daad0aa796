/** The AWS SDK's client, set up for reading: who asks, where, and with which limits. */
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { fromIni, fromNodeProviderChain } from '@aws-sdk/credential-providers'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { messageOf, UsageError } from '../../errors.ts'
import type { S3Spec } from '../remote.ts'

export interface ClientLimits {
  /** Connections at once, at most. */
  connections: number
  /** Times a request is made until an answer's headers are there. */
  attempts: number
}

const CONNECT_TIMEOUT_MS = 10_000
/** From the request to the answer's first header. A throttled store may take its time. */
const HEADERS_TIMEOUT_MS = 60_000

/** Returns a client for the bucket. Throws UsageError for settings that cannot be right. */
export function createClient(spec: S3Spec, limits: ClientLimits): S3Client {
  const region = spec.region ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION
  const config: S3ClientConfig = {
    followRegionRedirects: true,
    // Clones of S3 stumble over the SDK's own checksums, and keepgw proves every byte itself.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: limits.attempts,
    requestHandler: requestHandler(limits.connections),
    ...(region === undefined ? {} : { region }),
    ...(spec.endpoint === undefined ? {} : { endpoint: checkedEndpoint(spec.endpoint) }),
    ...(spec.profile === undefined ? {} : { profile: spec.profile }),
    forcePathStyle: spec.pathStyle ?? spec.endpoint !== undefined,
    ...credentials(spec),
  }
  return new S3Client(config)
}

function credentials(spec: S3Spec): S3ClientConfig {
  if (spec.anonymous) {
    return {
      credentials: { accessKeyId: '', secretAccessKey: '' },
      signer: { sign: async (request) => request },
    }
  }
  const profile = spec.profile === undefined ? {} : { profile: spec.profile }
  if (spec.credentialsFile === undefined) return { credentials: fromNodeProviderChain(profile) }
  try {
    readFileSync(spec.credentialsFile)
  } catch (error) {
    throw new UsageError(`cannot read the credentials file: ${messageOf(error)}`, {
      cause: error,
      hint: 'It has the form of ~/.aws/credentials: [default], aws_access_key_id, aws_secret_access_key',
    })
  }
  // A file that was named goes before the environment; the default chain asks that first.
  return { credentials: fromIni({ filepath: spec.credentialsFile, ...profile }) }
}

function requestHandler(connections: number): NodeHttpHandler {
  const options = { keepAlive: true, maxSockets: connections }
  const bundle = process.env.AWS_CA_BUNDLE
  const ca = bundle === undefined ? {} : { ca: readBundle(bundle) }
  return new NodeHttpHandler({
    connectionTimeout: CONNECT_TIMEOUT_MS,
    requestTimeout: HEADERS_TIMEOUT_MS,
    throwOnRequestTimeout: true,
    httpAgent: new HttpAgent(options),
    httpsAgent: new HttpsAgent({ ...options, ...ca }),
  })
}

function readBundle(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new UsageError(`cannot read AWS_CA_BUNDLE: ${messageOf(error)}`, { cause: error })
  }
}

function checkedEndpoint(endpoint: string): string {
  const url = URL.parse(endpoint)
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '') {
    throw new UsageError(`"${endpoint}" is no endpoint`, {
      hint: 'Write http://HOST[:PORT] or https://HOST[:PORT], without credentials',
    })
  }
  return endpoint
}
