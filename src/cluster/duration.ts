/** Spans of time as Arvados' configuration has them: Go's durations. */

/** Seconds of each unit (Go's time.ParseDuration). */
const UNITS: Record<string, number> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
}

const PART = '(\\d+(?:\\.\\d*)?|\\.\\d+)(ns|us|µs|ms|s|m|h)'

/**
 * Returns the seconds of a duration such as `336h`, `1h30m` or `500ms`, or undefined for any other
 * text. Negative ones are none here.
 */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  if (!new RegExp(`^(?:${PART})+$`).test(text)) return undefined
  let seconds = 0
  for (const [, number, unit] of text.matchAll(new RegExp(PART, 'g'))) {
    seconds += Number(number) * UNITS[unit!]!
  }
  return seconds
}
