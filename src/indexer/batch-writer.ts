/** Gathers changes into batches for the recorder: one is written while the next one fills. */
import type { Change } from '../mapping/catalog-contents.ts'
import { segmentCount } from '../mapping/record.ts'
import type { Recorder } from '../mapping/recorder.ts'

/** Segments (or empty objects) of a full batch: enough that its syncs cost little beside its files. */
const FULL = 4096
/** A batch is written after this long at the latest, so that a crash costs little work. */
const MAX_AGE_MS = 5000

/** Safe for concurrent use. */
export class BatchWriter {
  readonly #recorder: Recorder
  #pending: Change[] = []
  #weight = 0
  #timer: NodeJS.Timeout | undefined
  /** Settles when no batch is being written. */
  #writing: Promise<void> = Promise.resolve()
  #failure: unknown

  constructor(recorder: Recorder) {
    this.#recorder = recorder
  }

  /**
   * Takes a change. Returns a promise where two full batches are there already, to be waited for. Throws
   * what an earlier batch failed with: nothing more is written then.
   */
  add(change: Change): Promise<void> | undefined {
    this.#throwFailure()
    this.#pending.push(change)
    this.#weight += Math.max(1, segmentCount((change.after ?? change.before)!.size))
    this.#timer ??= setTimeout(() => this.#write(), MAX_AGE_MS)
    if (this.#weight < FULL) return undefined
    const earlier = this.#writing
    this.#write()
    return earlier
  }

  /** Resolves once everything is recorded. Throws what failed. */
  async flush(): Promise<void> {
    this.#write()
    await this.#writing
    this.#throwFailure()
  }

  #write(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const batch = this.#pending
    this.#pending = []
    this.#weight = 0
    this.#writing = this.#writing.then(async () => {
      if (this.#failure !== undefined) return
      try {
        await this.#recorder.record(batch)
      } catch (error) {
        this.#failure = error
      }
    })
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}
