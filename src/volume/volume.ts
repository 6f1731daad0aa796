/**
 * A volume is what a server reads blocks from. Each volume offers *sources* of a block, places that
 * should hold it; read-block.ts goes from one to the next, also from volume to volume.
 */
import type { Sink } from '../remote/remote.ts'

/** One place that should hold a block. */
export interface BlockSource {
  /** Bytes of the whole block. */
  readonly length: number

  /** True where the block's hash was taken from an ETag, and no read has proven it since. */
  readonly trusted?: boolean

  /** Where it is, for logs and messages; the same text for the same place at every request. */
  toString(): string

  /**
   * Delivers the block's bytes from `from` to its end, or throws RemoteError (or the sink's error).
   * The bytes are not proven: the caller checks the MD5.
   */
  read(from: number, sink: Sink, signal: AbortSignal): Promise<void>

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

/** Safe for concurrent use, each method. */
export interface Volume {
  /** Names the storage behind it, the same for every server of that storage. */
  readonly deviceId: string

  toString(): string

  /**
   * Yields the sources of a block, taken lazily: a block may have a million. None means that the
   * volume does not know the hash; where that cannot be known it throws RemoteError `unreachable`.
   */
  sources(hash: string): AsyncIterable<BlockSource>

  /** Yields every block whose hash starts with `prefix`; throws when it cannot list them all. */
  blocks(prefix: string): AsyncIterable<IndexedBlock>

  close(): Promise<void>
}
