/** What a cluster signs locators with. */
import { UsageError } from '../errors.ts'
import { DEFAULT_SIGNING_TTL, type SigningKey } from '../keep/signature.ts'
import type { ClusterConfig } from './cluster-config.ts'
import { parseDuration } from './duration.ts'

/**
 * Returns the key, of KEEPGW_BLOB_SIGNING_KEY before the configuration, and the TTL, of `ttl` (a Go
 * duration) before the configuration; of a second's fraction nothing is signed. Undefined where the
 * cluster does not sign: BlobSigning is off, or nobody says anything. Throws UsageError.
 */
export function signingKeyOf(
  cluster: ClusterConfig | undefined,
  env: NodeJS.ProcessEnv,
  ttl: string | undefined,
): SigningKey | undefined {
  const key = env.KEEPGW_BLOB_SIGNING_KEY || cluster?.blobSigningKey
  if (cluster?.blobSigning === false) return undefined
  if (key !== undefined) return { key, ttl: signingTtl(cluster, ttl) }
  if (cluster === undefined) return undefined
  throw new UsageError(`${cluster.file}: Collections.BlobSigningKey is missing`, {
    hint: 'Set it there or in KEEPGW_BLOB_SIGNING_KEY; or set Collections.BlobSigning to false, if the cluster does not sign',
  })
}

/** As signingKeyOf(), for whoever must sign. Throws UsageError where the cluster does not. */
export function requireSigningKey(
  cluster: ClusterConfig | undefined,
  env: NodeJS.ProcessEnv,
  ttl: string | undefined,
): SigningKey {
  const signing = signingKeyOf(cluster, env, ttl)
  if (signing !== undefined) return signing
  if (cluster !== undefined) {
    throw new UsageError(`${cluster.file}: Collections.BlobSigning is false`, {
      hint: 'This cluster does not sign: leave --sign out',
    })
  }
  throw new UsageError('there is no key to sign with', {
    hint: 'Name the cluster’s configuration with --config, or set KEEPGW_BLOB_SIGNING_KEY to its Collections.BlobSigningKey',
  })
}

function signingTtl(cluster: ClusterConfig | undefined, text: string | undefined): number {
  if (!text) return cluster?.blobSigningTtl ?? DEFAULT_SIGNING_TTL
  const seconds = Math.floor(parseDuration(text) ?? 0)
  if (seconds > 0) return seconds
  throw new UsageError(`--blob-signing-ttl ${text} is no duration of a second or more`, {
    hint: 'Write 336h, also in KEEPGW_BLOB_SIGNING_TTL',
  })
}
