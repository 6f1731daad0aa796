/**
 * Finds out with the AWS SDK where a bucket is and who asks: profiles, SSO, roles, containers,
 * instance metadata, endpoints of all partitions, sessions of directory buckets.
 */
import { readFileSync } from 'node:fs'
import { messageOf, UsageError } from '../../errors.ts'
import type { S3Spec } from '../remote.ts'
import { checkedEndpoint } from '../spec.ts'
import type { AccessQuery, AskAccess, S3Access, S3Credentials } from './access.ts'
import { readCaBundle } from './http.ts'
import {
  fromIni,
  fromNodeProviderChain,
  HeadBucketCommand,
  S3Client,
  type S3ClientConfig,
} from './sdk.ts'

const DEFAULT_REGION = 'us-east-1'
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

type Provider = ReturnType<typeof fromNodeProviderChain>

/** Returns who answers for the bucket. Throws UsageError for settings that cannot be right. */
export function sdkAccess(spec: S3Spec): AskAccess {
  let region: Promise<string> | undefined
  const client = new S3Client({
    region: () => {
      region ??= configuredRegion(spec)
      return region
    },
    ...(spec.endpoint === undefined ? {} : { endpoint: checkedEndpoint(spec.endpoint) }),
    ...(spec.profile === undefined ? {} : { profile: spec.profile }),
    forcePathStyle: spec.pathStyle ?? spec.endpoint !== undefined,
    requestHandler: { httpsAgent: readCaBundle() },
    ...credentials(spec),
  })
  return async (query: AccessQuery) => {
    if (query.region !== undefined) region = Promise.resolve(query.region)
    return await resolveAccess(client, spec, query)
  }
}

async function resolveAccess(
  client: S3Client,
  spec: S3Spec,
  { refresh = false }: AccessQuery,
): Promise<S3Access> {
  const { endpoint, session } = await prepare(client, spec.bucket)
  const [scheme] = (endpoint.properties?.authSchemes ?? []) as AuthScheme[]
  const access = {
    origin: endpoint.url.origin,
    host: endpoint.url.host,
    path: endpoint.url.pathname.replace(/\/$/, ''),
    region: scheme?.signingRegion ?? (await client.config.region()),
    service: scheme?.signingName ?? 's3',
  }
  if (spec.anonymous) return { ...access, expires: Infinity }
  if (session !== undefined) {
    const credentials = credentialsOf(session, 'x-amz-s3session-token')
    return { ...access, credentials, expires: session.expiration?.getTime() ?? 0 }
  }
  const identity = await client.config.credentials({ forceRefresh: refresh })
  const credentials = credentialsOf(identity, 'x-amz-security-token')
  return { ...access, credentials, expires: identity.expiration?.getTime() ?? Infinity }
}

interface AuthScheme {
  signingName?: string
  signingRegion?: string
}

interface Identity {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string | undefined
  expiration?: Date | undefined
}

interface Prepared {
  endpoint: { url: URL; properties?: Record<string, unknown> }
  /** Of a directory bucket. */
  session: Identity | undefined
}

/** Lets the SDK prepare a request for the bucket, and takes it off before it is sent. */
async function prepare(client: S3Client, bucket: string): Promise<Prepared> {
  let prepared: Prepared | undefined
  const command = new HeadBucketCommand({ Bucket: bucket })
  command.middlewareStack.add(
    (_next, context) => async () => {
      prepared = {
        endpoint: context.endpointV2 as Prepared['endpoint'],
        session: context.s3ExpressIdentity as Identity | undefined,
      }
      return { output: { $metadata: {} }, response: {} }
    },
    { step: 'finalizeRequest', priority: 'high', name: 'notSent' },
  )
  await client.send(command)
  return prepared!
}

function credentialsOf(identity: Identity, tokenHeader: string): S3Credentials {
  const { accessKeyId, secretAccessKey, sessionToken } = identity
  const token = sessionToken ? { sessionToken } : {}
  return { accessKeyId, secretAccessKey, ...token, tokenHeader }
}

async function configuredRegion(spec: S3Spec): Promise<string> {
  const { AWS_REGION, AWS_DEFAULT_REGION } = process.env
  const named = spec.region || AWS_REGION || AWS_DEFAULT_REGION
  if (named) return named
  const client = new S3Client(spec.profile === undefined ? {} : { profile: spec.profile })
  try {
    return await client.config.region()
  } catch {
    return DEFAULT_REGION
  }
}

function credentials(spec: S3Spec): S3ClientConfig {
  if (spec.anonymous) {
    return {
      credentials: { accessKeyId: '', secretAccessKey: '' },
      signer: { sign: async (request) => request },
    }
  }
  // Asked again, the SDK shall look at the files again: somebody may have renewed what is in them.
  const profile = {
    ignoreCache: true,
    // It would warn of variables that a named profile goes before.
    logger: SILENT,
    ...(spec.profile === undefined ? {} : { profile: spec.profile }),
  }
  if (spec.credentialsFile === undefined) {
    const chain = fromNodeProviderChain(profile)
    const { profile: name } = spec
    return { credentials: name === undefined ? chain : naming(name, chain) }
  }
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

/** Returns a provider whose failures name the profile: the SDK's own tell of all that it has tried, but not of it. */
function naming(profile: string, provider: Provider): Provider {
  return async (identity) => {
    try {
      return await provider(identity)
    } catch (error) {
      throw Object.assign(new Error(`the profile "${profile}" gives none: ${messageOf(error)}`), {
        name: (error as Error).name,
        cause: error,
      })
    }
  }
}
