/** Counts what is asked of a volume, and what comes of it, for the metrics. */
import { type Sink, sinkInto } from '../remote/remote.ts'
import type { BlockOrigin, BlockSource, IndexedBlock, Volume } from '../volume/volume.ts'
import type { VolumeCounts } from './counters.ts'

/** What is read from a volume, counted. */
export class MeteredVolume implements BlockOrigin, Pick<Volume, 'blocks'> {
  readonly #volume: Volume
  readonly #counts: VolumeCounts

  constructor(volume: Volume, counts: VolumeCounts) {
    this.#volume = volume
    this.#counts = counts
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

  /** As the volume's, counted as one operation. */
  async *blocks(prefix: string): AsyncGenerator<IndexedBlock> {
    this.#counts.operations.index += 1
    try {
      yield* this.#volume.blocks(prefix)
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
