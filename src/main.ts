/** Runs the command that a command line names. */
import { Config } from '@oclif/core/config'
import { run } from '@oclif/core/run'
import { asKeepgwError, printError } from './command.ts'
import { ExitCode, KeepgwError, messageOf, UsageError } from './errors.ts'

/** Runs a command line (without node and the script); sets the process's exit code. */
export async function main(argv: string[], from: string): Promise<void> {
  process.stdout.removeAllListeners('error').on('error', outputFailed)
  // Nobody is left to tell; the work goes on.
  process.stderr.on('error', () => {})
  const words = helpLast(argv.map(goStyle))
  try {
    await run(words, from)
  } catch (thrown) {
    const isUnknown = /^command \S+ not found/.test(messageOf(thrown))
    const error = isUnknown ? await unknown(words, from) : asKeepgwError(thrown as Error)
    if (error !== undefined) printError(error)
    const exit = (thrown as { oclif?: { exit?: number } }).oclif?.exit
    process.exitCode = error?.exitCode ?? exit ?? ExitCode.failed
  }
}

/** Returns what to say of words that oclif could make no command of. */
async function unknown(words: string[], from: string): Promise<UsageError> {
  const { commandIDs } = await Config.load(from)
  const isKnown = (id: string): boolean =>
    commandIDs.some((each) => `${each}:`.startsWith(`${id}:`))
  let known = 0
  while (known < words.length && isKnown(words.slice(0, known + 1).join(':'))) known += 1
  const before = words.slice(0, known)
  const isCommand = commandIDs.includes(before.join(':'))
  const message = isCommand
    ? `${before.join(' ')} takes no argument "${words[known]}"`
    : `there is no command ${words.slice(0, known + 1).join(' ')}`
  return new UsageError(message, { hint: `See: keepgw ${[...before, '--help'].join(' ')}` })
}

/**
 * Whoever read the output has seen enough (`keepgw status | head -1`): the command goes on, and its
 * exit code stays what it is. Output that is lost for another reason, a full disk, is a failure.
 */
function outputFailed(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE' || error.code === 'ERR_STREAM_DESTROYED') return
  printError(new KeepgwError(`cannot write the output: ${messageOf(error)}`))
  process.exitCode ||= ExitCode.failed
}

/** `keepgw help index` is what people try first. */
function helpLast(argv: string[]): string[] {
  return argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv
}

/** Go programs, keepstore among them, write long flags with one dash: `-volume=…`. */
function goStyle(argument: string): string {
  return /^-[a-z][a-z-]+(=|$)/.test(argument) ? `-${argument}` : argument
}
