/** Spans of time as Arvados' configuration has them: Go's durations. */

/** Nanoseconds of each unit (Go's time.ParseDuration). */
const UNITS: Record<string, bigint> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
}

/** What Go can hold: 292 years. */
const MAX_NANOSECONDS = 2n ** 63n - 1n

const PART = '(?:(\\d+)(?:\\.(\\d*))?|\\.(\\d+))(ns|us|µs|ms|s|m|h)'

/**
 * Returns the seconds of a duration such as `336h`, `1h30m` or `500ms`, or undefined for any other
 * text, and for one that is too long for Go. Negative ones are none here. Reckons in whole nanoseconds, as Go does: in floating point 4.1
 * hours are a little less than 14,760 seconds, and a TTL that is a second off verifies no signature.
 */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  if (!new RegExp(`^(?:${PART})+$`).test(text)) return undefined
  let nanoseconds = 0n
  for (const [, whole = '0', after, alone, unit] of text.matchAll(new RegExp(PART, 'g'))) {
    const fraction = after ?? alone ?? ''
    const digits = BigInt(whole + fraction)
    nanoseconds += (digits * UNITS[unit!]!) / 10n ** BigInt(fraction.length)
  }
  return nanoseconds > MAX_NANOSECONDS ? undefined : Number(nanoseconds) / 1e9
}
