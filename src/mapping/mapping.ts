/**
 * What is remembered of a remote: for each block the places that hold it. Readers (`serve`) are
 * given the read half alone; the index writes through recorder.ts.
 */
import { KeepgwError } from '../errors.ts'

/** One place of a block: `length` bytes of the object `key` from `offset` on. */
export interface Place {
  /** Bytes from the object's start. */
  offset: number
  /** Bytes, 1 to 67,108,864. */
  length: number
  key: string
  /** What the object's ETag was when it was hashed. A line written by hand may lack it. */
  etag?: string
  /** True where the hash was taken from the ETag, and no read has proven it since. */
  trusted?: true
  /** Other `name=value` attributes of the line, kept as they are. */
  extra?: string[]
}

/** A block the mapping knows. */
export interface MappedBlock {
  /** 32 lowercase hex digits. */
  hash: string
  /** Bytes. */
  length: number
  /** When its places were last written, nanoseconds since 1970. */
  mtimeNs: bigint
}

/** The read half of a mapping. Safe for concurrent use, also while an index run writes to it. */
export interface MappingReader {
  /** Where it is, for messages. */
  toString(): string

  /**
   * Yields the places of a block as they are read; none for a hash that is not known. Bad and torn
   * lines are passed over. Throws MappingUnreachable where the mapping cannot be read, which is
   * never the same as an unknown hash.
   */
  places(hash: string): AsyncIterable<Place>

  /**
   * Yields every block whose hash starts with `prefix` (0 to 32 lowercase hex digits), in order of
   * the hash. Throws MappingUnreachable when it cannot be read to the end.
   */
  blocks(prefix?: string): AsyncIterable<MappedBlock>
}

/** The mapping's disk cannot be read: nothing is known about any block. */
export class MappingUnreachable extends KeepgwError {
  override readonly name = 'MappingUnreachable'
}
