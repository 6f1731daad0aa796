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
  /** What is pending has waited for long enough. */
  #isDue = false
  /** Settles, and never fails, when the batch that is being written is. */
  #writing: Promise<void> | undefined
  #failure: unknown

  constructor(recorder: Recorder) {
    this.#recorder = recorder
  }

  /**
   * Takes a change. Returns a promise where a full batch waits for the one that is being written: until it
   * resolves, add nothing, or what waits for a slow disk takes all memory. Throws what an earlier batch failed
   * with: nothing more is written then.
   */
  add(change: Change): Promise<void> | undefined {
    this.#throwFailure()
    this.#pending.push(change)
    this.#weight += Math.max(1, segmentCount((change.after ?? change.before)!.size))
    this.#timer ??= setTimeout(() => this.#due(), MAX_AGE_MS)
    this.#begin()
    return this.#isFull ? this.#writing : undefined
  }

  /** Resolves once everything is recorded. Throws what failed. */
  async flush(): Promise<void> {
    while (this.#pending.length > 0 && this.#failure === undefined) {
      this.#due()
      await this.#writing
    }
    await this.#writing
    this.#throwFailure()
  }

  get #isFull(): boolean {
    return this.#weight >= FULL
  }

  #due(): void {
    this.#isDue = true
    this.#begin()
  }

  /** Writes what is pending, if it is time, and nothing is being written. */
  #begin(): void {
    const isTime = this.#isFull || this.#isDue
    if (!isTime || this.#writing !== undefined || this.#failure !== undefined) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#isDue = false
    const batch = this.#pending
    this.#pending = []
    this.#weight = 0
    this.#writing = Promise.resolve()
      .then(() => this.#recorder.record(batch))
      .catch((error) => {
        this.#failure = error
      })
      .then(() => {
        this.#writing = undefined
        this.#begin()
      })
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure
  }
}
