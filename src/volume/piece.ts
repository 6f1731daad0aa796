/** A part of a block under way. */
import { RemoteError, type Sink } from '../remote/remote.ts'
import type { BlockSource } from './volume.ts'

/** What a sink is given at once of what has come before its turn: the hash of it should not wait long. */
const DRAINED_BYTES = 256 * 1024

/** Why a request is ended that has brought what it should. */
class Enough extends Error {}

/**
 * Reads a part of a block: into a buffer as long as it is not its turn, and then right on to the sink.
 * Without a buffer, what comes before its turn waits with the connection, which is read no further.
 */
export class Piece {
  /** Its first byte, as an offset in the block. */
  readonly from: number
  /** The byte behind its last one. */
  #to: number
  /** Its request asks for bytes beyond `to`, or has brought some: it is not to come to its end. */
  #isCut = false
  /** Bytes of the block from which on nothing has come. */
  #at: number
  readonly #buffer: Buffer | undefined
  #filled = 0
  #sink: Sink | undefined
  #hasFailed = false
  /** Settles when its turn has come; only where bytes wait for that. */
  #turn: PromiseWithResolvers<void> | undefined
  readonly #stop = new AbortController()
  /** Settles when all has come, or with why not. */
  readonly #come = Promise.withResolvers<void>()
  /** Settles, without a throw, when the request leaves the memory alone. */
  readonly #reading: Promise<void>

  /** Begins to read; the buffer is as long as the piece, or longer. */
  constructor(source: BlockSource, from: number, to: number, next: Sink | Buffer | undefined) {
    this.from = from
    this.#at = from
    this.#to = to
    if (typeof next === 'function') this.#sink = next
    else this.#buffer = next
    this.#come.promise.catch(() => {})
    const sink = Object.assign((chunk: Uint8Array) => this.#take(chunk), {
      room: () => this.#room(),
    })
    this.#reading = source.read(from, sink, this.#stop.signal, to).then(
      () => this.#ended(),
      (error) => this.#fail(error),
    )
  }

  /** Its request has ended before its last byte. */
  get hasFailed(): boolean {
    return this.#hasFailed
  }

  /** Bytes of the block from which on nothing has come. */
  get at(): number {
    return this.#at
  }

  /**
   * It is the piece's turn: resolves when the sink has had all of it, and the request has come to its
   * end, so that its connection can be used again. Throws what ended it before that, once the sink has
   * had what had come, or what the sink throws.
   */
  async deliver(sink: Sink): Promise<void> {
    for (let drained = 0; drained < this.#filled; ) {
      const end = Math.min(this.#filled, drained + DRAINED_BYTES)
      await sink(this.#buffer!.subarray(drained, end))
      drained = end
    }
    this.#sink = sink
    this.#turn?.resolve()
    await this.#come.promise
    if (!this.#isCut) await this.#reading
  }

  /** Ends it at byte `to`, which has not come yet; only in its turn. */
  endAt(to: number): void {
    this.#isCut = to < this.#to
    this.#to = to
  }

  /** Ends the request, if it is under way; the promise is for when its memory is free. */
  stop(reason: unknown = new Enough()): Promise<void> {
    this.#fail(reason)
    this.#stop.abort(reason)
    return this.#reading
  }

  #take(chunk: Uint8Array): void | Promise<void> {
    if (this.#sink === undefined && this.#buffer === undefined) return this.#hold(chunk)
    const most = this.#to - this.#at
    if (chunk.length > most) this.#isCut = true
    if (most === 0) return this.#stop.abort(new Enough())
    const bytes = chunk.length > most ? chunk.subarray(0, most) : chunk
    this.#at += bytes.length
    if (this.#sink === undefined) this.#keep(bytes)
    const pause = this.#sink?.(bytes)
    if (this.#at < this.#to) return pause
    if (pause === undefined) return this.#come.resolve()
    return pause.then(() => this.#come.resolve())
  }

  #fail(reason: unknown): void {
    this.#hasFailed = true
    this.#come.reject(reason)
    this.#turn?.reject(reason)
  }

  async #hold(chunk: Uint8Array): Promise<void> {
    this.#turn = Promise.withResolvers()
    await this.#turn.promise
    await this.#take(chunk)
  }

  #keep(bytes: Uint8Array): void {
    const buffer = this.#buffer!
    const isInPlace =
      bytes.buffer === buffer.buffer && bytes.byteOffset === buffer.byteOffset + this.#filled
    if (!isInPlace) buffer.set(bytes, this.#filled)
    this.#filled += bytes.length
  }

  #room(): Uint8Array | undefined {
    // TLS may deliver more before it notices that the request was ended: that is the next piece's room.
    if (this.#at === this.#to) return undefined
    if (this.#sink !== undefined) return this.#sink.room?.()
    return this.#buffer?.subarray(this.#filled, this.#filled + this.#to - this.#at)
  }

  /** The source believes that it has delivered everything. */
  #ended(): void {
    if (this.#at === this.#to) return
    const message = `the data ended at byte ${this.#at} of the block`
    this.#fail(new RemoteError('unreachable', message))
  }
}
