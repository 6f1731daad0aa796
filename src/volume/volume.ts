/**
 * A volume is what a server reads blocks from. Each volume offers *sources* of a block, places that
 * should hold it; read-block.ts goes from one to the next, also from volume to volume.
 */
import { KeepgwError } from '../errors.ts'
import { RemoteError, type Sink } from '../remote/remote.ts'

/** One place that should hold a block. */
export interface BlockSource {
  /** Bytes of the whole block. */
  readonly length: number

  /** True where the block's hash was taken from an ETag, and no read has proven it since. */
  readonly trusted?: boolean

  /** True where the length is that of what lies there now: nobody has hashed it. */
  readonly measured?: boolean

  /** Names what serves it: how fast that was for one place says what to expect of the others. */
  readonly store: string

  /** True where several reads at once, of a part each, may bring the block sooner than one. */
  readonly inParts?: boolean

  /** Where it is, for logs and messages; the same text for the same place at every request. */
  toString(): string

  /**
   * Delivers the block's bytes from `from` to its end, or up to `to` (of a source `inParts` only); or
   * throws RemoteError (or the sink's error). The bytes are not proven: the caller checks the MD5.
   */
  read(from: number, sink: Sink, signal: AbortSignal, to?: number): Promise<void>

  /**
   * Asks whether the place still holds what was hashed, without reading it: true if that is sure,
   * false if only a read can tell. Throws RemoteError (`gone`, `changed`, `unreachable`).
   */
  unchanged(signal: AbortSignal): Promise<boolean>

  /** To be called once the whole block was read from here, and its MD5 was right. */
  proven?(): void
}

/** A block as an index lists it. */
export interface IndexedBlock {
  hash: string
  /** Bytes. */
  length: number
  /** Nanoseconds since 1970. */
  mtimeNs: bigint
}

/** What a reader shows to volumes that are keep services themselves. */
export interface Reader {
  /** The locator as it was asked for, with its signature. */
  locator: string
  /** The API token, where the request has one. */
  token?: string | undefined
  /** The request's Via header: who has passed it on. */
  via?: string | undefined
}

/** What blocks are looked for in: a volume, or a cache that is asked before all volumes. */
export interface BlockOrigin {
  /** What it is, for messages; failures are remembered by it, so it stays the same. */
  toString(): string

  /**
   * Yields the sources of a block, taken lazily: a block may have a million. None means that it does
   * not know the hash; where that cannot be known it throws RemoteError `unreachable`.
   */
  sources(hash: string, reader?: Reader): AsyncIterable<BlockSource>
}

/** Safe for concurrent use, each method. */
export interface Volume extends BlockOrigin {
  /** Names the storage behind it, the same for every server of that storage. */
  readonly deviceId: string

  /** True where it takes blocks: it is a WritableVolume then. */
  readonly allowWrite: boolean

  /** True where blocks can be thrown away: it is a TrashVolume then. */
  readonly allowTrash: boolean

  /** Copies that one block in it counts for. */
  readonly replication: number

  /** The storage classes that its blocks belong to. */
  readonly storageClasses: readonly string[]

  /** True where its blocks lie in other keep services, which list them to keep-balance themselves. */
  readonly listedElsewhere?: true

  /**
   * Yields every block whose hash starts with `prefix`; throws when it cannot list them all. `via` is
   * the Via header of the request that wants to know, where there is one.
   */
  blocks(prefix: string, via?: string): AsyncIterable<IndexedBlock>

  /**
   * Asks the storage one cheap question, to see whether it can be reached. Throws RemoteError
   * `unreachable`, or the signal's reason. Only where a list of blocks does not ask the storage.
   */
  probe?(signal: AbortSignal): Promise<void>

  /** Frees what it has open. Reads under way may fail. */
  close(): Promise<void>
}

