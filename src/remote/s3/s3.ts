/** A bucket as a remote. */
import type {
  ListOptions,
  ListPage,
  RangeSupport,
  ReadRequest,
  RemoteObject,
  RemoteStore,
  RequestCounts,
  S3Spec,
  Sink,
} from '../remote.ts'
import { RemoteError } from '../remote.ts'
import { formatSpec } from '../spec.ts'
import { type AccessQuery, type AskAccess, isAmazon } from './access.ts'
import { isRequestFailure, requestError, statusOf } from './failure.ts'
import type { HttpAnswer } from './http.ts'
import { listObjects } from './list.ts'
import { isArchived, plainEtag } from './object-meta.ts'
import { S3Reader, type S3ReaderOptions } from './reader.ts'
import { isTransient } from './s3-error.ts'
import { sdkAccess } from './sdk-access.ts'

/** Returns the bucket as a remote. Throws UsageError for settings that cannot be right. */
export function openS3(spec: S3Spec, options: S3ReaderOptions = {}): RemoteStore {
  const ask = sdkAccess(spec)
  return new S3Store(spec, ask, new S3Reader(spec, ask, options))
}

/** Has a listing tell which archived objects are restored. Other stores may refuse what they do not know. */
const WITH_RESTORED = { 'x-amz-optional-object-attributes': 'RestoreStatus' }

class S3Store implements RemoteStore {
  readonly spec: S3Spec
  readonly #ask: AskAccess
  readonly #reader: S3Reader
  #isAmazons: Promise<boolean> | undefined

  constructor(spec: S3Spec, ask: AskAccess, reader: S3Reader) {
    this.spec = spec
    this.#ask = ask
    this.#reader = reader
  }

  toString(): string {
    return formatSpec(this.spec)
  }

  list(options: ListOptions = {}): AsyncIterable<ListPage> {
    const { bucket } = this.#reader
    return listObjects(
      async (query, begin, ended, signal) => {
        const headers = (await this.#isPlainAmazon()) ? WITH_RESTORED : {}
        return bucket.send({ method: 'GET', query, headers, ended }, () => begin(), signal)
      },
      this.spec,
      options,
    )
  }

  read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void> {
    return this.#reader.read(request, sink, signal)
  }

  async ranges(): Promise<RangeSupport> {
    if (isDirectoryBucket(this.spec.bucket)) return 'none'
    return (await this.#isPlainAmazon()) ? 'sure' : 'likely'
  }

  /** False also where that cannot be found out: whoever asks the bucket then hears why. */
  #isPlainAmazon(): Promise<boolean> {
    const { bucket } = this.spec
    const isPlain = isPlainBucket(bucket) && !isDirectoryBucket(bucket)
    // The endpoint may be set in the environment, or in a profile.
    this.#isAmazons ??= this.#ask({}).then(
      ({ origin }) => isPlain && isAmazon(origin),
      () => false,
    )
    return this.#isAmazons
  }

  async stat(key: string, signal?: AbortSignal): Promise<RemoteObject> {
    const what = this.#reader.name(key)
    const { headers } = await this.#head(key, signal)
    const size = Number(headers['content-length'] ?? Number.NaN)
    if (headers.etag === undefined || !Number.isSafeInteger(size)) {
      throw new RemoteError('unreachable', `${what}: an answer without ETag or length`)
    }
    return {
      key,
      size,
      etag: plainEtag(headers.etag),
      lastModified: Date.parse(headers['last-modified'] ?? '') || 0,
      archived: isArchivedAnswer(headers),
    }
  }

  async #head(key: string, signal: AbortSignal | undefined, again = true): Promise<HttpAnswer> {
    let head: HttpAnswer | undefined
    try {
      await this.#reader.bucket.send(
        { method: 'HEAD', key },
        (answer) => {
          head = answer
          return () => {}
        },
        signal,
      )
      return head!
    } catch (error) {
      if (!isRequestFailure(error)) throw error
      // An answer to HEAD has no body to tell a missing object from a missing bucket or a proxy's
      // page; that to a GET has.
      if (statusOf(error) === undefined) throw requestError(error, this.#reader.name(key))
      await this.#tryGet(key, signal)
      // Nor does it tell a store that is overloaded, which the GET has waited for.
      if (again && isTransient(error)) return await this.#head(key, signal, false)
      throw requestError(error, this.#reader.name(key))
    }
  }

  /** Throws unless a GET finds the object. */
  async #tryGet(key: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.read({ key, offset: 0, length: 1 }, () => {}, signal)
    } catch (error) {
      // An empty object has no first byte.
      if (!(error instanceof RemoteError) || error.failure !== 'changed') throw error
    }
  }

  async access(query: unknown): Promise<unknown> {
    return await this.#ask(query as AccessQuery)
  }

  requests(): Readonly<RequestCounts> {
    return this.#reader.requests()
  }

  async close(): Promise<void> {
    await this.#reader.close()
  }
}

/** Intelligent-Tiering archives objects without giving them another class. */
function isArchivedAnswer(headers: HttpAnswer['headers']): boolean {
  const isCold =
    isArchived(headers['x-amz-storage-class'] as string | undefined) ||
    headers['x-amz-archive-status'] !== undefined
  return isCold && !/ongoing-request="false"/.test(String(headers['x-amz-restore']))
}

/** Of S3 Express One Zone: it lists in no order, and knows no start-after (S3 API, ListObjectsV2). */
function isDirectoryBucket(bucket: string): boolean {
  return /--xa?-s3$/.test(bucket)
}

/** False for ARNs and aliases behind which a program answers (S3 Object Lambda). */
function isPlainBucket(bucket: string): boolean {
  return !bucket.includes(':') && !bucket.endsWith('--ol-s3')
}
