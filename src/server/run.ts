/** One run of `keepgw serve`, from its start to its end. */
import { ExitCode } from '../errors.ts'
import { Crew } from './crew.ts'
import { createLog } from './request-log.ts'
import type { ServeSettings } from './settings.ts'
import { type RunningService, startService } from './start.ts'

/** What serves: this process, or several. */
export interface Serving extends Pick<RunningService, 'address' | 'volumes' | 'close'> {
  /** Rejects when it cannot go on. */
  readonly failed: Promise<never>
  /** Ends what is under way, at once. */
  abort(): void
}

/**
 * Serves until SIGTERM or SIGINT, and returns when the answers under way are out; a second signal ends
 * the process at once. Throws as startService does, and KeepgwError where workers end again and again.
 */
export async function serveUntilSignal(settings: ServeSettings): Promise<void> {
  const { workers } = settings
  const log = createLog(process.stderr, { ...settings.log, withPid: workers > 1 })
  const serving = workers > 1 ? await Crew.start(settings, log) : await serveAlone(settings, log)
  const { address, volumes } = serving
  const signing = settings.signing !== undefined
  log.info({ address, signing, volumes, ...(workers > 1 && { workers }) }, 'listening')
  const signal = await Promise.race([firstSignal(() => serving.abort()), serving.failed])
  log.info({ signal }, 'stopping when the answers under way are out')
  await serving.close()
}

async function serveAlone(
  settings: ServeSettings,
  log: ReturnType<typeof createLog>,
): Promise<Serving> {
  const service = await startService(settings, { log })
  return { ...service, failed: new Promise(() => {}), abort() {} }
}

/** Resolves with the first SIGTERM or SIGINT; the second one ends the process. */
function firstSignal(abort: () => void): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) {
        abort()
        process.exit(ExitCode.interrupted)
      }
      asked = true
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}
