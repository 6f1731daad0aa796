/** One worker, as the primary sees it. */
import cluster, { type Worker } from 'node:cluster'
import { KeepgwError } from '../errors.ts'
import { Pulse } from './pulse.ts'
import type { Snapshot } from './snapshot.ts'
import type { Order, Report } from './worker-messages.ts'

/** Milliseconds in which a worker says what it has counted; else what it said last stands for it. */
const PATIENCE = 2_000

type Listening = Extract<Report, { type: 'listening' }>
type Ask = Extract<Report, { type: 'ask' }>

/** How a worker has ended. */
export interface End {
  code: number | null
  signal: string | null
  /** Milliseconds. */
  lived: number
}

/** What the crew wants to know of a member. */
export interface MemberEvents {
  /** It wants to know what all have counted. */
  onAsk(ask: Ask): void
  /** It has not ended, and does not answer any more. */
  onHung(): void
}

/** A process that is started when this is made. */
export class Member {
  /** What it last said that it has counted; undefined where it never did. */
  counted: Snapshot | undefined
  /** Resolves once it listens; rejects with KeepgwError where it cannot, or ends before. */
  readonly listening: Promise<Listening>
  readonly ended: Promise<End>
  readonly #worker: Worker
  readonly #events: MemberEvents
  readonly #listening = Promise.withResolvers<Listening>()
  /** Those who wait for what it has counted. */
  readonly #waiting = new Map<number, () => void>()
  #questions = 0
  /** The connection that it was given last: open here, too, until it has taken it. */
  #given: { close(): void } | undefined
  /** From when it listens: how long a start takes is for its disks to say. */
  #pulse: Pulse | undefined

  constructor(serve: Order, events: MemberEvents) {
    this.#events = events
    this.#worker = cluster.fork()
    this.#noteGiven(this.#worker.process)
    this.listening = this.#listening.promise
    // Not everybody asks.
    this.listening.catch(() => {})
    this.ended = this.#watch()
    this.#worker.on('message', (report: Report) => this.#take(report))
    this.send(serve)
  }

  /** Undefined where the system would not start it. */
  get pid(): number | undefined {
    return this.#worker.process.pid
  }

  /** Tells it something, if it is there to hear it. */
  send(order: Order): void {
    // A worker that has just ended is told of by its end.
    if (this.#worker.isConnected()) this.#worker.send(order, () => {})
  }

  /** Brings `counted` up to date, if it answers in time. Never rejects. */
  async count(): Promise<void> {
    const id = this.#questions++
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE)
      this.#waiting.set(id, () => {
        clearTimeout(timer)
        resolve()
      })
      this.send({ type: 'count', id })
    })
    this.#waiting.delete(id)
  }

  /** Ends it at once. */
  kill(): void {
    this.#worker.process.kill('SIGKILL')
  }

  #take(report: Report): void {
    this.#pulse?.heard()
    if (report.type === 'alive') return
    if (report.type === 'listening') {
      this.#pulse = new Pulse({
        ask: () => this.send({ type: 'alive?' }),
        lost: () => this.#events.onHung(),
      })
      this.#listening.resolve(report)
    } else if (report.type === 'failed') {
      const { message, hint, exitCode } = report
      this.#listening.reject(
        new KeepgwError(message, { exitCode, ...(hint === undefined ? {} : { hint }) }),
      )
    } else {
      this.counted = report.snapshot
      if (report.type === 'ask') this.#events.onAsk(report)
      else this.#waiting.get(report.id)?.()
    }
  }

  /**
   * node:cluster forgets the connection that a worker was given and had not taken when it ended: its client
   * would wait for ever, and this process would keep it open. One is given at a time, and closing it again
   * does nothing.
   */
  #noteGiven(process: Worker['process']): void {
    process.send = new Proxy(process.send, {
      apply: (send, self, [message, handle, ...rest]) => {
        // Where there is none, a callback may be in its place.
        if (typeof handle === 'object') this.#given = handle ?? undefined
        return Reflect.apply(send, self, [message, handle, ...rest])
      },
    })
  }

  #watch(): Promise<End> {
    const start = performance.now()
    const worker = this.#worker
    return new Promise((resolve) => {
      const onEnd = (code: number | null, signal: string | null) => {
        this.#pulse?.end()
        this.#given?.close()
        for (const answer of this.#waiting.values()) answer()
        const how = signal ?? `exit code ${code}`
        this.#listening.reject(new KeepgwError(`a worker ended before it listened: ${how}`))
        resolve({ code, signal, lived: performance.now() - start })
      }
      worker.once('exit', onEnd)
      worker.on('error', () => {
        // Else it was there, and its end is told.
        if (worker.process.pid === undefined) onEnd(null, null)
      })
    })
  }
}
