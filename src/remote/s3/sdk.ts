/**
 * The AWS SDK, loaded by require(). Imported as ES modules, its CommonJS packages are linked side by
 * side, and with Node 24 now and then one is evaluated while another is half loaded: a warning on
 * stderr, and `undefined` where a class should be.
 */
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

const s3: typeof import('@aws-sdk/client-s3') = require('@aws-sdk/client-s3')
const providers: typeof import('@aws-sdk/credential-providers') = require('@aws-sdk/credential-providers')

/** What finds out endpoint, region and session of a bucket. */
export const { HeadBucketCommand, S3Client } = s3
/** What finds credentials: in one file, or wherever the AWS tools look for them. */
export const { fromIni, fromNodeProviderChain } = providers

export type { S3ClientConfig } from '@aws-sdk/client-s3'
/** Of the class that was loaded here. */
export type S3Client = InstanceType<typeof S3Client>
