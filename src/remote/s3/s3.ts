/**
 * A bucket as a remote. An object is read with `Range` and `If-Match`: what S3 answers is then the
 * wanted bytes of the wanted version, or an error before the first byte. Answers are checked all
 * the same, since proxies and clones of S3 may ignore either header.
 */
import type { Readable } from 'node:stream'
import { showKey } from '../key.ts'
import type {
  ListOptions,
  ListPage,
  ReadRequest,
  RemoteObject,
  RemoteStore,
  S3Spec,
  Sink,
} from '../remote.ts'
import { RemoteError } from '../remote.ts'
import { formatSpec } from '../spec.ts'
import { pump } from './body.ts'
import { type ClientLimits, createClient } from './client.ts'
import { readError, requestError, statusOf } from './failure.ts'
import { isArchived, listObjects, plainEtag } from './list.ts'
import {
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  type S3Client,
} from './sdk.ts'

export interface S3Options extends Partial<ClientLimits> {
  /** False for a store that answers 412 to a true ETag: the answered ETag is compared instead. */
  ifMatch?: boolean
}

/** Returns the bucket as a remote. Throws UsageError for settings that cannot be right. */
export function openS3(spec: S3Spec, options: S3Options = {}): RemoteStore {
  const { ifMatch = true, ...limits } = options
  const client = createClient(spec, {
    connections: Number.POSITIVE_INFINITY,
    attempts: 3,
    ...limits,
  })
  return new S3Store(spec, client, ifMatch)
}

class S3Store implements RemoteStore {
  readonly spec: S3Spec
  readonly #client: S3Client
  readonly #ifMatch: boolean
  readonly #closing = new AbortController()

  constructor(spec: S3Spec, client: S3Client, ifMatch: boolean) {
    this.spec = spec
    this.#client = client
    this.#ifMatch = ifMatch
  }

  toString(): string {
    return formatSpec(this.spec)
  }

  list(options: ListOptions = {}): AsyncIterable<ListPage> {
    return listObjects(this.#client, this.spec, {
      ...options,
      signal: this.#signal(options.signal),
    })
  }

  async read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void> {
    const what = this.#name(request.key)
    const either = this.#signal(signal)
    const answer = await this.#get(request, either)
    const body = answer.Body as Readable
    const wrong = checkAnswer(answer, request)
    if (wrong !== undefined) {
      // What is left unread would hold its connection for ever.
      body.destroy()
      throw new RemoteError(wrong.failure, `${what}: ${wrong.message}`)
    }
    await pump(body, { length: request.length, what, signal: either }, sink)
  }

  async stat(key: string, signal?: AbortSignal): Promise<RemoteObject> {
    const either = this.#signal(signal)
    let head: HeadObjectCommandOutput
    try {
      head = await this.#client.send(new HeadObjectCommand(this.#named(key)), {
        abortSignal: either,
      })
    } catch (error) {
      either.throwIfAborted()
      // An answer to HEAD has no body to tell a missing object from a missing bucket or a proxy's
      // page; that to a GET has.
      if (statusOf(error) !== undefined) await this.#tryGet(key, either)
      throw requestError(error, this.#name(key))
    }
    if (head.ETag === undefined || head.ContentLength === undefined) {
      throw new RemoteError('unreachable', `${this.#name(key)}: an answer without ETag or length`)
    }
    return {
      key,
      size: head.ContentLength,
      etag: plainEtag(head.ETag),
      lastModified: head.LastModified?.getTime() ?? 0,
      archived:
        isArchived(head.StorageClass) && !/ongoing-request="false"/.test(head.Restore ?? ''),
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(new RemoteError('unreachable', `${this} was closed`))
    this.#client.destroy()
  }

  #signal(signal: AbortSignal | undefined): AbortSignal {
    const closing = this.#closing.signal
    return signal === undefined ? closing : AbortSignal.any([signal, closing])
  }

  /** Throws unless a GET finds the object. */
  async #tryGet(key: string, signal: AbortSignal): Promise<void> {
    try {
      const answer = await this.#get({ key, offset: 0, length: 1 }, signal)
      ;(answer.Body as Readable).destroy()
    } catch (error) {
      // An empty object has no first byte.
      if (!(error instanceof RemoteError) || error.failure !== 'changed') throw error
    }
  }

  async #get(request: ReadRequest, signal: AbortSignal): Promise<GetObjectCommandOutput> {
    const { key, offset, length, etag } = request
    const command = new GetObjectCommand({
      ...this.#named(key),
      Range: `bytes=${offset}-${offset + length - 1}`,
      ...(etag !== undefined && this.#ifMatch ? { IfMatch: `"${etag}"` } : {}),
    })
    try {
      return await this.#client.send(command, { abortSignal: signal })
    } catch (error) {
      signal.throwIfAborted()
      const failure = readError(error, this.#name(key))
      if (failure.failure === 'gone') await this.#assertBucket(signal)
      throw failure
    }
  }

  /**
   * Some stores say NoSuchKey of a bucket that is not there at all (SeaweedFS 4.48 does to a GET
   * with If-Match). Who may not ask learns nothing, and the answer for the key has to do.
   */
  async #assertBucket(signal: AbortSignal): Promise<void> {
    const { bucket } = this.spec
    try {
      const command = new HeadBucketCommand({ Bucket: bucket })
      await this.#client.send(command, { abortSignal: signal })
    } catch (error) {
      signal.throwIfAborted()
      if (statusOf(error) === 403) return
      throw requestError(error, `bucket ${bucket}`)
    }
  }

  #named(key: string): { Bucket: string; Key: string; RequestPayer?: 'requester' } {
    const { bucket, requestPayer } = this.spec
    return { Bucket: bucket, Key: key, ...(requestPayer ? { RequestPayer: requestPayer } : {}) }
  }

  #name(key: string): string {
    return `s3://${this.spec.bucket}/${showKey(key)}`
  }
}

