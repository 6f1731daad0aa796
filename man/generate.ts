/**
 * Writes the manual pages from the commands' own words: `npm run man`. Change the commands (or, for
 * keepgw(1), overview.ts), never the pages: a test compares them.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type ArgWords, type CommandWords, type FlagWords, readCommands } from './commands.ts'
import * as text from './overview.ts'
import { bold, commandLine, entry, escapeRoff, italic, paragraphs, prose, section } from './roff.ts'

const { version, description } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
) as { version: string; description: string }

/** What a command ends with that says nothing of it in its description. */
const EXIT_CODES = 'Exit codes: 0 all done, 1 failed, 2 usage, 130 interrupted.'

/** What stands for the date until it is known. */
const UNDATED = '"DATE"'

/**
 * Returns the pages by their file names: the same text on every machine, and on every day. A page's
 * date is that of its last change, so one that says what its file says keeps the date it has there.
 */
export async function manPages(): Promise<Map<string, string>> {
  const commands = await readCommands()
  const pages = new Map([['keepgw.1', overviewPage(commands)]])
  for (const command of commands) {
    pages.set(`${pageName(command)}.1`, commandPage(command, commands))
  }
  for (const [name, page] of pages) pages.set(name, dated(page, committedPage(name)))
  return pages
}

function committedPage(name: string): string {
  const file = new URL(name, import.meta.url)
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

function dated(page: string, committed: string): string {
  const date = /^\.TH \S+ 1 ("[-0-9]+")/m.exec(committed)?.[1] ?? UNDATED
  if (page.replace(UNDATED, date) === committed) return committed
  return page.replace(UNDATED, `"${new Date().toISOString().slice(0, 10)}"`)
}

function overviewPage(commands: CommandWords[]): string {
  const variables = [...variablesOf(commands), ...text.VARIABLES].sort(([a], [b]) =>
    a < b ? -1 : 1,
  )
  return page('keepgw', [
    section('NAME', [`keepgw \\- ${escapeRoff(asPhrase(description))}`]),
    section('SYNOPSIS', [`${bold('keepgw')}\n${italic('COMMAND')}\n[${italic('ARGUMENT')}...]`]),
    section('DESCRIPTION', paragraphs(text.DESCRIPTION)),
    section(
      'COMMANDS',
      commands.map((each) => entry(`${bold(pageName(each))}(1)`, each.summary)),
    ),
    section('OPTIONS', [
      entry(bold('--help'), 'Says what there is; after a command, what that takes.'),
      entry(bold('--version'), 'Prints the version.'),
    ]),
    section('EXAMPLES', examples(text.EXAMPLES)),
    section('EXIT STATUS', exitCodes(text.EXIT_CODES)),
    section(
      'ENVIRONMENT',
      variables.map(([name, meaning]) => entry(bold(name), meaning)),
    ),
    section(
      'FILES',
      text.FILES.map(([name, meaning]) => entry(italic(name), meaning)),
    ),
    section(
      'SIGNALS',
      text.SIGNALS.map(([name, meaning]) => entry(bold(name), meaning)),
    ),
    section('SEE ALSO', [references(commands.map(pageName))]),
  ])
}

function commandPage(command: CommandWords, all: CommandWords[]): string {
  const [story, codes = EXIT_CODES] = command.description.split(/\n\n(?=Exit codes: )/)
  const others = all.filter((each) => each !== command).map(pageName)
  const variables = variablesOf([command])
  return page(pageName(command), [
    section('NAME', [
      `${escapeRoff(pageName(command))} \\- ${escapeRoff(asPhrase(command.summary))}`,
    ]),
    section('SYNOPSIS', [synopsis(command)]),
    section('DESCRIPTION', paragraphs(story!)),
    ...(command.args.length > 0 ? [section('ARGUMENTS', command.args.map(argument))] : []),
    section('OPTIONS', command.flags.map(option)),
    section('EXAMPLES', examples(command.examples)),
    section('EXIT STATUS', exitCodes(codes)),
    section('ENVIRONMENT', [
      ...variables.map(([name, meaning]) => entry(bold(name), meaning)),
      `.PP\n${bold('keepgw')}(1) names the others.`,
    ]),
    section('SEE ALSO', [references(['keepgw', ...others])]),
  ])
}

function page(name: string, sections: string[]): string {
  const head = [
    '.\\" Written by "npm run man" from the commands: change those.',
    `.TH ${escapeRoff(name.toUpperCase())} 1 ${UNDATED} "keepgw ${version}" "keepgw"`,
  ]
  return `${[...head, ...sections].join('\n')}\n`
}

function synopsis({ name, args, flags }: CommandWords): string {
  const required = flags.filter((flag) => flag.required)
  return [
    bold(`keepgw ${name}`),
    ...required.map((flag) => `${flagTerm(flag)}${flag.multiple ? '...' : ''}`),
    ...(flags.length > required.length ? [`[${italic('OPTION')}...]`] : []),
    ...args.map((arg) => (arg.required ? italic(arg.name) : `[${italic(arg.name)}]`)),
  ].join('\n')
}

function argument({ name, description }: ArgWords): string {
  return entry(italic(name), asSentence(description))
}

function option(flag: FlagWords): string {
  const saysSo = /more than once|several times/.test(flag.description)
  const notes = [
    meaningOf(flag),
    ...(flag.required ? ['Required.'] : []),
    ...(flag.multiple && !saysSo ? ['May be given more than once.'] : []),
    ...(flag.default === undefined || flag.default === '' ? [] : [`Default: ${flag.default}.`]),
    ...(flag.env === undefined ? [] : [`Environment: \`${flag.env}\`.`]),
  ]
  return entry(flagTerm(flag), notes.join(' '))
}

/** Where a description begins with a value of the flag, that stays as it is to be typed. */
function meaningOf({ description, options = [] }: FlagWords): string {
  const sentence = asSentence(description)
  const isValue = options.some((each) => new RegExp(`^${each}\\b`).test(description))
  return isValue ? description.charAt(0) + sentence.slice(1) : sentence
}

function flagTerm({ name, value, negatable }: FlagWords): string {
  if (value === undefined) return bold(negatable ? `--[no-]${name}` : `--${name}`)
  return `${bold(`--${name}`)}=${italic(value)}`
}

function examples(all: { description: string; command: string }[]): string[] {
  return all.map(
    ({ description, command }) => `.PP\n${prose(asSentence(description))}\n${commandLine(command)}`,
  )
}

/** Takes `Exit codes: 0 this, 1 that.` apart. */
function exitCodes(codes: string): string[] {
  const list = codes.replace(/\s+/g, ' ').replace(/^Exit codes: |\.$/g, '')
  return list.split(/, (?=\d+ )/).map((code) => {
    const [number = '', ...meaning] = code.split(' ')
    return entry(bold(number), asSentence(meaning.join(' ')))
  })
}

/** Returns the variables that flags can be set by, each with the commands that read it. */
function variablesOf(commands: CommandWords[]): [name: string, meaning: string][] {
  const readers = new Map<string, Map<string, string[]>>()
  for (const command of commands) {
    for (const { name, env } of command.flags) {
      if (env === undefined) continue
      const flags = readers.get(env) ?? new Map<string, string[]>()
      readers.set(env, flags.set(name, [...(flags.get(name) ?? []), `\`${command.name}\``]))
    }
  }
  return [...readers].map(([env, flags]) => {
    const terms = [...flags].map(([name, by]) => {
      return commands.length > 1 ? `\`--${name}\` of ${listed(by)}` : `\`--${name}\``
    })
    return [env, `As ${terms.join(', or ')}.`]
  })
}

/** Returns `a, b and c`. */
function listed(words: string[]): string {
  return words.join(', ').replace(/, (?=[^,]*$)/, ' and ')
}

function references(pages: string[]): string {
  return pages.map((name) => `${bold(name)}(1)`).join(',\n')
}

function pageName({ name }: { name: string }): string {
  return `keepgw-${name.replaceAll(' ', '-')}`
}

/** The list of all pages has a phrase for each: no capital, no full stop. */
function asPhrase(words: string): string {
  return words.charAt(0).toLowerCase() + words.slice(1).replace(/\.$/, '')
}

function asSentence(words: string): string {
  const sentence = words.replace(/[.:]$/, '')
  return `${sentence.charAt(0).toUpperCase()}${sentence.slice(1)}.`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, page] of await manPages()) {
    writeFileSync(new URL(name, import.meta.url), page)
    console.log(`man/${name}`)
  }
}
