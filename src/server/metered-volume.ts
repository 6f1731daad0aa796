/** Counts what is asked of a volume, and what comes of it, for the metrics. */
import { type Sink, sinkInto } from '../remote/remote.ts'
import type {
  BlockSource,
  IndexedBlock,
  Stored,
  TrashOutcome,
  TrashVolume,
  Volume,
} from '../volume/volume.ts'
import type { VolumeCounts } from './counters.ts'

/** A volume that counts, and is otherwise the one that it is made of. */
export class MeteredVolume implements TrashVolume {
  readonly deviceId: string
  /** It may be one that is only read: isWritable() and hasTrash() ask it. */
  readonly #volume: TrashVolume
  readonly #counts: VolumeCounts

  constructor(volume: Volume, counts: VolumeCounts) {
    this.deviceId = volume.deviceId
    this.#volume = volume as TrashVolume
    this.#counts = counts
  }

  get allowWrite(): boolean {
    return this.#volume.allowWrite
  }

  get allowTrash(): boolean {
    return this.#volume.allowTrash
  }

  get replication(): number {
    return this.#volume.replication
  }

  get storageClasses(): readonly string[] {
    return this.#volume.storageClasses
  }

  toString(): string {
    return String(this.#volume)
  }

  /** As the volume's; what is asked of each source is counted, too. */
  async *sources(...asked: Parameters<Volume['sources']>): AsyncGenerator<BlockSource> {
    try {
      for await (const source of this.#volume.sources(...asked)) {
        yield new MeteredSource(source, this.#counts)
      }
    } catch (error) {
      throw this.#counts.failed(error)
    }
  }

  async *blocks(...asked: Parameters<Volume['blocks']>): AsyncGenerator<IndexedBlock> {
    this.#counts.operations.index += 1
    try {
      yield* this.#volume.blocks(...asked)
    } catch (error) {
      throw this.#counts.failed(error)
    }
  }

  offers(classes: readonly string[]): boolean {
    return this.#volume.offers(classes)
  }

  holds(hash: string): Promise<boolean> {
    return this.#volume.holds(hash)
  }

  passedOn(via: string): boolean {
    return this.#volume.passedOn?.(via) === true
  }

  async put(...asked: Parameters<TrashVolume['put']>): Promise<Stored> {
    const stored = await this.#counted('put', this.#volume.put(...asked))
    this.#counts.bytesOut += stored.written
    return stored
  }

  touch(hash: string): Promise<boolean> {
    return this.#counted('touch', this.#volume.touch(hash))
  }

  trash(...asked: Parameters<TrashVolume['trash']>): Promise<TrashOutcome> {
    return this.#counted('trash', this.#volume.trash(...asked))
  }

  untrash(hash: string): Promise<boolean> {
    return this.#counted('untrash', this.#volume.untrash(hash))
  }

  emptyTrash(...asked: Parameters<TrashVolume['emptyTrash']>): Promise<void> {
    return this.#volume.emptyTrash(...asked)
  }

  close(): Promise<void> {
    return this.#volume.close()
  }

  async #counted<T>(operation: keyof VolumeCounts['operations'], work: Promise<T>): Promise<T> {
    this.#counts.operations[operation] += 1
    try {
      return await work
    } catch (error) {
      throw this.#counts.failed(error)
    }
  }
}

class MeteredSource implements BlockSource {
  readonly #source: BlockSource
  readonly #counts: VolumeCounts

  constructor(source: BlockSource, counts: VolumeCounts) {
    this.#source = source
    this.#counts = counts
  }

  get length(): number {
    return this.#source.length
  }

  get trusted(): boolean {
    return this.#source.trusted === true
  }

  get measured(): boolean {
    return this.#source.measured === true
  }

  get store(): string {
    return this.#source.store
  }

  get inParts(): boolean {
    return this.#source.inParts === true
  }

  proven(): void {
    this.#source.proven?.()
  }

  toString(): string {
    return String(this.#source)
  }

  async read(from: number, sink: Sink, signal: AbortSignal, to?: number): Promise<void> {
    this.#counts.operations.get += 1
    const counting = sinkInto(sink, (chunk) => {
      this.#counts.bytesIn += chunk.length
      return sink(chunk)
    })
    try {
      await this.#source.read(from, counting, signal, to)
    } catch (error) {
      throw this.#counts.failed(error)
    }
  }

  async unchanged(signal: AbortSignal): Promise<boolean> {
    this.#counts.operations.head += 1
    try {
      return await this.#source.unchanged(signal)
    } catch (error) {
      throw this.#counts.failed(error)
    }
  }
}
