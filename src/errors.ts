/**
 * Errors that a user sees. Each says what failed, where, and what to do next.
 */

/** What the process ends with; the README documents them. */
export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** Finished, but some objects could not be read. */
  incomplete: 3,
  /** Another run holds the mapping's lock. */
  locked: 4,
  interrupted: 130,
} as const

/** One of these numbers. */
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

/** What an error has beside its message. Its `cause` is shown with DEBUG set only. */
export interface KeepgwErrorOptions extends ErrorOptions {
  /** What the user can do about it: one sentence, without a full stop at the end of a command. */
  hint?: string
  /** `failed` unless told. */
  exitCode?: ExitCode
}

/**
 * Returns a text without control characters: each of them as `%XX`, as keys are shown. Names of
 * objects, and what servers answer, must move no cursor and make no second line.
 */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => encodeURIComponent(character))
}

/** An error meant for the user: its message is one line, is fit for a terminal, and holds no secret. */
export class KeepgwError extends Error {
  override readonly name: string = 'KeepgwError'
  readonly hint: string | undefined
  readonly exitCode: ExitCode
  /** oclif takes the exit code from here, and from `exitCode` under --json: both are needed. */
  readonly oclif: { exit: ExitCode }

  constructor(message: string, options: KeepgwErrorOptions = {}) {
    super(printable(message), options)
    this.hint = options.hint === undefined ? undefined : printable(options.hint)
    this.exitCode = options.exitCode ?? ExitCode.failed
    this.oclif = { exit: this.exitCode }
  }
}

/** A wrong flag, argument or setting (exit code 2). */
export class UsageError extends KeepgwError {
  override readonly name: string = 'UsageError'

  constructor(message: string, options: KeepgwErrorOptions = {}) {
    super(message, { exitCode: ExitCode.usage, ...options })
  }
}

/** Returns the message of anything that was thrown, on one line. */
export function messageOf(thrown: unknown): string {
  // Of a host with several addresses, each of which has refused: they say the same.
  if (thrown instanceof AggregateError && thrown.message === '' && thrown.errors.length > 0) {
    return messageOf(thrown.errors[0])
  }
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown)
  return text.replace(/\s+/g, ' ').trim()
}
