/** Notices that a process does not answer any more, though it has not ended. */

/** Milliseconds between two questions. */
const TICK = 5_000
/**
 * Questions in a row without an answer. They are counted, not the time: after this machine has stood still,
 * as it does when it is moved or asleep, everybody is asked again before anything is concluded.
 */
const MOST_MISSED = 6

/** Seconds after which a process that does not answer is given up. */
export const SILENT_SECONDS = (TICK * MOST_MISSED) / 1000

/** How a process is asked, and who hears that it does not answer. */
export interface PulseParts {
  /** Asks the process for a sign of life; must not throw. */
  ask(): void
  /** Called once, when it has given none for SILENT_SECONDS. */
  lost(): void
}

/** The questions to one process. Nothing in a process that serves takes seconds of its event loop. */
export class Pulse {
  readonly #timer: NodeJS.Timeout
  #missed = 0

  constructor({ ask, lost }: PulseParts) {
    this.#timer = setInterval(() => {
      if (this.#missed === MOST_MISSED) {
        this.end()
        return lost()
      }
      this.#missed += 1
      ask()
    }, TICK)
  }

  /** It has said something. */
  heard(): void {
    this.#missed = 0
  }

  /** No more questions. */
  end(): void {
    clearInterval(this.#timer)
  }
}
