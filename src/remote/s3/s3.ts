/**
 * A bucket as a remote. An object is read with `Range` and `If-Match`: what S3 answers is then the
 * wanted bytes of the wanted version, or an error before the first byte. Answers are checked all
 * the same, since proxies and clones of S3 may ignore either header.
 */
import type { Readable } from 'node:stream'
import {
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadBucketCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3'
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
import { createClient } from './client.ts'
import { readError, requestError, statusOf } from './failure.ts'
import { isArchived, listObjects, plainEtag } from './list.ts'

export interface S3Options {
  ifMatch?: boolean
  connections?: number
  attempts?: number
}

/** Returns the bucket as a remote. Throws UsageError for settings that cannot be right. */
export function openS3(spec: S3Spec, options: S3Options = {}): RemoteStore {
  const { connections = 32, attempts = 3, ifMatch = true } = options
  return new S3Store(spec, createClient(spec, { connections, attempts }), ifMatch)
}

class S3Store implements RemoteStore {
  readonly spec: S3Spec
  readonly #client: S3Client
  readonly #ifMatch: boolean

  constructor(spec: S3Spec, client: S3Client, ifMatch: boolean) {
    this.spec = spec
    this.#client = client
    this.#ifMatch = ifMatch
  }

  toString(): string {
    return formatSpec(this.spec)
  }

  list(options: ListOptions = {}): AsyncIterable<ListPage> {
    return listObjects(this.#client, this.spec, options)
  }

  async read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void> {
    const what = this.#name(request.key)
    const answer = await this.#get(request, signal)
    const body = answer.Body as Readable
    const wrong = checkAnswer(answer, request)
    if (wrong !== undefined) {
      // What is left unread would hold its connection for ever.
      body.destroy()
      throw new RemoteError(wrong.failure, `${what}: ${wrong.message}`)
    }
    await pump(body, { length: request.length, what, ...(signal ? { signal } : {}) }, sink)
  }

  async stat(key: string, signal?: AbortSignal): Promise<RemoteObject> {
    let head: HeadObjectCommandOutput
    try {
      const command = new HeadObjectCommand(this.#named(key))
      head = await this.#client.send(command, signal ? { abortSignal: signal } : {})
    } catch (error) {
      // An answer to HEAD has no body to tell a missing object from a missing bucket or a proxy's
      // page; that to a GET has.
      if (statusOf(error) !== undefined) await this.#tryGet(key, signal)
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
      archived: isArchived(head.StorageClass),
    }
  }

  async close(): Promise<void> {
    this.#client.destroy()
  }

  async #tryGet(key: string, signal?: AbortSignal): Promise<void> {
    const answer = await this.#get({ key, offset: 0, length: 1 }, signal)
    ;(answer.Body as Readable).destroy()
  }

  async #get(request: ReadRequest, signal?: AbortSignal): Promise<GetObjectCommandOutput> {
    const { key, offset, length, etag } = request
    const command = new GetObjectCommand({
      ...this.#named(key),
      Range: `bytes=${offset}-${offset + length - 1}`,
      ...(etag !== undefined && this.#ifMatch ? { IfMatch: `"${etag}"` } : {}),
    })
    try {
      return await this.#client.send(command, signal ? { abortSignal: signal } : {})
    } catch (error) {
      const failure = readError(error, this.#name(key))
      if (failure instanceof RemoteError && failure.failure === 'gone') {
        await this.#assertBucket(signal)
      }
      throw failure
    }
  }

  /**
   * Some stores say NoSuchKey of a bucket that is not there at all (SeaweedFS 4.48 does to a GET
   * with If-Match). Who may not ask learns nothing, and the answer for the key has to do.
   */
  async #assertBucket(signal?: AbortSignal): Promise<void> {
    const { bucket } = this.spec
    try {
      const command = new HeadBucketCommand({ Bucket: bucket })
      await this.#client.send(command, signal ? { abortSignal: signal } : {})
    } catch (error) {
      if (statusOf(error) === 403) return
      throw requestError(error, `bucket ${bucket}`)
    }
  }

  #named(key: string): { Bucket: string; Key: string; RequestPayer?: 'requester' } {
    const { bucket, requestPayer } = this.spec
    return { Bucket: bucket, Key: key, ...(requestPayer ? { RequestPayer: requestPayer } : {}) }
  }

  #name(key: string): string {
    return `s3://${this.spec.bucket}/${key}`
  }
}

type Wrong = Pick<RemoteError, 'failure' | 'message'>

/** Returns what is wrong with the headers of an answer to a GET, if anything is. */
function checkAnswer(answer: GetObjectCommandOutput, request: ReadRequest): Wrong | undefined {
  const { offset, length, etag, size } = request
  if (answer.ETag === undefined) {
    return { failure: 'unreachable', message: 'an answer without an ETag, not from S3' }
  }
  if (etag !== undefined && plainEtag(answer.ETag) !== etag) {
    return { failure: 'changed', message: `its ETag is ${answer.ETag}, not "${etag}"` }
  }
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(answer.ContentRange ?? '')
  // A store may answer a range that is the whole object with 200 and no Content-Range.
  const whole = { start: 0, end: (answer.ContentLength ?? 0) - 1, total: answer.ContentLength ?? 0 }
  const { start, end, total } = range
    ? { start: Number(range[1]), end: Number(range[2]), total: Number(range[3]) }
    : whole
  if (size !== undefined && total !== size) {
    return { failure: 'changed', message: `it has ${total} bytes, not ${size}` }
  }
  if (start === offset && end === offset + length - 1) return undefined
  const message = `asked for bytes ${offset}-${offset + length - 1}, the store sent ${start}-${end}`
  // A range that was cut short means that the object ends there.
  return {
    failure: range && start === offset && end < offset + length ? 'changed' : 'unreachable',
    message,
  }
}
