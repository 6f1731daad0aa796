/**
 * How long properties are tried. KEEPGW_TEST_FUZZ_RUNS=50 makes each of them fifty times as long, and
 * KEEPGW_TEST_FUZZ_SEED repeats a run that failed: fast-check prints its seed.
 */

import fc from 'fast-check'

/** How many times as long as in a usual run. */
export const FUZZ_FACTOR = numberOf('KEEPGW_TEST_FUZZ_RUNS') ?? 1

/** Returns the parameters of a property that is tried so often in a usual run. */
export function runs(usual = 100): { numRuns: number; seed?: number } {
  const seed = numberOf('KEEPGW_TEST_FUZZ_SEED')
  return { numRuns: Math.ceil(usual * FUZZ_FACTOR), ...(seed === undefined ? {} : { seed }) }
}

// Properties that say nothing of it are tried a hundred times.
fc.configureGlobal(runs())

function numberOf(variable: string): number | undefined {
  const text = process.env[variable]
  if (!text) return undefined
  const number = Number(text)
  if (Number.isFinite(number)) return number
  throw new Error(`${variable}=${text} is no number`)
}
