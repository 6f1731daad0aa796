/** A volume of blocks that lie in objects: a mapping says where, a remote store holds them. */
import { messageOf } from '../errors.ts'
import type { MappingDescription } from '../mapping/description.ts'
import { type MappingReader, MappingUnreachable, type Place } from '../mapping/mapping.ts'
import type { ProofJournal } from '../mapping/proofs.ts'
import { showKey } from '../remote/key.ts'
import { RemoteError, type RemoteSpec, type RemoteStore, type Sink } from '../remote/remote.ts'
import type { BlockSource, IndexedBlock, Volume } from './volume.ts'

/** A mapping, and how to reach what it is of. */
export interface MappedVolumeParts {
  /**
   * By default not `default`: keep-balance would trash Keep's own copy of a block and rely on an
   * object that its owner may change.
   */
  storageClasses?: readonly string[] | undefined
  mapping: MappingReader
  /** Where to note which trusted places were proven; nowhere if it is left out. */
  proofs?: ProofJournal
  /** What the mapping is of, as it was read at the start. */
  description: MappingDescription
  /** Reads the description anew: an index run may have learnt something since. */
  readDescription(): Promise<MappingDescription>
  /** Opens the remote, with this server's credentials. */
  openRemote(options: { ifMatch: boolean }): RemoteStore
}

/** Safe for concurrent use, also while an index run writes to the mapping. */
export class MappedVolume implements Volume {
  readonly deviceId: string
  readonly allowWrite = false
  readonly allowTrash = false
  readonly replication = 1
  /** Never `default` unasked: keep-balance would trash Keep's own copies and rely on this one. */
  readonly storageClasses: readonly string[]
  readonly #parts: MappedVolumeParts
  readonly #opened: RemoteStore[] = []
  #ifMatch: boolean

  constructor(parts: MappedVolumeParts) {
    this.deviceId = deviceIdOf(parts.description.remote)
    this.storageClasses = parts.storageClasses ?? ['keepgw']
    this.#parts = parts
    this.#ifMatch = parts.description.ifMatch
    this.#opened.push(parts.openRemote({ ifMatch: this.#ifMatch }))
  }

  /** What its objects are: those of a bucket, or the files of a directory. */
  get kind(): RemoteSpec['kind'] {
    return this.#parts.description.remote.kind
  }

  /** The store that reads go to. */
  get remote(): RemoteStore {
    return this.#opened.at(-1)!
  }

  toString(): string {
    return `${this.remote} by ${this.#parts.mapping}`
  }

  /** As Volume.sources: the mapping's places, whatever has become of their objects since. */
  async *sources(hash: string): AsyncIterable<BlockSource> {
    try {
      for await (const place of this.#parts.mapping.places(hash)) {
        yield new MappedSource(this, hash, place)
      }
    } catch (error) {
      throw unreachable(error)
    }
  }

  /**
   * Yields the blocks in order of their hashes. Throws RemoteError `unreachable` where the mapping cannot
   * be read.
   */
  async *blocks(prefix: string): AsyncIterable<IndexedBlock> {
    try {
      yield* this.#parts.mapping.blocks(prefix)
    } catch (error) {
      throw unreachable(error)
    }
  }

  /**
   * Asks for the first page of a listing: no object is known that could be asked for. Throws as
   * Volume.probe.
   */
  async probe(signal: AbortSignal): Promise<void> {
    for await (const _page of this.remote.list({ signal })) return
  }

  /**
   * Returns the store to ask once more after `asked` said `changed`, if there is one: an index run
   * can find out, while we serve, that the store answers 412 to true ETags.
   */
  async otherThan(asked: RemoteStore): Promise<RemoteStore | undefined> {
    if (asked === this.remote && this.#ifMatch) await this.#learn()
    return asked === this.remote ? undefined : this.remote
  }

  /** Notes that the place was found to hold the block. */
  proven(hash: string, place: Place): void {
    this.#parts.proofs?.note(hash, place)
  }

  /** Writes what proofs are pending, and closes the stores; reads under way fail. */
  async close(): Promise<void> {
    await this.#parts.proofs?.close()
    await Promise.all(this.#opened.map((remote) => remote.close()))
  }

  async #learn(): Promise<void> {
    const { ifMatch } = await this.#parts.readDescription().catch(() => this.#parts.description)
    if (ifMatch || !this.#ifMatch) return
    this.#ifMatch = false
    // Reads of other requests go on in the first one: it stays open until close().
    this.#opened.push(this.#parts.openRemote({ ifMatch: false }))
  }
}

class MappedSource implements BlockSource {
  readonly #volume: MappedVolume
  readonly #hash: string
  readonly #place: Place

  constructor(volume: MappedVolume, hash: string, place: Place) {
    this.#volume = volume
    this.#hash = hash
    this.#place = place
  }

  get trusted(): boolean {
    return this.#place.trusted === true
  }

  proven(): void {
    this.#volume.proven(this.#hash, this.#place)
  }

  get length(): number {
    return this.#place.length
  }

  toString(): string {
    const { offset, length, key } = this.#place
    // The volume, not only its bucket: two stores may have one of the same name, and only one fail.
    return `${offset}:${length}:${showKey(key)} of ${this.#volume}`
  }

  get store(): string {
    return this.#volume.deviceId
  }

  /** A store gives each connection a part of what it can; a disk has one arm for all. */
  get inParts(): boolean {
    return this.#volume.kind === 's3'
  }

  async read(from: number, sink: Sink, signal: AbortSignal, to = this.length): Promise<void> {
    const { offset, key, etag } = this.#place
    const range = { key, offset: offset + from, length: to - from, willProve: true }
    const request = etag === undefined ? range : { ...range, etag }
    const { remote } = this.#volume
    try {
      await remote.read(request, sink, signal)
    } catch (error) {
      const isUntouched = error instanceof RemoteError && error.delivered === 0
      if (!isUntouched || error.failure !== 'changed') throw error
      const other = await this.#volume.otherThan(remote)
      if (other === undefined) throw error
      await other.read(request, sink, signal)
    }
  }

  async unchanged(signal: AbortSignal): Promise<boolean> {
    const { offset, length, key, etag } = this.#place
    if (etag === undefined) return false
    const object = await this.#volume.remote.stat(key, signal)
    if (object.etag !== etag || object.size < offset + length) {
      // A file's bytes may be the same under another ETag, which a read accepts.
      if (this.#volume.kind === 'directory') return false
      throw new RemoteError('changed', `${showKey(key)} is not the object that was indexed`)
    }
    if (object.archived) {
      throw new RemoteError('unreachable', `${showKey(key)} is archived`, {
        hint: 'Restore it first',
      })
    }
    return true
  }
}

/**
 * Returns the name of the storage, the same for every server of it: `keepgw:s3://ENDPOINT/BUCKET`
 * with `/PREFIX` where there is one, or `keepgw:file:///DIR`.
 */
export function deviceIdOf(spec: RemoteSpec): string {
  if (spec.kind === 'directory') return `keepgw:file://${spec.root}`
  const endpoint = (spec.endpoint ?? 's3.amazonaws.com').replace(/^[a-z]+:\/\//i, '')
  const path = spec.prefix ? `${spec.bucket}/${spec.prefix}` : spec.bucket
  return `keepgw:s3://${endpoint.replace(/\/+$/, '').toLowerCase()}/${path}`
}

/** A mapping that cannot be read says nothing about any block. */
function unreachable(error: unknown): unknown {
  if (!(error instanceof MappingUnreachable)) return error
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return new RemoteError('unreachable', messageOf(error), { cause: error, ...hint })
}
