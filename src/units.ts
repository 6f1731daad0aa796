/** Amounts as people write them. */
import { UsageError } from './errors.ts'

const MULTIPLES = ['', 'K', 'M', 'G', 'T', 'P']
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
/** Some 273 years: with more, a time from now on has no date that all programs can write. */
const MAX_SECONDS = 100_000 * 86_400
const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 }

/**
 * Returns the bytes that a text names, a whole number: `1048576`, `1024K`, `50M`, `1.5GiB` in powers
 * of 1024, `50MB` in powers of 1000, as the GNU tools have it. Throws UsageError for other texts.
 */
export function parseBytes(text: string): number {
  const [, number, multiple, ending] = /^(\d+(?:\.\d+)?)([KMGTP]?)(i?B?)$/i.exec(text) ?? []
  const power = MULTIPLES.indexOf((multiple ?? '').toUpperCase())
  const isBroken = multiple === '' && /i/i.test(ending ?? '')
  if (number === undefined || isBroken) {
    throw new UsageError(`"${text}" is no number of bytes`, {
      hint: 'Write for example 500K, 50M or 1.5G, and 50MB for millions',
    })
  }
  const base = ending!.toUpperCase() === 'B' ? 1000 : 1024
  const bytes = Math.round(Number(number) * base ** power)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new UsageError(`"${text}" is more bytes than there can be`, { hint: 'Up to 8191T' })
}

/**
 * Returns the seconds that a text names: `3600s`, `90m`, `2h`, `1.5h`, `1d`. Throws UsageError for
 * other texts, a number without a unit among them.
 */
export function parseSeconds(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([smhd])$/i.exec(text) ?? []
  if (number === undefined) {
    throw new UsageError(`"${text}" is no span of time`, {
      hint: 'Write for example 3600s, 90m, 2h or 1d',
    })
  }
  const seconds = Number(number) * SECONDS[unit!.toLowerCase()]!
  if (seconds <= MAX_SECONDS) return seconds
  throw new UsageError(`"${text}" is longer than anything lasts`, { hint: 'Up to 100000d' })
}

/** Returns the share that a percentage names, 0 to 1: `5`, `0.1`, `5%`. Throws UsageError for other texts. */
export function parsePercent(text: string): number {
  const share = Number(/^(\d+(?:\.\d+)?)%?$/.exec(text)?.[1]) / 100
  if (share <= 1) return share
  throw new UsageError(`"${text}" is no percentage`, { hint: 'Write a number from 0 to 100' })
}

/** Returns a number of bytes as people read it: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`
}

/** Returns a sum as people read it, rounded to cents: `about $4.05`. */
export function formatDollars(dollars: number): string {
  return dollars < 0.01 ? 'less than $0.01' : `about $${dollars.toFixed(2)}`
}

/** Returns a span of time as people read it: `42 s`, `3 min`, `5 h`, `2 days`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} days`
}
