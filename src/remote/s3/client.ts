/** The AWS SDK's client, set up for reading: who asks, where, and with which limits. */
import { readFileSync } from 'node:fs'
import { messageOf, UsageError } from '../../errors.ts'
import type { S3Spec } from '../remote.ts'
import { type HandlerLimits, requestHandler } from './handler.ts'
import { BucketRegion } from './region.ts'
import { fromIni, fromNodeProviderChain, S3Client, type S3ClientConfig } from './sdk.ts'

export interface ClientLimits extends HandlerLimits {
  /** Times a request is made until an answer's headers are there. */
  attempts: number
}

/** Returns a client for the bucket. Throws UsageError for settings that cannot be right. */
export function createClient(spec: S3Spec, limits: ClientLimits): S3Client {
  const region = new BucketRegion(spec)
  const config: S3ClientConfig = {
    region: () => region.get(),
    // Clones of S3 stumble over the SDK's own checksums, and keepgw proves every byte itself.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: limits.attempts,
    requestHandler: requestHandler(limits),
    ...(spec.endpoint === undefined ? {} : { endpoint: checkedEndpoint(spec.endpoint) }),
    ...(spec.profile === undefined ? {} : { profile: spec.profile }),
    forcePathStyle: spec.pathStyle ?? spec.endpoint !== undefined,
    ...credentials(spec),
  }
  const client = new S3Client(config)
  region.followIn(client)
  return client
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

function checkedEndpoint(endpoint: string): string {
  const url = URL.parse(endpoint)
  const hasCredentials = url !== null && (url.username !== '' || url.password !== '')
  if (url === null || !/^https?:$/.test(url.protocol) || hasCredentials) {
    // The text may hold a password.
    const named = hasCredentials || endpoint.includes('@') ? 'the URL given' : `"${endpoint}"`
    throw new UsageError(`${named} is no endpoint`, {
      hint: 'Write http://HOST[:PORT] or https://HOST[:PORT], without credentials',
    })
  }
  return endpoint
}
