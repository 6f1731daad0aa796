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

/** Each part that is indexed by itself has its own report; of more than so many the oldest is forgotten. */
const MOST_EARLIER = 100

/** Returns the history with one more run. What was about everything makes all before it forgotten. */
export function withRun(history: RunHistory | undefined, report: RunReport): RunHistory {
  if (history === undefined || report.part === undefined) return { ...report, earlier: [] }
  const { earlier: before, ...last } = history
  const name = JSON.stringify(report.part)
  const earlier = [last, ...before].filter(({ part }) => JSON.stringify(part) !== name)
  const oldest = earlier.findLastIndex(({ part }) => part !== undefined)
  return {
    ...report,
    earlier: earlier.length > MOST_EARLIER ? earlier.toSpliced(oldest, 1) : earlier,
  }
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

function gapsOfRun({ outcome, unreadable, archived, part }: RunReport): string[] {
  const which = part === undefined ? '' : ` with ${describePart(part)}`
  const run = `the last index run${which}`
  return [
    ...(outcome === 'complete' || unreadable > 0
      ? []
      : [`${run} was ${outcome}: objects may be missing`]),
    ...(unreadable > 0 ? [`${run} could not read ${unreadable} objects: they may be missing`] : []),
    ...(archived > 0 ? [`${run} passed by ${archived} archived objects: they may be missing`] : []),
  ]
}

/** True where some keys that start with `prefix` may be of the part. */
function concerns(part: RunPart | undefined, prefix: string): boolean {
  if (part === undefined || part.prefixes.length === 0) return true
  return part.prefixes.some((each) => each.startsWith(prefix) || prefix.startsWith(each))
}

/** True where all keys that start with `prefix` are of the part. */
function spans(part: RunPart | undefined, prefix: string): boolean {
  if (part === undefined) return true
  const { prefixes, include, exclude } = part
  if (include.length > 0 || exclude.length > 0) return false
  return prefixes.some((each) => prefix.startsWith(each))
}
