/**
 * A remote is where objects lie: a bucket or a directory tree. This is all the rest of keepgw knows
 * about it; `s3/` and `directory/` implement it, and test/suites/remote.ts holds both to it.
 */
import { KeepgwError, type KeepgwErrorOptions, messageOf } from '../errors.ts'

/** Names a remote and how to reach it. Plain data: it travels to worker threads and into remote.json. */
export type RemoteSpec = S3Spec | DirectorySpec

/** A bucket, or the part of it below `prefix`. Credentials are named here, never held. */
export interface S3Spec {
  kind: 's3'
  bucket: string
  /** Keys are taken and given whole; the prefix only limits what is listed. */
  prefix?: string
  endpoint?: string
  region?: string
  pathStyle?: boolean
  profile?: string
  credentialsFile?: string
  /** Send requests unsigned, for public buckets. */
  anonymous?: boolean
  /** `requester`: the one who asks pays (x-amz-request-payer). */
  requestPayer?: 'requester'
}

/** Who asks: what of a bucket's spec is the asker's own business. */
export type S3Identity = Pick<S3Spec, 'profile' | 'credentialsFile' | 'anonymous'>

/** Returns the spec for somebody who asks in this way. Named credentials are sent, also where none were before. */
export function askedBy(spec: S3Spec, { profile, credentialsFile, anonymous }: S3Identity): S3Spec {
  const { anonymous: before, ...rest } = spec
  const isNamed = profile !== undefined || credentialsFile !== undefined
  const isAnonymous = anonymous ?? (!isNamed && before)
  return {
    ...rest,
    ...(profile === undefined ? {} : { profile }),
    ...(credentialsFile === undefined ? {} : { credentialsFile }),
    ...(isAnonymous ? { anonymous: true } : {}),
  }
}

/** A tree of files. Its objects are the regular files in it, their keys the paths below the root. */
export interface DirectorySpec {
  kind: 'directory'
  /** Absolute path of the tree's root. */
  root: string
}

/** An object as a listing shows it. */
export interface RemoteObject {
  /** See key.ts for how bytes that are not UTF-8 are held. */
  key: string
  /** Bytes. */
  size: number
  /** Without quotes and without a weak `W/`. Equal ETags of one key mean equal content. */
  etag: string
  /** Milliseconds since 1970. */
  readonly lastModified: number
  /** Must be restored before it can be read (Glacier, Deep Archive). */
  archived: boolean
  /** Why it cannot be indexed, where the listing shows too little of it: then `etag` or `size` says nothing. */
  readonly unreadable?: string | undefined
}

/** Something the listing met but could not look into: these keys are unknown, not gone. */
export interface Unlisted {
  /** A key, or a key prefix where it ends with `/`. */
  key: string
  reason: string
}

/** A piece of a listing. An object's place in it says nothing about its neighbours' existence. */
export interface ListPage {
  objects: RemoteObject[]
  unlisted: Unlisted[]
  /** Directories with nothing in them, each with its last `/`: they may be mount points without their disks. */
  empty?: string[]
}

/** Which part of a listing is wanted. Aborting ends it with the signal's reason. */
export interface ListOptions {
  /** Only keys that start with this. */
  prefix?: string
  /** Only what the store lists behind this key; where `ranges` is `none`, it may be left out. */
  after?: string
  signal?: AbortSignal
}

/** Requests that were made; those that failed and were made again count each time. */
export interface RequestCounts {
  list: number
  get: number
  head: number
}

/** Returns all requests of both. */
export function addRequests(a: Readonly<RequestCounts>, b: Readonly<RequestCounts>): RequestCounts {
  return { list: a.list + b.list, get: a.get + b.get, head: a.head + b.head }
}

/** A range of one object, and what the object must still be. */
export interface ReadRequest {
  key: string
  /** Bytes from the object's start. */
  offset: number
  /** Bytes, at least 1. */
  length: number
  /** The object must still have this ETag. */
  etag?: string
  /** The object must still have this many bytes. */
  size?: number
  /** The caller proves the bytes by their MD5: of a file's ETag, only size and mtime must be the same. */
  willProve?: boolean
}

