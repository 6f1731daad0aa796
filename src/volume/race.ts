/** Asks a place for the rest of a block, and another one as well where its first byte is late. */
import type { RemoteError } from '../remote/remote.ts'
import type { Hedging } from './hedging.ts'
import type { SourceWalk } from './source-walk.ts'
import type { BlockSource } from './volume.ts'

/** A place that is being asked. */
export interface Attempt {
  /** Why it ended before its last byte, if it did. Rejects with what is not the place's fault. */
  readonly ended: Promise<RemoteError | undefined>
  /** Ends it; nothing of it is taken any more. */
  stop(reason: unknown): void
}

/** Begins to read. `onBytes` is to be called before each piece is taken; it throws where it must not be. */
export type Begin = (source: BlockSource, onBytes: () => void) => Attempt

/** How the place that came first, or that was left, has ended. */
export interface Outcome {
  source: BlockSource
  error: RemoteError | undefined
}

/** A place was asked beside another one that was slow. */
export interface Hedge {
  /** The place that was slow, as it names itself. */
  source: string
  /** The one that was asked as well; it may be the same, by another request. */
  rival: string
  /** True if the rival's first byte came first. */
  won: boolean
}

/** What a race is run with: whom to ask, for what, and when. */
export interface RaceParts {
  walk: SourceWalk
  begin: Begin
  /** Bytes of the block that were read before. */
  offset: number
  /** When to ask another place; without it, one is asked alone. */
  hedging: Hedging | undefined
  onHedge: ((hedge: Hedge) => void) | undefined
}

/** Returns how the read from `source` ended, or from whoever came first. Throws as the attempts do. */
export function race(parts: RaceParts, source: BlockSource): Promise<Outcome> {
  return new Race(parts).run(source)
}

/** Why the slower one of two is ended. One for all: where it comes from says nothing. */
const OUTRUN = new Error('another place was faster')

class Runner {
  readonly source: BlockSource
  readonly #begun = performance.now()
  readonly #attempt: Attempt
  /** Resolves when it has ended, however. */
  readonly over: Promise<undefined>
  isOver = false

  constructor(source: BlockSource, begin: (runner: Runner) => Attempt) {
    this.source = source
    this.#attempt = begin(this)
    const onEnd = (): undefined => {
      this.isOver = true
    }
    this.over = this.#attempt.ended.then(onEnd, onEnd)
  }

  /** Milliseconds since it began. */
  get age(): number {
    return performance.now() - this.#begun
  }

  async outcome(): Promise<Outcome> {
    return { source: this.source, error: await this.#attempt.ended }
  }

  stop(): void {
    this.#attempt.stop(OUTRUN)
  }
}

class Race {
  readonly #parts: RaceParts
  /** The one whose first byte came first. */
  #leader: Runner | undefined
  readonly #led = Promise.withResolvers<undefined>()
  #elder: Runner | undefined
  /** Asked beside the elder one; undefined while that is alone. */
  #rival: BlockSource | undefined
  #younger: Runner | undefined

  constructor(parts: RaceParts) {
    this.#parts = parts
  }

  async run(source: BlockSource): Promise<Outcome> {
    let runner = this.#start(source)
    for (let isFirst = true; ; isFirst = false) {
      const rival = await this.#rivalOf(runner, isFirst)
      if (rival === undefined) return runner.outcome()
      this.#elder = runner
      this.#rival = rival
      const younger = this.#start(rival)
      this.#younger = younger
      await Promise.race([runner.over, younger.over, this.#led.promise])
      this.#rival = undefined
      if (this.#leader !== undefined) return this.#leader.outcome()
      // Before any byte, one that fails leaves it all to the other.
      const [failed, left] = runner.isOver ? [runner, younger] : [younger, runner]
      await this.#failed(failed)
      // Its rival would have to be asked now.
      if (failed === runner) this.#parts.hedging?.won()
      runner = left
    }
  }

  #start(source: BlockSource): Runner {
    return new Runner(source, (runner) =>
      this.#parts.begin(source, () => {
        if (this.#leader === undefined) this.#lead(runner)
        else if (this.#leader !== runner) throw OUTRUN
      }),
    )
  }

  /** Waits until it is time for another place, and returns which; undefined if there is no need. */
  async #rivalOf(runner: Runner, isFirst: boolean): Promise<BlockSource | undefined> {
    const { hedging, walk } = this.#parts
    if (hedging === undefined) return undefined
    const isSettled = () => runner.isOver || this.#leader !== undefined
    const settled = Promise.race([runner.over, this.#led.promise])
    if (isFirst) await atMost(hedging.delay(runner.source), settled)
    if (isSettled()) return undefined
    const place = await Promise.race([walk.peek(), settled])
    // The same place twice, and no more.
    const isThere = place !== undefined || (isFirst && runner.source.inParts === true)
    if (isSettled() || !isThere || !hedging.begin()) return undefined
    return place === undefined ? runner.source : walk.take(place)
  }

  /** The first byte is there: whoever else is under way is ended, before it could bring another one. */
  #lead(leader: Runner): void {
    const { hedging, walk, onHedge } = this.#parts
    this.#leader = leader
    this.#led.resolve(undefined)
    hedging?.answered(leader.source, leader.age)
    const [elder, rival] = [this.#elder, this.#rival]
    if (elder === undefined || rival === undefined) return
    const won = leader !== elder
    if (won) elder.stop()
    else this.#younger?.stop()
    if (won) hedging?.won()
    if (elder.source !== rival && won) walk.outrun(elder.source)
    if (elder.source !== rival && !won) walk.tryNext(rival)
    onHedge?.({ source: String(elder.source), rival: String(rival), won })
  }

  async #failed(runner: Runner): Promise<void> {
    const { source, error } = await runner.outcome()
    const { walk, offset } = this.#parts
    if (error !== undefined) walk.threw(source, error, offset)
  }
}

/** Waits for the promise, but no longer than so many milliseconds. */
async function atMost(milliseconds: number, promise: Promise<unknown>): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, milliseconds)
  await Promise.race([promise, late])
  clearTimeout(timer)
}
