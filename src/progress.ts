/** Shows how far a run is: a line that moves on a terminal, one on SIGUSR1, else nothing. */
import type { Ora } from 'ora'
import { printable } from './errors.ts'

/** How often the line is drawn anew, milliseconds. */
const REDRAW_MS = 200

/** A run's progress. `describe` is called when a line is wanted, so that counting costs nothing. */
export class Progress {
  readonly #describe: () => string
  readonly #spinner: Ora | undefined
  readonly #timer: NodeJS.Timeout | undefined
  readonly #onSignal = (): void => void process.stderr.write(`keepgw: ${this.#describe()}\n`)

  /** Begins to show a run's progress; nothing moves on what is no terminal, nor with `quiet`. */
  static async start(describe: () => string, options: { quiet: boolean }): Promise<Progress> {
    // A terminal may say that it is 0 columns wide; ora would divide by that.
    const isShown = !options.quiet && process.stderr.isTTY && process.stderr.columns > 0
    if (!isShown) return new Progress(describe, undefined)
    // Cron's runs need not load it.
    const { default: ora } = await import('ora')
    // Reading stdin raw would delay Ctrl-C.
    const spinner = ora({ stream: process.stderr, discardStdin: false, text: describe() })
    return new Progress(describe, spinner.start())
  }

  private constructor(describe: () => string, spinner: Ora | undefined) {
    this.#describe = describe
    this.#spinner = spinner
    process.on('SIGUSR1', this.#onSignal)
    if (spinner === undefined) return
    this.#timer = setInterval(() => {
      spinner.text = describe()
    }, REDRAW_MS)
    this.#timer.unref()
  }

  /** Prints a line for the user without tearing the moving one. */
  say(line: string): void {
    this.#spinner?.clear()
    process.stderr.write(`${printable(line)}\n`)
    this.#spinner?.render()
  }

  /** Takes the line away. May be called again. */
  stop(): void {
    clearInterval(this.#timer)
    this.#spinner?.stop()
    process.off('SIGUSR1', this.#onSignal)
  }
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** Returns a number of bytes as people read it: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`
}

/** Returns a sum as people read it, rounded to cents: `about $4.05`. */
export function formatDollars(dollars: number): string {
  return dollars < 0.01 ? 'less than $0.01' : `about $${dollars.toFixed(2)}`
}

/** Returns a span of time as people read it: `42 s`, `3 min`, `5 h`, `2 days`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}
