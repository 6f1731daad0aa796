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

/** Why the slower one of two is ended. */
class Outrun extends Error {}

class Runner {
  readonly source: BlockSource
  readonly begun = performance.now()
  attempt: Attempt | undefined

  constructor(source: BlockSource) {
    this.source = source
  }

  async outcome(): Promise<Outcome> {
    return { source: this.source, error: await this.attempt!.ended }
  }
}

class Race {
  readonly #parts: RaceParts
  /** The one whose first byte came first. */
  #leader: Runner | undefined
  /** Both of these are under way. */
  #contest: { first: Runner; second: Runner } | undefined
  /** Resolves when the first one has brought a byte, or has ended. */
  readonly #heard = Promise.withResolvers<undefined>()
  #isHeard = false

  constructor(parts: RaceParts) {
    this.#parts = parts
  }

  async run(source: BlockSource): Promise<Outcome> {
    const first = new Runner(source)
    this.#start(first)
    const rival = await this.#rivalOf(source)
    if (rival === undefined) return first.outcome()
    const second = new Runner(rival)
    this.#contest = { first, second }
    this.#start(second)
    const ended = await Promise.race([first, second].map((each) => each.outcome().then(() => each)))
    if (this.#leader === undefined) await this.#failed(ended)
    return (this.#leader ?? (ended === first ? second : first)).outcome()
  }

  #start(runner: Runner): void {
    runner.attempt = this.#parts.begin(runner.source, () => {
      if (this.#leader === undefined) this.#lead(runner)
      else if (this.#leader !== runner) throw new Outrun('another place was faster')
    })
    const onEnd = () => this.#hear()
    runner.attempt.ended.then(onEnd, onEnd)
  }

  #hear(): void {
    this.#isHeard = true
    this.#heard.resolve(undefined)
  }

  /** Waits until it is time for another place, and returns which; undefined if there is no need. */
  async #rivalOf(source: BlockSource): Promise<BlockSource | undefined> {
    const { hedging, walk } = this.#parts
    const delay = hedging?.delay(source)
    if (hedging === undefined || delay === undefined) return undefined
    if (!(await this.#isLate(delay))) return undefined
    const place = await Promise.race([walk.peek(), this.#heard.promise])
    const isThere = place !== undefined || source.inParts === true
    if (this.#isHeard || !isThere || !hedging.begin()) return undefined
    return place === undefined ? source : walk.take(place)
  }

  async #isLate(delay: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<true>()
    const timer = setTimeout(() => resolve(true), delay)
    const isLate = await Promise.race([promise, this.#heard.promise])
    clearTimeout(timer)
    return isLate === true
  }

  /** The first byte is there: whoever else is under way is ended, before it could bring another one. */
  #lead(leader: Runner): void {
    const { hedging, walk, onHedge } = this.#parts
    this.#leader = leader
    this.#hear()
    hedging?.answered(leader.source, performance.now() - leader.begun)
    if (this.#contest === undefined) return
    const { first, second } = this.#contest
    const won = leader === second
    ;(won ? first : second).attempt?.stop(new Outrun('another place was faster'))
    if (won) hedging?.won()
    if (first.source !== second.source) {
      if (won) walk.outrun(first.source)
      else walk.tryNext(second.source)
    }
    onHedge?.({ source: String(first.source), rival: String(second.source), won })
  }

  /** One of two has failed before any byte came: the other one is alone. */
  async #failed(runner: Runner): Promise<void> {
    this.#contest = undefined
    const { source, error } = await runner.outcome()
    const { walk, offset } = this.#parts
    if (error !== undefined) walk.failed(source, error.failure, offset, error.message)
  }
}
