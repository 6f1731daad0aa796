/**
 * Globs over keys. Libraries for globs are made for paths: they give `.`, `..`, a leading `./` and
 * line feeds a meaning of their own, which in a key are bytes like any other.
 */
import { UsageError } from '../errors.ts'

/**
 * Returns whether a key matches the glob: `*` any characters but `/`, `**` any at all (with `/`
 * behind it also nothing), `?` one but `/`, `[a-z]` or `[!a-z]` one of a set, `{a,b}` alternatives, `\`
 * takes the next character as it is. A glob without `/` looks at the last part of a key only.
 * Throws UsageError for a glob that is not closed, and for a range that ends before it begins.
 */
export function globMatcher(glob: string): (key: string) => boolean {
  const pattern = compile(glob, `${glob.includes('/') ? '^' : '(?:^|/)'}${translate(glob)}$`)
  return (key) => pattern.test(key)
}

function compile(glob: string, source: string): RegExp {
  try {
    return new RegExp(source, 'su')
  } catch (error) {
    throw new UsageError(`the glob "${glob}" has a range that ends before it begins`, {
      cause: error,
      hint: 'Put a \\ before a - that stands for itself',
    })
  }
}

const TOKEN = /\*\*\/|\*\*|\*|\?|\\(.)|\[(!?)((?:\\.|[^\]\\])+)\]|[{},]|./gsu

function translate(glob: string): string {
  let depth = 0
  const source = glob.replace(TOKEN, (token, escaped, not, set) => {
    if (escaped !== undefined) return literal(escaped)
    if (set !== undefined) return `[${not ? '^/' : ''}${translateSet(set)}]`
    if (token === '**/') return '(?:.*/)?'
    if (token === '**') return '.*'
    if (token === '*') return '[^/]*'
    if (token === '?') return '[^/]'
    if (token === '{') {
      depth += 1
      return '(?:'
    }
    if (token === '}' && depth > 0) {
      depth -= 1
      return ')'
    }
    if (token === ',' && depth > 0) return '|'
    if (token === '[' || token === '\\') throw unclosed(glob)
    return literal(token)
  })
  if (depth > 0) throw unclosed(glob)
  return source
}

/** Everything stands for itself but a `-` between two characters. */
function translateSet(set: string): string {
  return set.replace(/\\(.)|[^-]/gsu, (one, escaped) => {
    return `\\u{${(escaped ?? one).codePointAt(0).toString(16)}}`
  })
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
}

function unclosed(glob: string): UsageError {
  return new UsageError(`the glob "${glob}" is not closed`, {
    hint: 'Put a \\ before a [, { or \\ that stands for itself',
  })
}
