/**
 * Several processes that answer at one address. This one, the primary, listens, and gives each connection
 * to the next worker (node:cluster). It answers none itself, and so outlives whatever ends a worker.
 */
import cluster from 'node:cluster'
import { extname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import { KeepgwError, messageOf } from '../errors.ts'
import { type End, Member } from './crew-member.ts'
import { SILENT_SECONDS } from './pulse.ts'
import { Restarts } from './restarts.ts'
import type { ServeSettings } from './settings.ts'
import { mergeSnapshots, retire, type Snapshot } from './snapshot.ts'
import type { Order } from './worker-messages.ts'
import { shareOf } from './worker-settings.ts'

const WORKER = new URL(`./worker${extname(import.meta.url)}`, import.meta.url)

/** The workers of one server, of which a process has one. */
export class Crew {
  /** `HOST:PORT`, as a RunningServer's. */
  address = ''
  /** The volumes, as they name themselves. */
  volumes: string[] = []
  /** Rejects with KeepgwError once workers have ended at once again and again, and all have ended. */
  readonly failed: Promise<never>
  readonly #failure = Promise.withResolvers<never>()
  readonly #order: Order
  readonly #log: Logger
  readonly #members = new Set<Member>()
  readonly #restarts: Restarts
  /** What those had counted who are no more. */
  #retired: Snapshot | undefined
  /** Who ends before is looked at then: what keeps one from listening ends the start. */
  readonly #started = Promise.withResolvers<void>()
  #isStopping = false

  /**
   * Returns once all workers listen. Throws what keeps one of them from it, as startService does: the
   * first one has to listen before there are others, so that what is wrong is said once.
   */
  static async start(settings: ServeSettings, log: Logger): Promise<Crew> {
    cluster.setupPrimary({ exec: fileURLToPath(WORKER), args: [], serialization: 'advanced' })
    const crew = new Crew(settings, log)
    try {
      await crew.#start(settings.workers)
      return crew
    } catch (error) {
      crew.abort()
      throw error
    }
  }

  constructor({ cluster: _, workers, ...settings }: ServeSettings, log: Logger) {
    this.#order = { type: 'serve', settings: shareOf(settings, workers), processes: workers }
    this.#log = log
    this.#restarts = new Restarts(workers)
    this.failed = this.#failure.promise
    this.failed.catch(() => {})
  }

  /** Lets all workers end when the answers under way are out. */
  async close(): Promise<void> {
    this.#isStopping = true
    for (const member of this.#members) member.send({ type: 'stop' })
    await Promise.all([...this.#members].map(({ ended }) => ended))
  }

  /** Ends all workers at once. */
  abort(): void {
    this.#isStopping = true
    for (const member of this.#members) member.kill()
  }

  async #start(workers: number): Promise<void> {
    const { address, volumes } = await this.#add().listening
    this.address = address
    this.volumes = volumes
    const others = Array.from({ length: workers - 1 }, () => this.#add())
    await Promise.all(others.map(({ listening }) => listening))
    this.#started.resolve()
  }

  #add(): Member {
    const member: Member = new Member(this.#order, {
      onAsk: ({ id }) => void this.#answer(member, id),
      onHung: () => {
        const fields = { worker: member.pid, seconds: SILENT_SECONDS }
        this.#log.error(fields, 'worker does not answer, and is killed')
        member.kill()
      },
    })
    this.#members.add(member)
    void this.#watch(member)
    return member
  }

  async #watch(member: Member): Promise<void> {
    await this.#started.promise
    const end = await member.ended
    this.#members.delete(member)
    if (member.counted !== undefined) this.#retire(member.counted)
    if (!this.#isStopping) await this.#replace(member, end)
  }

  async #replace({ pid }: Member, { code, signal, lived }: End): Promise<void> {
    this.#log.error({ worker: pid, code, signal }, 'worker ended')
    const pause = this.#restarts.next(lived)
    if (pause === undefined) return this.#fail()
    await delay(pause)
    if (this.#isStopping) return
    const next = this.#add()
    try {
      await next.listening
      this.#log.info({ worker: next.pid }, 'worker started')
    } catch (error) {
      this.#log.error({ worker: next.pid, reason: messageOf(error) }, 'worker did not start')
    }
  }

  async #fail(): Promise<void> {
    await this.close()
    const hint = 'The log says how they ended'
    this.#failure.reject(new KeepgwError('the workers end as soon as they are started', { hint }))
  }

  /** Counters must not go back because a process is no more. */
  #retire(counted: Snapshot): void {
    const retired = retire(counted)
    this.#retired = this.#retired ? mergeSnapshots([this.#retired, retired]) : retired
  }

  async #answer(asker: Member, id: number): Promise<void> {
    // What the asker itself has counted came with the question.
    const others = [...this.#members].filter((member) => member !== asker)
    await Promise.all(others.map((member) => member.count()))
    const counted = [...this.#members].flatMap((member) => member.counted ?? [])
    const all = this.#retired === undefined ? counted : [...counted, this.#retired]
    if (all.length > 0) asker.send({ type: 'total', id, snapshot: mergeSnapshots(all) })
  }
}
