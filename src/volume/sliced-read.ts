/**
 * Reads a block by several requests at once where one connection is slow: what a store gives to each is
 * often a part of what it can give. Where one is fast enough, nothing is copied: one request is read, and
 * the next one waits for its turn with what has come by then.
 */
import { type Sink, sinkInto } from '../remote/remote.ts'
import { Piece } from './piece.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { BlockSource } from './volume.ts'

/** Milliseconds between two looks at what a read waits for. */
const LOOK_MS = 25
/** So many looks in a row must find that it waits for the store: one may be for the first byte alone. */
const SLOW_LOOKS = 2
/** So many looks in a row at a sink that takes nothing, and what lies ahead is left to others: one second. */
const STILL_LOOKS = 1000 / LOOK_MS
/** Pieces of a request that waits for its turn: with fewer of them a store works more, with more it idles. */
const HELD_PIECES = 3
/** So many looks, and what waits for its turn is given up: five seconds, of the 60 that stores and proxies allow. */
const HELD_LOOKS = 5000 / LOOK_MS
/** Bytes per millisecond that one connection can be left alone at. */
const FAST = 200_000

/**
 * As source.read: bytes in order, one sink call at a time. What failed later on is thrown when all
 * bytes before it were delivered. When it throws, nothing is under way that would still touch the sink.
 * Safe for concurrent use with one ReadAhead.
 */
export function readSliced(
  shared: ReadAhead,
  source: BlockSource,
  from: number,
  sink: Sink,
  signal: AbortSignal,
): Promise<void> {
  if (!shared.suits(source, from)) return source.read(from, sink, signal)
  return new SlicedRead(shared, source, from, sink).run(signal)
}

/** Begins with one request after the other, and goes over to several at once as soon as that seems worth it. */
class SlicedRead {
  readonly #shared: ReadAhead
  readonly #source: BlockSource
  readonly #sink: Sink
  /** Bytes that the sink has had, as an offset in the block. */
  #at: number
  /** The first byte that was not asked for yet. */
  #next: number
  /** The piece whose turn it is. */
  #head: Piece | undefined
  readonly #ahead: Piece[] = []
  /** Those of all pieces that have one. */
  readonly #buffers = new Map<Piece, Buffer>()
  #isSlicing = false
  /** What is yet to be asked for is to be one request, unless it is sliced. */
  #isPlain = false
  #sinkIsBusy = false
  /** How things stood at the last look. */
  #last: { at: number; now: number; idle: number }
  #looks = 0
  #slowLooks = 0
  #slowInARow = 0
  #stillInARow = 0
  /** Since a request was begun that waits for its turn. */
  #heldLooks = 0

