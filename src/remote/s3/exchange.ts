/** One request and its answer, whose body goes to a sink piece by piece. */
import type { Sink } from '../remote.ts'
import type { Headers, RequestHead, ResponseHead } from './http-message.ts'

/** What an answer says before its body. */
export interface HttpAnswer {
  status: number
  headers: Headers
}

/** Looks at an answer's headers and returns who takes its body; throws to have none of it. */
export type Answered = (answer: HttpAnswer) => Sink

/** What the exchange comes over. */
interface Carrier {
  resume(): void
  destroy(): void
}

/** What comes of an exchange: an answer that was taken to its end, or why not. */
export type Outcome = { error: unknown; isTransport: boolean } | undefined

/**
 * A request until its outcome is told, once. What calls it is its connection; stop() may be called at any
 * time.
 */
export class Exchange {
  readonly request: RequestHead
  readonly #answered: Answered
  readonly #signal: AbortSignal | undefined
  readonly #settle: (outcome: Outcome) => void
  #carrier: Carrier | undefined
  #sink: Sink | undefined
  /** Settles when the sink is done with the last piece. */
  #busy: Promise<void> | undefined
  #settled = false

  /** `settle` is called once, when the sink has come back, unless the exchange was aborted. */
  constructor(
    request: RequestHead,
    answered: Answered,
    signal: AbortSignal | undefined,
    settle: (outcome: Outcome) => void,
  ) {
    this.request = request
    this.#answered = answered
    this.#signal = signal
    this.#settle = settle
    signal?.addEventListener('abort', this.#aborted, { once: true })
  }

  /** True while the sink has asked to wait. */
  get isBusy(): boolean {
    return this.#busy !== undefined
  }

  /** True once the outcome has been told. */
  get isSettled(): boolean {
    return this.#settled
  }

  /** It is about to be sent over this connection, which stop() then destroys. */
  attach(carrier: Carrier): void {
    this.#carrier = carrier
  }

  /** Returns the sink's memory for the next of at most `most` bytes, if it has any. */
  room(most: number): Uint8Array | undefined {
    const room = this.#sink?.room?.()
    return room !== undefined && room.length > most ? room.subarray(0, most) : room
  }

  /** The answer has begun. */
  answered({ status, headers }: ResponseHead): void {
    try {
      this.#sink = this.#answered({ status, headers })
    } catch (error) {
      this.stop(error)
    }
  }

  /** The next piece of the body. Not while the sink is busy. */
  deliver(piece: Uint8Array): void {
    try {
      const pause = this.#sink!(piece)
      if (pause instanceof Promise) this.#wait(pause)
    } catch (error) {
      this.stop(error)
    }
  }

  /** The answer has come to its end. */
  ended(): void {
    this.whenFree(() => this.#finish(undefined))
  }

  /** The connection failed before. */
  broke(error: Error): void {
    this.whenFree(() => this.#finish({ error, isTransport: true }))
  }

  /** Calls back when the sink has come back, at once where it is not busy. */
  whenFree(call: () => void): void {
    if (this.#busy === undefined) call()
    else void this.#busy.then(() => this.whenFree(call))
  }

  /** Ends the exchange, and its connection, for a reason of our own. */
  stop(error: unknown): void {
    if (this.#settled) return
    // The connection must have let go of the sink's memory before anybody hears of it.
    this.#carrier?.destroy()
    this.#finish({ error, isTransport: false })
  }

  #wait(pause: Promise<void>): void {
    this.#busy = pause.then(
      () => {
        this.#busy = undefined
        if (!this.#settled) this.#carrier!.resume()
      },
      (error) => {
        this.#busy = undefined
        this.stop(error)
      },
    )
  }

  readonly #aborted = (): void => this.stop(this.#signal?.reason)

  #finish(outcome: Outcome): void {
    if (this.#settled) return
    this.#settled = true
    this.#signal?.removeEventListener('abort', this.#aborted)
    this.#settle(outcome)
  }
}
