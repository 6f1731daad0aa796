/** Counts what is asked of a volume, and what comes of it, for the metrics. */
import { type Sink, sinkInto } from '../remote/remote.ts'
import type { BlockSource, IndexedBlock, Volume } from '../volume/volume.ts'
import type { VolumeCounts } from './counters.ts'

/** A volume that counts, and is otherwise the one that it is made of. */
export class MeteredVolume implements Volume {
  readonly deviceId: string
  readonly #volume: Volume
  readonly #counts: VolumeCounts

  constructor(volume: Volume, counts: VolumeCounts) {
    this.deviceId = volume.deviceId
    this.#volume = volume
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

  close(): Promise<void> {
    return this.#volume.close()
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
