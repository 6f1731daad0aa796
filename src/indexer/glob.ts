/**
 * Globs over keys. Libraries for globs are made for paths: they give `.`, `..`, a leading `./` and
 * line feeds a meaning of their own, which in a key are bytes like any other. And who may write to a
 * bucket chooses its keys: a regular expression would take hours for some of them, while these
 * automata look at each character of a key once.
 */
import { UsageError } from '../errors.ts'
import { Automaton, type Pattern } from './automaton.ts'

/**
 * Returns whether a key matches the glob: `*` any characters but `/`, `**` any at all (with `/`
 * behind it also nothing), `?` one but `/`, `[a-z]` or `[!a-z]` one of a set, `{a,b}` alternatives, `\`
 * takes the next character as it is. A glob without `/` looks at the last part of a key only.
 * Throws UsageError for a glob that is not closed, and for a range that ends before it begins.
 */
export function globMatcher(glob: string): (key: string) => boolean {
  const pattern = parse(glob)
  const automaton = new Automaton(glob.includes('/') ? pattern : [DIRECTORIES, ...pattern])
  return (key) => automaton.matches(key)
}

const TOKEN = /\*\*\/|\*\*|\*|\?|\\(.)|\[(!?)((?:\\.|[^\]\\])+)\]|[{},]|./gsu

const anything = (): boolean => true
const notSlash = (character: string): boolean => character !== '/'
const literal = (text: string) => ({ one: (character: string) => character === text })
/** `**` and `/`, or nothing. */
const DIRECTORIES = { either: [[], [{ many: anything }, literal('/')]] }

function parse(glob: string): Pattern {
  /** The alternatives of each `{` that is open, the last of them being written; the glob itself first. */
  const open: Pattern[][] = [[[]]]
  for (const [token, escaped, not, set] of glob.matchAll(TOKEN)) {
    const alternatives = open.at(-1)!
    const isInner = open.length > 1
    if (token === '{') open.push([[]])
    else if (token === ',' && isInner) alternatives.push([])
    else if (token === '}' && isInner) {
      open.pop()
      open.at(-1)!.at(-1)!.push({ either: alternatives })
    } else if (token === '[' || token === '\\') throw unclosed(glob)
    else if (set !== undefined) alternatives.at(-1)!.push({ one: setOf(glob, set, not === '!') })
    else alternatives.at(-1)!.push(WILD[token] ?? literal(escaped ?? token))
  }
  if (open.length > 1) throw unclosed(glob)
  return open[0]![0]!
}

const WILD: Record<string, Pattern[number]> = {
  '**/': DIRECTORIES,
  '**': { many: anything },
  '*': { many: notSlash },
  '?': { one: notSlash },
}

/** Everything stands for itself but a `-` between two characters. */
function setOf(glob: string, text: string, not: boolean): (character: string) => boolean {
  const parts = Array.from(text.matchAll(/\\(.)|./gsu), ([one, escaped]) => ({
    code: (escaped ?? one).codePointAt(0)!,
    isDash: one === '-',
  }))
  const ranges: [from: number, to: number][] = []
  for (let at = 0; at < parts.length; ) {
    const isRange = parts[at + 1]?.isDash && at + 2 < parts.length
    const [from, to] = [parts[at]!.code, parts[isRange ? at + 2 : at]!.code]
    if (to < from) throw backwards(glob)
    ranges.push([from, to])
    at += isRange ? 3 : 1
  }
  const has = (character: string): boolean => {
    const code = character.codePointAt(0)!
    return ranges.some(([from, to]) => code >= from && code <= to)
  }
  return not ? (character) => notSlash(character) && !has(character) : has
}

function backwards(glob: string): UsageError {
  return new UsageError(`the glob "${glob}" has a range that ends before it begins`, {
    hint: 'Put a \\ before a - that stands for itself',
  })
}

function unclosed(glob: string): UsageError {
  return new UsageError(`the glob "${glob}" is not closed`, {
    hint: 'Put a \\ before a [, { or \\ that stands for itself',
  })
}
