/** Ends work that stands still. */
import { RemoteError } from '../remote/remote.ts'

/** The clock of one piece of work. It runs from the start. */
export interface IdleClock {
  /** Something has come: the limit counts from now. */
  restart(): void
  /** The wait is not the work's fault (a slow client): nothing counts until restart(). */
  stop(): void
  /** Ends the work at once, and has withIdleLimit throw the reason. */
  end(reason: unknown): void
}

/** What withIdleLimit throws for work that stood still. */
export class Stalled extends RemoteError {}

/**
 * Runs `work` under a signal of its own, which aborts with `signal` or once the clock was not
 * restarted for `limit` milliseconds. Returns what the work returns; throws what it throws, or
 * Stalled, or the signal's reason. It does not wait for work that ignores its signal.
 */
export async function withIdleLimit<T>(
  limit: number,
  signal: AbortSignal,
  work: (signal: AbortSignal, clock: IdleClock) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted()
  const own = new AbortController()
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const end = (reason: unknown) => {
    reject(reason)
    own.abort(reason)
  }
  const onAbort = () => end(signal.reason)
  let stopped = false
  const timer = setTimeout(() => {
    if (!stopped) end(new Stalled('unreachable', `nothing came for ${limit / 1000} s`))
  }, limit)
  const clock: IdleClock = {
    restart() {
      stopped = false
      timer.refresh()
    },
    stop() {
      stopped = true
    },
    end,
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([work(own.signal, clock), ended])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
