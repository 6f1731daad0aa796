/**
 * One of the processes that answer at one address. It does what the primary says, and ends with it: Node
 * ends a worker whose primary is no more.
 */
import { KeepgwError, messageOf } from '../errors.ts'
import { createLog } from './request-log.ts'
import type { Snapshot } from './snapshot.ts'
import { type RunningService, startService } from './start.ts'
import type { Order, Report } from './worker-messages.ts'

type ServeOrder = Extract<Order, { type: 'serve' }>

/** Totals that were asked for, by the id of the question. */
const asked = new Map<number, (total: Snapshot) => void>()
let questions = 0
let service: RunningService | undefined

// A terminal and systemd send them to all processes at once: the primary says what is to be done.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {})
// Nobody is left to tell; the work goes on.
process.stderr.on('error', () => {})
process.on('message', (order: Order) => void obey(order))

async function obey(order: Order): Promise<void> {
  if (order.type === 'serve') await serve(order)
  else if (order.type === 'stop') await stop()
  else if (order.type === 'alive?') report({ type: 'alive' })
  else if (order.type === 'total') answerQuestion(order.id, order.snapshot)
  else if (service !== undefined) {
    report({ type: 'snapshot', id: order.id, snapshot: await service.snapshot() })
  }
}

async function serve({ settings, processes }: ServeOrder): Promise<void> {
  const log = createLog(process.stderr, { ...settings.log, withPid: true })
  try {
    service = await startService(settings, { log, processes, snapshot: askTotal })
    report({ type: 'listening', address: service.address, volumes: service.volumes })
  } catch (error) {
    const { hint, exitCode } = error instanceof KeepgwError ? error : new KeepgwError('')
    const failed: Report = { type: 'failed', message: messageOf(error), hint, exitCode }
    report(failed, () => process.exit(exitCode))
  }
}

async function stop(): Promise<void> {
  await service?.close()
  process.exit()
}

async function askTotal(): Promise<Snapshot> {
  const snapshot = await service!.snapshot()
  return new Promise((resolve) => {
    const id = questions++
    asked.set(id, resolve)
    report({ type: 'ask', id, snapshot })
  })
}

function answerQuestion(id: number, total: Snapshot): void {
  asked.get(id)?.(total)
  asked.delete(id)
}

/** `sent` is called in any case: a primary that is no more takes this process with it, in a moment. */
function report(message: Report, sent = () => {}): void {
  process.send!(message, undefined, undefined, sent)
}