/**
 * Takes the bytes of a read in order. A chunk is valid only until the sink returns (or, where it
 * returns a promise, until that settles): the memory is used again. A promise holds the reader back.
 */
export interface Sink {
  (chunk: Uint8Array): void | Promise<void>
  /**
   * Returns memory of the sink's own where it would like to have the next bytes. A reader may put
   * them there, from the start, and then pass on that part of it as the next chunk: it saves a copy.
   */
  room?: () => Uint8Array | undefined
}

/** Returns a sink of other behaviour that offers the memory of `inner`, which gets the same chunks. */
export function sinkInto(inner: Sink, take: (chunk: Uint8Array) => void | Promise<void>): Sink {
  return inner.room === undefined ? take : Object.assign(take, { room: inner.room })
}

/** Reads objects. Safe for concurrent use, each method. */
export interface RemoteReader {
  /**
   * Delivers exactly `length` bytes to the sink, or throws RemoteError; bytes that reached the sink
   * before the throw are right as far as the transport can tell (`delivered` of the error counts
   * them). Nothing reaches the sink before the answer's range, ETag and size have been checked.
   * A sink's own error is thrown as it is, after the connection has been freed.
   */
  read(request: ReadRequest, sink: Sink, signal?: AbortSignal): Promise<void>

  /** Returns what was asked up to now; nothing for a directory. */
  requests(): Readonly<RequestCounts>

  /** Frees connections. Pending calls fail. */
  close(): Promise<void>
}

/**
 * Whether a part of a listing can be asked for by `after`. `sure`: the store lists in the order of
 * the keys' bytes. `likely`: it should, and it must be seen that it does. `none`: it cannot.
 */
export type RangeSupport = 'sure' | 'likely' | 'none'

/** Safe for concurrent use, each method. */
export interface RemoteStore extends RemoteReader {
  readonly spec: RemoteSpec

  /** `s3://bucket/prefix` or `file:///dir`, for messages. */
  toString(): string

  /**
   * Lists objects below the spec's prefix and `options.prefix`, in ascending order of their keys'
   * bytes unless the store itself has another order. Ends only when the listing is complete:
   * anything else throws (RemoteError `unreachable`), also for a bucket or root that is missing.
   * No memory that grows with the number of objects.
   */
  list(options?: ListOptions): AsyncIterable<ListPage>

  /** Says what `after` is good for here. Never throws: what keeps it from knowing comes of list too. */
  ranges(): Promise<RangeSupport>

  /**
   * Looks at an object without reading it. Throws RemoteError `gone` where it does not exist and
   * `unreachable` where that cannot be known.
   */
  stat(key: string, signal?: AbortSignal): Promise<RemoteObject>

  /** Answers the questions of readers in other threads (see openReader). */
  access(query: unknown): Promise<unknown>
}

/**
 * Why a place cannot be read.
 * `gone`: the store itself says that there is no such object.
 * `changed`: the object is there, and is another one than was hashed.
 * `unreachable`: everything else; the object may be there, unharmed.
 */
export type RemoteFailure = 'gone' | 'changed' | 'unreachable'

/** An object, or a listing, that cannot be had: what that proves is in `failure` alone. */
export class RemoteError extends KeepgwError {
  override readonly name = 'RemoteError'
  readonly failure: RemoteFailure
  /** Bytes that the sink got before the failure. */
  readonly delivered: number
  /** True where the object is out of reach only until it is restored. */
  readonly archived: boolean

  constructor(
    failure: RemoteFailure,
    message: string,
    options: KeepgwErrorOptions & { delivered?: number; archived?: boolean } = {},
  ) {
    super(message, options)
    this.failure = failure
    this.delivered = options.delivered ?? 0
    this.archived = options.archived ?? false
  }
}

/** Returns what a read has thrown as the RemoteError that it is, or else as `unreachable`. */
export function asRemoteError(thrown: unknown): RemoteError {
  if (thrown instanceof RemoteError) return thrown
  return new RemoteError('unreachable', messageOf(thrown), { cause: thrown })
}
