/**
 * The S3 server that tests talk to, and buckets on it that clean up after themselves.
 */
import { randomBytes } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  UploadPartCommand,
} from '@aws-sdk/client-s3'

/** A running S3 server and how to reach it. Reached by path style only. */
export interface S3Server {
  endpoint: string
  region: string
  accessKeyId: string
  secretAccessKey: string
  kind: 'seaweedfs' | 'fauxqs' | 'external'
  /** Ends the server and drops its data. A server that someone else runs is left alone. */
  stop(): Promise<void>
}

/** What a client needs of a server. */
export type S3Access = Omit<S3Server, 'stop'>

/** Why tests are skipped where sharedS3() is undefined. */
export const NO_S3 = 'needs a real S3 server; see the notice at the start of the run'

/**
 * Returns the server that test/run.ts (or the user) named in the environment, or undefined where
 * there is none: tests that need one then skip with NO_S3. Its `stop` does nothing.
 */
export function sharedS3(): S3Server | undefined {
  const env = process.env
  if (!env.KEEPGW_TEST_S3_ENDPOINT) return undefined
  return {
    endpoint: env.KEEPGW_TEST_S3_ENDPOINT,
    region: env.KEEPGW_TEST_S3_REGION ?? 'us-east-1',
    accessKeyId: env.KEEPGW_TEST_S3_ACCESS_KEY ?? '',
    secretAccessKey: env.KEEPGW_TEST_S3_SECRET_KEY ?? '',
    kind: env.KEEPGW_TEST_S3_KIND === 'seaweedfs' ? 'seaweedfs' : 'external',
    stop: async () => {},
  }
}

/** Returns the variables that make sharedS3() of a child process find this server. */
export function sharedS3Environment(server: S3Access): Record<string, string> {
  return {
    KEEPGW_TEST_S3_ENDPOINT: server.endpoint,
    KEEPGW_TEST_S3_REGION: server.region,
    KEEPGW_TEST_S3_ACCESS_KEY: server.accessKeyId,
    KEEPGW_TEST_S3_SECRET_KEY: server.secretAccessKey,
    KEEPGW_TEST_S3_KIND: server.kind,
  }
}

/** Returns a client that reports a failure instead of hiding it behind retries. */
export function connectTo(server: S3Access, maxAttempts = 2): S3Client {
  return new S3Client({
    endpoint: server.endpoint,
    region: server.region,
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
    forcePathStyle: true,
    maxAttempts,
    // Not every store knows the checksums that the SDK adds on its own.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
}

/** An object as the store lists it. */
export interface ListedObject {
  key: string
  /** Bytes. */
  size: number
  /** Without quotes. */
  etag: string
}

export interface PutResult {
  /** Without quotes. */
  etag: string
  /** The store lists the object under just the key it was given; some stores rewrite odd keys. */
  exact: boolean
}

/** A bucket of a test's own. All methods may be called concurrently, destroy() last. */
export interface TestBucket {
  readonly name: string
  readonly server: S3Access
  readonly client: S3Client
  /** Stores an object in one part. Throws what the store answers, e.g. to a key it refuses. */
  put(key: string, data: Uint8Array | string): Promise<PutResult>
  /** Stores an object in parts of `partSize` bytes (S3 asks for 5 MiB at least). */
  putLarge(key: string, data: Uint8Array, partSize?: number): Promise<PutResult>
  remove(key: string): Promise<void>
  /** Returns all objects, in the order the store lists them. */
  list(prefix?: string): Promise<ListedObject[]>
  /** Deletes the bucket with all that is in it, and closes the client. */
  destroy(): Promise<void>
}

/** Creates an empty bucket with a random name. */
export async function makeBucket(server: S3Access): Promise<TestBucket> {
  const name = `keepgw-${randomBytes(6).toString('hex')}`
  const client = connectTo(server)
  await client.send(new CreateBucketCommand({ Bucket: name }))
  const at = (key: string) => ({ Bucket: name, Key: key })
  const list = (prefix?: string) => listBucket(client, name, prefix)
  const result = async (key: string, etag = ''): Promise<PutResult> => ({
    etag: unquote(etag),
    // A plain key is taken at its word: asking for each would double the requests. The prefix
    // stops before the key's oddity: some stores answer with the prefix as it was asked for.
    exact: isPlain(key) || (await list(/^\w*/.exec(key)?.[0])).some((object) => object.key === key),
  })
  return {
    name,
    server,
    client,
    list,
    async put(key, data) {
      const Body = Buffer.from(data)
      const answer = await client.send(new PutObjectCommand({ ...at(key), Body }))
      return result(key, answer.ETag)
    },
    async putLarge(key, data, partSize = 8 << 20) {
      return result(key, await putParts(client, at(key), data, partSize))
    },
    async remove(key) {
      await client.send(new DeleteObjectCommand(at(key)))
    },
    async destroy() {
      await deleteBucket(client, name)
      client.destroy()
    },
  }
}

function unquote(etag: string): string {
  return etag.replaceAll('"', '')
}

/** True for keys that no store rewrites: words between single slashes. */
function isPlain(key: string): boolean {
  return key.length <= 255 && key.split('/').every((part) => /^\w[\w.-]*$/.test(part))
}

async function listBucket(
  client: S3Client,
  bucket: string,
  prefix: string | undefined,
): Promise<ListedObject[]> {
  const objects: ListedObject[] = []
  let token: string | undefined
  do {
    const page = await client.send(
      new ListObjectsV2Command({
        Bucket: bucket,
        EncodingType: 'url',
        Prefix: prefix,
        ContinuationToken: token,
      }),
    )
    const decode = (key: string) =>
      page.EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key
    for (const { Key = '', Size = 0, ETag = '' } of page.Contents ?? []) {
      objects.push({ key: decode(Key), size: Size, etag: unquote(ETag) })
    }
    token = page.NextContinuationToken
  } while (token !== undefined)
  return objects
}

async function putParts(
  client: S3Client,
  at: { Bucket: string; Key: string },
  data: Uint8Array,
  partSize: number,
): Promise<string | undefined> {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(at))
  const parts: { PartNumber: number; ETag: string | undefined }[] = []
  for (let offset = 0; offset < data.length || parts.length === 0; offset += partSize) {
    const PartNumber = parts.length + 1
    const Body = data.subarray(offset, offset + partSize)
    const { ETag } = await client.send(new UploadPartCommand({ ...at, UploadId, PartNumber, Body }))
    parts.push({ PartNumber, ETag })
  }
  const answer = await client.send(
    new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts: parts } }),
  )
  return answer.ETag
}

/** Some stores delete a bucket with its content at once; the others have it emptied first. */
async function deleteBucket(client: S3Client, bucket: string): Promise<void> {
  const drop = () => client.send(new DeleteBucketCommand({ Bucket: bucket }))
  try {
    await drop()
  } catch (error) {
    if (!(error instanceof S3ServiceException) || error.name !== 'BucketNotEmpty') throw error
    await emptyBucket(client, bucket)
    await drop()
  }
}

async function emptyBucket(client: S3Client, bucket: string): Promise<void> {
  const uploads = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))
  for (const { Key, UploadId } of uploads.Uploads ?? []) {
    await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }))
  }
  // One by one, as a bulk delete is XML, which cannot hold every key that S3 allows. In rounds, as
  // MinIO does not list `a/b` while there is an object `a`.
  for (let round = 0; round < 10; round++) {
    const objects = await listBucket(client, bucket, undefined)
    if (objects.length === 0) return
    for (const { key } of objects) {
      await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }))
    }
  }
}
