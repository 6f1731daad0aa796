/** Runs the command that a command line names. */
import { flush, run } from '@oclif/core'
import { asKeepgwError, printError } from './command.ts'
import { ExitCode } from './errors.ts'

/** Runs a command line (without node and the script); sets the process's exit code. */
export async function main(argv: string[], from: string): Promise<void> {
  // Whoever read the output has seen enough (`keepgw status | head -1`).
  process.stdout.on('error', () => process.exit(ExitCode.ok))
  try {
    await run(helpLast(argv.map(goStyle)), from)
    await flush()
  } catch (thrown) {
    const error = asKeepgwError(thrown as Error)
    if (error !== undefined) printError(error)
    const exit = (thrown as { oclif?: { exit?: number } }).oclif?.exit
    process.exitCode = error?.exitCode ?? exit ?? ExitCode.failed
  }
}

/** `keepgw help index` is what people try first. */
function helpLast(argv: string[]): string[] {
  return argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv
}

/** Go programs, keepstore among them, write long flags with one dash: `-volume=…`. */
function goStyle(argument: string): string {
  return /^-[a-z][a-z-]+(=|$)/.test(argument) ? `-${argument}` : argument
}
