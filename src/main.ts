/** Runs the command that a command line names. */
import { run } from '@oclif/core/run'
import { asKeepgwError, printError } from './command.ts'
import { ExitCode, KeepgwError, messageOf } from './errors.ts'

/** Runs a command line (without node and the script); sets the process's exit code. */
export async function main(argv: string[], from: string): Promise<void> {
  process.stdout.removeAllListeners('error').on('error', outputFailed)
  // Nobody is left to tell; the work goes on.
  process.stderr.on('error', () => {})
  try {
    await run(helpLast(argv.map(goStyle)), from)
  } catch (thrown) {
    const error = asKeepgwError(thrown as Error)
    if (error !== undefined) printError(error)
    const exit = (thrown as { oclif?: { exit?: number } }).oclif?.exit
    process.exitCode = error?.exitCode ?? exit ?? ExitCode.failed
  }
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
