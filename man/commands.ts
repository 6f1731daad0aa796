/** What keepgw's commands say of themselves, as plain data. */
import { globSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Command } from '@oclif/core'

/** The words of one command. */
export interface CommandWords {
  /** As in `keepgw NAME`. */
  name: string
  summary: string
  description: string
  examples: ExampleWords[]
  args: ArgWords[]
  flags: FlagWords[]
}

export interface ExampleWords {
  description: string
  /** The command line. */
  command: string
}

export interface ArgWords {
  /** What stands for it in a synopsis. */
  name: string
  description: string
  required: boolean
}

export interface FlagWords {
  /** Without its dashes. */
  name: string
  description: string
  /** What stands for its value; a flag without one takes none. */
  value?: string
  /** All that the value may be, where there are only a few. */
  options?: readonly string[]
  required: boolean
  multiple: boolean
  /** Can be negated: `--no-NAME`. */
  negatable: boolean
  default?: string
  /** The environment variable that says the same. */
  env?: string
}

/** What is read of oclif's definition of an argument or a flag. */
interface Definition {
  name?: string
  description?: string
  type?: 'option' | 'boolean'
  helpValue?: string
  options?: readonly string[]
  required?: boolean
  multiple?: boolean
  allowNo?: boolean
  hidden?: boolean
  default?: unknown
  env?: string
}

const ROOT = new URL('..', import.meta.url)

/** Returns the words of all commands that keepgw has of its own, in the order of their names. */
export async function readCommands(): Promise<CommandWords[]> {
  const files = globSync('commands/**/*.ts', { cwd: fileURLToPath(ROOT) })
  const commands = files.map(async (file) => {
    const name = file.replace(/^commands\//, '').replace(/(\/index)?\.ts$/, '')
    const module = (await import(new URL(file, ROOT).href)) as { default: typeof Command }
    return wordsOf(name.replaceAll('/', ' '), module.default)
  })
  return (await Promise.all(commands)).sort((a, b) => (a.name < b.name ? -1 : 1))
}

function wordsOf(name: string, command: typeof Command): CommandWords {
  const { summary = '', description = '', examples = [], args = {}, flags = {} } = command
  const fill = (text: string): string => {
    return text.replaceAll('<%= config.bin %>', 'keepgw').replaceAll('<%= command.id %>', name)
  }
  return {
    name,
    summary: fill(summary),
    description: fill(description),
    examples: examples.map((example) => {
      if (typeof example === 'string') return { description: '', command: fill(example) }
      return { description: fill(example.description), command: fill(example.command) }
    }),
    args: Object.entries(args as Record<string, Definition>).map(argWords),
    flags: Object.entries(flags as Record<string, Definition>)
      .filter(([, flag]) => !flag.hidden)
      .map(flagWords)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  }
}

function argWords([key, arg]: [string, Definition]): ArgWords {
  const { name = key.toUpperCase(), description = '', required = false } = arg
  return { name, description, required }
}

function flagWords([name, flag]: [string, Definition]): FlagWords {
  const { description = '', required = false, multiple = false, allowNo = false, env } = flag
  const words: FlagWords = { name, description, required, multiple, negatable: allowNo }
  if (env !== undefined) words.env = env
  if (flag.type === 'boolean') return words
  words.value = flag.helpValue ?? name.toUpperCase()
  if (flag.options !== undefined) words.options = flag.options
  if (flag.default !== undefined) words.default = String(flag.default)
  return words
}