type Wrong = Pick<RemoteError, 'failure' | 'message'>

/** Returns what is wrong with the headers of an answer to a GET, if anything is. */
function checkAnswer(answer: GetObjectCommandOutput, request: ReadRequest): Wrong | undefined {
  const { offset, length, etag, size } = request
  const end = offset + length - 1
  if (answer.ETag === undefined) {
    return { failure: 'unreachable', message: 'an answer without an ETag, not from S3' }
  }
  if (etag !== undefined && plainEtag(answer.ETag) !== etag) {
    return { failure: 'changed', message: `its ETag is ${answer.ETag}, not "${etag}"` }
  }
  const range = rangeOf(answer)
  if (range === undefined) {
    return { failure: 'unreachable', message: 'an answer that does not say which bytes it holds' }
  }
  if (size !== undefined && range.total !== size) {
    return { failure: 'changed', message: `it has ${range.total} bytes, not ${size}` }
  }
  if (range.start === offset && range.end === end) return undefined
  // A range that was cut short means that the object ends there.
  const isShort = range.start === offset && range.end < end && range.end === range.total - 1
  return {
    failure: isShort ? 'changed' : 'unreachable',
    message: `asked for bytes ${offset}-${end}, the store sent ${range.start}-${range.end}`,
  }
}

interface AnsweredRange {
  start: number
  /** The last byte, not the one behind it. */
  end: number
  total: number
}

/** A store may answer a range that is the whole object with 200 and no Content-Range. */
function rangeOf(answer: GetObjectCommandOutput): AnsweredRange | undefined {
  const { ContentRange, ContentLength: total, $metadata } = answer
  const [, first, last, of] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(ContentRange ?? '') ?? []
  if (of !== undefined) return { start: Number(first), end: Number(last), total: Number(of) }
  if ($metadata.httpStatusCode !== 200 || total === undefined) return undefined
  return { start: 0, end: total - 1, total }
}
