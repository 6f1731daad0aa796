/** ListObjectsV2, page by page. */

import { keyFromBytes, showKey } from '../key.ts'
import { type ListOptions, type ListPage, RemoteError, type S3Spec } from '../remote.ts'
import { requestError } from './failure.ts'
import { ListObjectsV2Command, type ListObjectsV2CommandOutput, type S3Client } from './sdk.ts'

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
  const what = `listing s3://${spec.bucket}/${showKey(prefix)}`
  let token: string | undefined
  do {
    const answer = await ask(client, spec, { prefix, token, signal: options.signal, what })
    const page = pageOf(answer, what)
    // A store or proxy that leaves the prefix out would have us index what nobody asked for.
    const stray = [...page.objects, ...page.unlisted].find(({ key }) => !key.startsWith(prefix))
    if (stray !== undefined) {
      const named = `the store names "${showKey(stray.key)}", which was not asked for`
      throw new RemoteError('unreachable', `${what}: ${named}`)
    }
    yield page
    const next = answer.IsTruncated ? answer.NextContinuationToken : undefined
    if (answer.IsTruncated && (next === undefined || next === token)) {
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
    ask.signal?.throwIfAborted()
    throw requestError(error, ask.what)
  }
  // A page of something else, a proxy's greeting with status 200, does not say that it is the last.
  if (page.IsTruncated === undefined) {
    throw new RemoteError('unreachable', `${ask.what}: the answer is no listing`)
  }
  return page
}

function pageOf(answer: ListObjectsV2CommandOutput, what: string): ListPage {
  const page: ListPage = { objects: [], unlisted: [] }
  const decode = answer.EncodingType === 'url' ? decodeKey : (key: string) => key
  for (const { Key, Size, ETag, LastModified, StorageClass } of answer.Contents ?? []) {
    const key = Key && decode(Key)
    const hasSize = Number.isSafeInteger(Size) && Size! >= 0
    if (!key || !hasSize || !ETag) {
      const named = showKey(key ?? Key ?? 'an object')
      throw new RemoteError('unreachable', `${what}: ${named} without its key, size or ETag`)
    }
    if (!key.isWellFormed()) {
      page.unlisted.push({ key, reason: 'its key is not UTF-8, which S3 cannot be asked for' })
      continue
    }
    page.objects.push({
      key,
      size: Size!,
      etag: plainEtag(ETag),
      lastModified: LastModified?.getTime() ?? 0,
      archived: isArchived(StorageClass),
    })
  }
  return page
}

/** Form encoding, as S3 does it: `+` is a space. Undefined where the text is no such thing. */
function decodeKey(encoded: string): string | undefined {
  const text = encoded.replaceAll('+', ' ')
  if (/%(?![0-9a-f]{2})/i.test(text)) return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    const parts = text.split(/%(..)/)
    // Every second part is what the parentheses caught.
    const bytes = parts.map((part, i) => Buffer.from(part, i % 2 === 1 ? 'hex' : 'utf8'))
    return keyFromBytes(Buffer.concat(bytes))
  }
}
