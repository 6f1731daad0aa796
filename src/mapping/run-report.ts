/** How index runs have ended, and what that leaves open. Pure. */

/** A limit that the user has set to a run. */
export type RunLimit = 'max-objects' | 'max-duration'

/** A run that is not about everything: its flags, as they were given. */
export interface RunPart {
  prefixes: readonly string[]
  include: readonly string[]
  exclude: readonly string[]
}

/** How an index run ended. */
export interface RunReport {
  /** ISO 8601, UTC. */
  started: string
  ended: string
  outcome: 'complete' | 'incomplete' | 'interrupted' | 'failed'
  /** Objects that could not be read. */
  unreadable: number
  /** Objects that were passed by, as they are archived. */
  archived: number
  /** The limit that ended it early. */
  incomplete?: RunLimit
  /** What it was about, where that was a part. */
  part?: RunPart
}

/** The last run, and those before it that still count, as they were about something else. */
export interface RunHistory extends RunReport {
  /** The newest first. */
  earlier: readonly RunReport[]
}

/** Returns a history as it is stored, with what older ones lack; undefined for none. */
export function asHistory(stored: unknown): RunHistory | undefined {
  const history = stored as RunHistory | undefined
  if (history === undefined) return undefined
  return { ...history, earlier: Array.isArray(history.earlier) ? history.earlier : [] }
}

/** Each part that is indexed by itself has its own report; of more than so many, some are forgotten. */
const MOST_EARLIER = 100

/**
 * Returns the history with one more run. It makes forgotten what came before it about the same part; and,
 * where it was complete, about parts of that. One about everything makes all forgotten.
 */
export function withRun(history: RunHistory | undefined, report: RunReport): RunHistory {
  const { part, outcome } = report
  if (history === undefined || part === undefined) return { ...report, earlier: [] }
  const { earlier: before, ...last } = history
  const isMadeGood = (other: RunReport): boolean =>
    JSON.stringify(other.part) === JSON.stringify(part) ||
    (outcome === 'complete' && isWithin(other.part, part))
  const earlier = [last, ...before].filter((other) => !isMadeGood(other))
  return { ...report, earlier: earlier.length > MOST_EARLIER ? withoutOne(earlier) : earlier }
}

/** Forgets a run that was complete, the oldest: that says too much rather than too little. */
function withoutOne(runs: RunReport[]): RunReport[] {
  const complete = runs.findLastIndex(
    ({ part, outcome, archived }) => part && outcome === 'complete' && archived === 0,
  )
  const oldest = runs.findLastIndex(({ part }) => part !== undefined)
  return runs.toSpliced(complete < 0 ? oldest : complete, 1)
}

/**
 * Returns what the runs have left open of the keys that start with `prefix`, a sentence each: objects may
 * be missing.
 */
export function gapsOf(history: RunHistory | undefined, prefix: string): string[] {
  if (history === undefined) return ['no index run has come to its end yet: objects may be missing']
  const runs = [history, ...history.earlier].filter(({ part }) => concerns(part, prefix))
  // It has looked at everything: what came before it is made good.
  const whole = runs.findIndex(({ part, outcome }) => outcome === 'complete' && spans(part, prefix))
  const gaps = (whole < 0 ? runs : runs.slice(0, whole + 1)).flatMap(gapsOfRun)
  if (whole < 0 && gaps.length === 0)
    gaps.push('only parts were indexed yet: objects may be missing')
  return gaps
}

/** Returns what a run was about, as its flags say it. */
export function describePart({ prefixes, include, exclude }: RunPart): string {
  const said = { prefix: prefixes, include, exclude }
  return Object.entries(said)
    .flatMap(([flag, values]) => values.map((value) => `--${flag} ${JSON.stringify(value)}`))
    .join(' ')
}

function gapsOfRun(report: RunReport): string[] {
  const { outcome, unreadable, archived, incomplete, part } = report
  const isEnded = outcome === 'complete' || (outcome === 'incomplete' && incomplete === undefined)
  const which = part === undefined ? '' : ` with ${describePart(part)}`
  const run = `the last index run${which}`
  return [
    ...(isEnded ? [] : [`${run} was ${outcome}: objects may be missing`]),
    ...(unreadable > 0 ? [`${run} could not read ${unreadable} objects: they may be missing`] : []),
    ...(archived > 0 ? [`${run} passed by ${archived} archived objects: they may be missing`] : []),
  ]
}

/** True where some keys that start with `prefix` may be of the part. */
function concerns(part: RunPart | undefined, prefix: string): boolean {
  if (part === undefined || part.prefixes.length === 0) return true
  return part.prefixes.some((each) => each.startsWith(prefix) || prefix.startsWith(each))
}

/** True where all keys of a part are those of another one. */
function isWithin(part: RunPart | undefined, other: RunPart): boolean {
  const prefixes = part?.prefixes ?? []
  return prefixes.length > 0 && prefixes.every((prefix) => spans(other, prefix))
}

/** True where all keys that start with `prefix` are of the part. */
function spans(part: RunPart | undefined, prefix: string): boolean {
  if (part === undefined) return true
  const { prefixes, include, exclude } = part
  if (include.length > 0 || exclude.length > 0) return false
  return prefixes.some((each) => prefix.startsWith(each))
}
