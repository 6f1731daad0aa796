/** ListObjectsV2, page by page. */
import {
  type _Object,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3'
import {
  type ListOptions,
  type ListPage,
  RemoteError,
  type RemoteObject,
  type S3Spec,
} from '../remote.ts'
import { requestError } from './failure.ts'

/** Storage classes whose objects must be restored before they can be read. */
const ARCHIVED = new Set(['GLACIER', 'DEEP_ARCHIVE'])

/** True where objects of the storage class cannot be read as they lie. */
export function isArchived(storageClass: string | undefined): boolean {
  return storageClass !== undefined && ARCHIVED.has(storageClass)
}

/** Returns an ETag without its quotes and without the mark of a weak one. */
export function plainEtag(etag: string | undefined): string {
  return (etag ?? '').replace(/^W\//, '').replace(/^"(.*)"$/, '$1')
}

/** Yields the listing's pages; throws RemoteError unless it came to its end. */
export async function* listObjects(
  client: S3Client,
  spec: S3Spec,
  options: ListOptions,
): AsyncIterable<ListPage> {
  const prefix = narrower(spec.prefix ?? '', options.prefix ?? '')
  if (prefix === undefined) return
  const what = `listing s3://${spec.bucket}/${prefix}`
  let token: string | undefined
  do {
    const page = await ask(client, spec, { prefix, token, signal: options.signal, what })
    yield { objects: objectsOf(page), unlisted: [] }
    const next = page.IsTruncated ? page.NextContinuationToken : undefined
    if (page.IsTruncated && (next === undefined || next === token)) {
      throw new RemoteError('unreachable', `${what}: the store says there is more, and not where`)
    }
    token = next
  } while (token !== undefined)
}

/** Of two prefixes that both hold, the longer one; undefined where no key can have both. */
function narrower(a: string, b: string): string | undefined {
  if (a.startsWith(b)) return a
  return b.startsWith(a) ? b : undefined
}

interface Ask {
  prefix: string
  token: string | undefined
  signal: AbortSignal | undefined
  what: string
}

async function ask(client: S3Client, spec: S3Spec, ask: Ask): Promise<ListObjectsV2CommandOutput> {
  const command = new ListObjectsV2Command({
    Bucket: spec.bucket,
    Prefix: ask.prefix,
    // XML cannot hold every byte that a key can.
    EncodingType: 'url',
    ...(ask.token === undefined ? {} : { ContinuationToken: ask.token }),
    ...(spec.requestPayer ? { RequestPayer: spec.requestPayer } : {}),
  })
  let page: ListObjectsV2CommandOutput
  try {
    page = await client.send(command, ask.signal ? { abortSignal: ask.signal } : {})
  } catch (error) {
    throw requestError(error, ask.what)
  }
  // A page of something else, a proxy's greeting with status 200, has no name of a bucket.
  if (page.Name === undefined && page.KeyCount === undefined && page.IsTruncated === undefined) {
    throw new RemoteError('unreachable', `${ask.what}: the answer is no listing`)
  }
  return page
}

function objectsOf(page: ListObjectsV2CommandOutput): RemoteObject[] {
  const decode = page.EncodingType === 'url' ? decodeKey : (key: string) => key
  return (page.Contents ?? []).map((entry) => objectOf(entry, decode))
}

function objectOf(entry: _Object, decode: (key: string) => string): RemoteObject {
  const { Key, Size, ETag, LastModified, StorageClass } = entry
  if (Key === undefined || Size === undefined || ETag === undefined) {
    throw new RemoteError('unreachable', `a listing names an object without key, size or ETag`)
  }
  return {
    key: decode(Key),
    size: Size,
    etag: plainEtag(ETag),
    lastModified: LastModified?.getTime() ?? 0,
    archived: isArchived(StorageClass),
  }
}

/** Form encoding, as S3 does it: `+` is a space. */
function decodeKey(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll('+', ' '))
  } catch (error) {
    throw requestError(error, `a listing names the key ${key}, which is not URL-encoded`)
  }
}