  constructor(shared: ReadAhead, source: BlockSource, from: number, sink: Sink) {
    this.#shared = shared
    this.#source = source
    this.#at = from
    this.#next = from
    this.#sink = sinkInto(sink, (chunk) => {
      this.#at += chunk.length
      const pause = sink(chunk)
      if (!this.#isSlicing && !this.#isPlain && this.#ahead.length === 0) this.#askNext()
      if (pause === undefined) return
      this.#sinkIsBusy = true
      return pause.then(() => {
        this.#sinkIsBusy = false
      })
    })
    this.#last = this.#now()
  }

  /** Delivers all, or throws what has kept it from that; nothing is under way then. */
  async run(signal: AbortSignal): Promise<void> {
    const onAbort = () => {
      for (const piece of [this.#head, ...this.#ahead]) void piece?.stop(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    const endLooks = this.#shared.clock.every(LOOK_MS, () => this.#look())
    try {
      while (this.#at < this.#source.length) {
        // A piece that has had all its bytes does not tell that it was ended.
        signal.throwIfAborted()
        await this.#advance()
      }
    } finally {
      endLooks()
      // Who was ended at once, as by a faster place, has learnt nothing of the store.
      const knows = this.#looks > 0 || this.#at === this.#source.length
      if (knows) this.#shared.note(this.#source, this.#slowLooks > this.#looks / 2)
      signal.removeEventListener('abort', onAbort)
      if (this.#isSlicing) this.#shared.leave()
      for (const piece of [this.#head, ...this.#ahead]) if (piece) this.#end(piece)
    }
  }

  /** Delivers the next piece. */
  async #advance(): Promise<void> {
    const head = this.#takeHeld() ?? this.#begin()
    this.#head = head
    if (this.#isSlicing) this.#fill()
    await head.deliver(this.#sink)
    this.#head = undefined
    this.#end(head)
  }

  /** Returns the piece whose turn it is, where it has begun. */
  #takeHeld(): Piece | undefined {
    const piece = this.#ahead.shift()
    if (piece === undefined || this.#buffers.has(piece) || !piece.hasFailed) return piece
    // A store may not wait for long with what nobody reads: it is asked once more.
    this.#ahead.unshift(piece)
    this.#unslice()
    return undefined
  }

  /** Begins the head: a piece, unless there is no memory for those behind it. */
  #begin(): Piece {
    if (!this.#isSlicing && !this.#shared.isFast(this.#source)) this.#enter()
    const isPiece = this.#isSlicing ? this.#shared.hasRoom(this.#buffers.size) : !this.#isPlain
    return this.#ask(isPiece ? this.#pieceEnd(this.#next) : this.#source.length, this.#sink)
  }

  /**
   * Begins what is next, now that the first byte of the head is there: both at once would be in each
   * other's way. No more of it is read before its turn than its first chunk.
   */
  #askNext(): void {
    const { length } = this.#source
    const { pieceBytes } = this.#shared
    if (this.#next === length) return
    const to = this.#next + HELD_PIECES * pieceBytes
    this.#ahead.push(this.#ask(to + pieceBytes < length ? to : length, undefined))
    this.#heldLooks = 0
  }

  /** The next piece has no buffer: its connection waits for its turn. */
  get #holdsNext(): boolean {
    const [next] = this.#ahead
    return next !== undefined && !this.#buffers.has(next)
  }

  /** Begins as many pieces as there may be. */
  #fill(): void {
    while (this.#next < this.#source.length) {
      const buffer = this.#shared.take(this.#buffers.size)
      if (buffer === undefined) return
      const piece = this.#ask(this.#pieceEnd(this.#next), buffer)
      this.#buffers.set(piece, buffer)
      this.#ahead.push(piece)
    }
  }

  #ask(to: number, next: Sink | Buffer | undefined): Piece {
    const from = this.#next
    this.#next = to
    return new Piece(this.#source, from, to, next)
  }

  #pieceEnd(from: number): number {
    return Math.min(this.#source.length, from + this.#shared.pieceBytes)
  }

  #end(piece: Piece): void {
    const buffer = this.#buffers.get(piece)
    this.#buffers.delete(piece)
    const stopped = piece.stop()
    if (buffer !== undefined) void stopped.then(() => this.#shared.give(buffer))
  }

  #enter(): void {
    this.#isSlicing = true
    this.#shared.enter()
  }

  /** Finds out whether more requests would help: only where it is the store that is waited for. */
  #look(): void {
    const last = this.#last
    const now = this.#now()
    this.#last = now
    const passed = now.now - last.now
    const isSlow = now.at - last.at < FAST * passed
    // Else this thread is what takes its time.
    const isIdle = now.idle - last.idle > passed / 2
    const waits = isSlow && isIdle && !this.#sinkIsBusy
    this.#looks += 1
    if (waits) this.#slowLooks += 1
    this.#slowInARow = waits ? this.#slowInARow + 1 : 0
    if (this.#slowInARow >= SLOW_LOOKS) this.#slice()
    this.#stillInARow = this.#sinkIsBusy && now.at === last.at ? this.#stillInARow + 1 : 0
    this.#heldLooks += 1
    // A client that takes nothing, or little, needs nothing ahead; and no store waits for ever.
    const isHeldLong = this.#holdsNext && this.#heldLooks >= HELD_LOOKS
    if (this.#stillInARow === STILL_LOOKS || isHeldLong) this.#unslice()
  }

  /** Goes over to pieces: the request for all the rest is ended where the first one begins. */
  #slice(): void {
    if (!this.#isSlicing) this.#enter()
    const head = this.#head
    if (head === undefined || !this.#shared.hasRoom(this.#buffers.size)) return
    if (this.#ahead.length === 0 && this.#next === this.#source.length) {
      const end = this.#pieceEnd(head.at)
      head.endAt(end)
      this.#next = end
    }
    this.#fill()
  }

  /** Gives up what lies ahead, and goes back to one request at a time. */
  #unslice(): void {
    const [first] = this.#ahead
    if (first === undefined) return
    this.#next = first.from
    for (const piece of this.#ahead.splice(0)) this.#end(piece)
    if (this.#isSlicing) this.#shared.leave()
    this.#isSlicing = false
    this.#isPlain = true
  }

  #now() {
    const { clock } = this.#shared
    return { at: this.#at, now: clock.now(), idle: clock.idle() }
  }
}
