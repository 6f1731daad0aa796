/** Results as a Markdown table: medians, and ratios with their spread. */
import type { Case, Result, Run } from './case.ts'

/** What is compared. Undefined where a run does not have it. */
interface Column {
  head: string
  of(run: Run, amount: number): number | undefined
  hasRatio: boolean
}

function columnsOf(unit: Case['unit']): Column[] {
  const [scale, per] = unit === 'GB' ? [1, 's/GB'] : [1e6, `µs/${unit}`]
  const each = (seconds: number | undefined, amount: number): number | undefined =>
    seconds === undefined ? undefined : (scale * seconds) / amount
  const inMs = (seconds: number | undefined) => seconds && 1000 * seconds
  const [rateScale, rate] = unit === 'GB' ? [1000, 'MB/s'] : [1, `${unit}s/s`]
  return [
    { head: 'wall, s', of: (run) => run.wall, hasRatio: true },
    {
      head: rate,
      of: (run, amount) => (isServing(run) ? (rateScale * amount) / run.wall : undefined),
      hasRatio: true,
    },
    { head: `CPU, ${per}`, of: (run, amount) => each(run.cpu, amount), hasRatio: true },
    { head: 'first byte, ms', of: (run) => inMs(run.firstByte), hasRatio: true },
    { head: 'p99, ms', of: (run) => inMs(run.slowest), hasRatio: true },
    { head: 'RssAnon, MB', of: (run) => run.rssAnon / 1e6, hasRatio: true },
    { head: 'RSS, MB', of: (run) => run.rss / 1e6, hasRatio: true },
    {
      head: `store’s CPU, ${per}`,
      of: (run, amount) => each(run.storeCpu, amount),
      hasRatio: false,
    },
  ]
}

/** True for what a client has measured. */
function isServing(run: Run): boolean {
  return run.firstByte !== undefined
}

/** Those that no contender has are left out. */
function isThere({ of }: Column, results: Result[]): boolean {
  return results.some(({ runs }) => runs.some((run) => of(run, 1) !== undefined))
}

/** Returns the middle value, or the mean of the two in the middle. The list is not empty. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/**
 * Returns the table: a row of medians for each contender, and one for each ratio. A ratio is that of
 * the medians; in brackets the least and the greatest of the single rounds.
 */
export function tableOf({ unit, ratios }: Case, results: Result[]): string {
  const columns = columnsOf(unit).filter((column) => isThere(column, results))
  const rows = [
    ['', ...columns.map(({ head }) => head)],
    ['---', ...columns.map(() => '---:')],
  ]
  for (const { contender, runs } of results) {
    rows.push([
      contender.name,
      ...columns.map((column) => medianCell(column, runs, contender.amount)),
    ])
  }
  for (const [one, other] of ratios) {
    const [a, b] = [one, other].map((each) => results.find((result) => result.contender === each)!)
    const cells = columns.map((column) => (column.hasRatio ? ratioCell(column, a!, b!) : ''))
    rows.push([`**${one.name} / ${other.name}**`, ...cells])
  }
  return rows.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

function medianCell(column: Column, runs: Run[], amount: number): string {
  const values = runs.map((run) => column.of(run, amount))
  return values.some((value) => value === undefined) ? '–' : figure(median(values as number[]))
}

function ratioCell(column: Column, one: Result, other: Result): string {
  const values = ({ contender, runs }: Result): number[] =>
    runs.map((run) => column.of(run, contender.amount)!)
  const [a, b] = [values(one), values(other)]
  const pairs = a.map((value, round) => value / b[round]!)
  const [least, most] = [Math.min(...pairs), Math.max(...pairs)].map((ratio) => ratio.toFixed(2))
  return `**${(median(a) / median(b)).toFixed(2)}** (${least}–${most})`
}

/** Three digits that count. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3)
}