/** A block that is to be written. Its MD5 has been checked. */
export interface NewBlock {
  hash: string
  /** All of it, at most 64 MiB. Not to be changed until the write has settled. */
  data: Uint8Array
}

/** What the writer of a block asks for. */
export interface Wanted {
  /** Copies, at least 1. */
  replicas: number
  /** Storage classes that the block is to be in; any will do if there is none. */
  classes: readonly string[]
  /** The API token of the writer, for volumes that are keep services themselves. */
  token?: string | undefined
  /** The request's Via header: who has passed it on. */
  via?: string | undefined
}

/** What a write came to. */
export interface Stored {
  /** Copies, at least 1. */
  replicas: number
  /** Copies in each storage class. */
  classes: Readonly<Record<string, number>>
  /** Bytes: none where the block was there already. */
  written: number
  /** The block's locator as the service behind has answered it: signed for the writer, where it signs. */
  locator?: string | undefined
}

/** A volume that takes blocks, unless it is told to be read-only. Safe for concurrent use, each method. */
export interface WritableVolume extends Volume {
  /** True if it can put blocks into one of these classes; the volume may not know before it tries. */
  offers(classes: readonly string[]): boolean

  /** True if the block seems to be here, so that a write would cost a look at it and nothing else. */
  holds(hash: string): Promise<boolean>

  /**
   * Keeps a block; when it returns, the block outlasts a power cut. One that is here and good has
   * its time set to now instead. Throws VolumeFull, RemoteError `unreachable`, or the signal's
   * reason; then the block is whole or not here at all.
   */
  put(block: NewBlock, wanted: Wanted, signal: AbortSignal): Promise<Stored>

  /** True for a request of this Via header that this very service has passed on. */
  passedOn?(via: string): boolean

  /** Returns why it takes no block, a sentence, where that can be known without one. */
  refusal?(): Promise<string | undefined>
}

/** When a block may be thrown away, and for how long that can be taken back. */
export interface TrashPolicy {
  /** Seconds: a block that was written or touched later than that stays. It is the signatures' TTL. */
  minAge: number
  /** Seconds that a block stays in the trash; 0 deletes it at once. */
  lifetime: number
}

/** What became of a block that was to be trashed. */
export type TrashOutcome = 'trashed' | 'too-new' | 'other-mtime' | 'not-found'

/** A writable volume that can also throw blocks away. Safe for concurrent use, each method. */
export interface TrashVolume extends WritableVolume {
  /** Sets the block's time to now; false where there is none. Throws RemoteError `unreachable`. */
  touch(hash: string): Promise<boolean>

  /**
   * Moves a block to the trash, if it is old enough, and if its time is `mtimeNs` where that is
   * given. A touch that comes in between wins. Throws RemoteError `unreachable`.
   */
  trash(hash: string, policy: TrashPolicy, mtimeNs?: bigint): Promise<TrashOutcome>

  /** Takes a block back out of the trash; false where there is none. Throws as touch does. */
  untrash(hash: string): Promise<boolean>

  /**
   * Deletes what broken writes have left and, unless `trashStays`, what has been in the trash for its
   * lifetime. Throws RemoteError `unreachable` once all that can be deleted is.
   */
  emptyTrash(options?: { trashStays?: boolean }): Promise<void>
}

/** A keep service does not give the block to this reader; another token, or signature, might do. */
export class ReaderRefused extends RemoteError {
  /** What it has answered: 400, 401 or 403. */
  readonly status: number

  constructor(status: number, message: string) {
    super('unreachable', message)
    this.status = status
  }
}

/** A volume has no room for a block. */
export class VolumeFull extends KeepgwError {
  override readonly name = 'VolumeFull'
}

/** True for a volume that takes blocks. */
export function isWritable(volume: Volume): volume is WritableVolume {
  return volume.allowWrite
}

/** True for a volume that blocks can be thrown away from. */
export function hasTrash(volume: Volume): volume is TrashVolume {
  return volume.allowTrash
}
