/**
 * The region that requests are signed for. The SDK follows redirects to another region too, but anew
 * for each request, and by changing the client's region meanwhile: requests side by side get in each
 * other's way.
 */

import type { S3Spec } from '../remote.ts'
import { S3Client } from './sdk.ts'

const DEFAULT_REGION = 'us-east-1'
/** It becomes part of a host's name, so nothing else may pass. */
const REGION = /^[a-z0-9-]{1,40}$/

/** Safe for concurrent use. */
export class BucketRegion {
  readonly #spec: S3Spec
  #region: Promise<string> | undefined

  constructor(spec: S3Spec) {
    this.#spec = spec
  }

  /** Returns the region that was named, or that of the AWS configuration, or S3's default. */
  get(): Promise<string> {
    const { AWS_REGION, AWS_DEFAULT_REGION } = process.env
    const named = this.#spec.region || AWS_REGION || AWS_DEFAULT_REGION
    this.#region ??= named ? Promise.resolve(named) : configuredRegion(this.#spec.profile)
    return this.#region
  }

  /** Makes a request of the client that fails for its region once more, and all others, in the right one. */
  followIn(client: S3Client): void {
    client.middlewareStack.add(
      (next) => async (args) => {
        const asked = await this.get()
        try {
          return await next(args)
        } catch (error) {
          const named = regionNamedBy(error)
          if (named === undefined || named === asked) throw error
          this.#region = Promise.resolve(named)
          return next(args)
        }
      },
      { step: 'initialize', name: 'bucketRegion' },
    )
  }
}

async function configuredRegion(profile: string | undefined): Promise<string> {
  const client = new S3Client(profile === undefined ? {} : { profile })
  try {
    return await client.config.region()
  } catch {
    return DEFAULT_REGION
  } finally {
    client.destroy()
  }
}

interface RedirectError {
  Region?: unknown
  $metadata?: { httpStatusCode?: number }
  $response?: { headers?: Record<string, string> }
}

/** Returns the bucket's region, where that is what an answer is about. */
function regionNamedBy(thrown: unknown): string | undefined {
  const error = thrown as RedirectError
  if (![301, 307, 400].includes(error.$metadata?.httpStatusCode ?? 0)) return undefined
  const region = error.$response?.headers?.['x-amz-bucket-region'] ?? error.Region
  return typeof region === 'string' && REGION.test(region) ? region : undefined
}
