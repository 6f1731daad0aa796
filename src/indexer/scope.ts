/** Which keys a run is about. */
import type { RunPart } from '../mapping/run-report.ts'
import { compareKeys } from '../remote/key.ts'
import { globMatcher } from './glob.ts'

/** A run's limits. Keys outside of them are neither read nor dropped. */
export interface Scope {
  /** In key order, none of them the start of another; `['']` is everything. */
  prefixes: string[]
  /** What it was made of, unless it is everything. */
  part: RunPart | undefined
  /** Whether a key below one of the prefixes is wanted. */
  matches(key: string): boolean
}

/** What narrows a run down; without any of it, it is about everything. */
export interface ScopeOptions {
  prefixes?: string[]
  /** Globs (glob.ts): with any, only keys that match one of them. */
  include?: string[]
  /** Globs: keys that match one of them are left out, whatever `include` says. */
  exclude?: string[]
}

/** Returns the scope that the options describe. Throws UsageError for a bad glob. */
export function makeScope({ prefixes = [], include = [], exclude = [] }: ScopeOptions): Scope {
  const wanted = include.length === 0 ? () => true : anyOf(include)
  const unwanted = exclude.length === 0 ? () => false : anyOf(exclude)
  const part = { prefixes: outermost(prefixes), include, exclude }
  const isPart = Object.values(part).some((given) => given.length > 0)
  return {
    prefixes: prefixes.length > 0 ? part.prefixes : [''],
    part: isPart ? part : undefined,
    matches: (key) => wanted(key) && !unwanted(key),
  }
}

/** Returns whether a key is one that a run with this scope is about. */
export function covers({ prefixes, matches }: Scope, key: string): boolean {
  return prefixes.some((prefix) => key.startsWith(prefix)) && matches(key)
}

function anyOf(globs: string[]): (key: string) => boolean {
  const matchers = globs.map(globMatcher)
  return (key) => matchers.some((matches) => matches(key))
}

function outermost(prefixes: string[]): string[] {
  const sorted = [...new Set(prefixes)].sort(compareKeys)
  return sorted.filter(
    (prefix) => !sorted.some((other) => other !== prefix && prefix.startsWith(other)),
  )
}
