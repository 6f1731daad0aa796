/** What a server holds, second by second, and whether that is level. */
import type { Served } from '../../e2e/keepgw.ts'
import { holdingOf, processesOf } from '../processes.ts'

const MIB = 2 ** 20
/** RssAnon may be so much more at the end than in the second quarter: a share of it, and bytes. */
const LEVEL = { share: 0.15, bytes: 20e6 }
/** Descriptors likewise: connections come and go. */
const DESCRIPTORS = 16

export interface Sample {
  seconds: number
  /** Of each process, the one that was started first. */
  processes: { pid: number; rssAnon: number; rss: number; descriptors: number }[]
  /** Blocks read until then. */
  blocks: number
}

/** Takes a sample each second until it is disposed of. */
export class Sampler implements Disposable {
  readonly samples: Sample[] = []
  readonly #timer: NodeJS.Timeout

  constructor(served: Pick<Served, 'process'>, blocks: () => number) {
    const start = performance.now()
    this.#timer = setInterval(() => {
      const seconds = Math.round((performance.now() - start) / 1000)
      try {
        const processes = processesOf(served).map((pid) => ({ pid, ...holdingOf(pid) }))
        this.samples.push({ seconds, processes, blocks: blocks() })
      } catch {
        // A process has ended just now; its exit code and the log say why.
      }
    }, 1000)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

export interface Judgement {
  /** Bytes of RssAnon, all processes together: after a tenth of the time, after half, and at the end. */
  rssAnon: { tenth: number; half: number; end: number; most: number }
  /** Bytes a minute by which RssAnon grew in the second half (least squares). */
  slope: number
  descriptors: { tenth: number; end: number; most: number }
  memoryIsLevel: boolean
  descriptorsAreLevel: boolean
}

/** Compares the last quarter with the second one: the first one is for caches and pools to fill. */
export function judge(samples: readonly Sample[]): Judgement {
  const rssAnon = samples.map((each) => total(each, 'rssAnon'))
  const descriptors = samples.map((each) => total(each, 'descriptors'))
  const at = (list: number[], share: number) =>
    list[Math.floor((list.length - 1) * share)] ?? Number.NaN
  const quarter = (list: number[], nth: number) =>
    median(list.slice((list.length * (nth - 1)) / 4, (list.length * nth) / 4))
  const most = quarter(rssAnon, 2) * (1 + LEVEL.share) + LEVEL.bytes
  return {
    rssAnon: {
      tenth: at(rssAnon, 0.1),
      half: at(rssAnon, 0.5),
      end: at(rssAnon, 1),
      most: Math.max(...rssAnon),
    },
    slope: slopeOf(rssAnon.slice(rssAnon.length / 2)) * 60,
    descriptors: {
      tenth: at(descriptors, 0.1),
      end: at(descriptors, 1),
      most: Math.max(...descriptors),
    },
    memoryIsLevel: quarter(rssAnon, 4) <= most,
    descriptorsAreLevel: quarter(descriptors, 4) <= quarter(descriptors, 2) + DESCRIPTORS,
  }
}

/** Returns the samples as CSV, a line a second; bytes of each process, the primary first. */
export function toCsv(samples: readonly Sample[]): string {
  const most = Math.max(...samples.map(({ processes }) => processes.length))
  const each = (make: (at: number) => string) =>
    Array.from({ length: most }, (_, at) => make(at)).join()
  const head = ['seconds', 'blocks', 'rssAnon', 'rss', 'descriptors', each((at) => `rssAnon${at}`)]
  const lines = samples.map((sample) => {
    const { seconds, blocks, processes } = sample
    const sums = [total(sample, 'rssAnon'), total(sample, 'rss'), total(sample, 'descriptors')]
    return [seconds, blocks, ...sums, each((at) => String(processes[at]?.rssAnon ?? ''))].join()
  })
  return `${[head.join(), ...lines].join('\n')}\n`
}

/** Returns what is worth drawing. */
export function curves(samples: readonly Sample[]): { name: string; values: number[] }[] {
  const perSecond = samples.map(({ blocks }, at) => blocks - (samples[at - 1]?.blocks ?? 0))
  return [
    {
      name: 'RssAnon of all processes, MiB',
      values: samples.map((each) => total(each, 'rssAnon') / MIB),
    },
    { name: 'open descriptors', values: samples.map((each) => total(each, 'descriptors')) },
    { name: 'blocks read each second', values: perSecond },
  ]
}

function total({ processes }: Sample, what: 'rssAnon' | 'rss' | 'descriptors'): number {
  return processes.reduce((sum, each) => sum + each[what], 0)
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

/** By how much the values grow from one to the next. */
function slopeOf(values: number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  let above = 0
  let below = 0
  for (const [at, value] of values.entries()) {
    above += (at - middle) * (value - mean)
    below += (at - middle) ** 2
  }
  return above / below
}
