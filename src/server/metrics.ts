/**
 * The metrics, for Prometheus and for Arvados' dashboards, whose names the first ones are. All but
 * the summaries are read from the counters, so nothing is counted twice.
 */
import { AggregatorRegistry, Counter, Gauge, Registry, Summary } from 'prom-client'
import type { BlockCache } from '../volume/cache/cache.ts'
import type { Counters } from './counters.ts'
import type { Limit } from './limit.ts'

/** Seconds that a request took. */
export interface RequestTimes {
  timeTotal: number
  timeToStatus: number
}

/** A value and the labels it belongs to. */
type Sample = [labels: Record<string, string>, value: number]

/** What prom-client's JSON looks like; its declarations take `type` for a number. */
export interface MetricObject {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'summary'
  /** How those of several servers make one. */
  aggregator: string
  values: {
    labels: Record<string, string | number | undefined>
    value: number
    metricName?: string
  }[]
}

/** Metrics of one server. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #duration: Summary
  readonly #toStatus: Summary

  constructor(
    counters: Counters,
    limits: { requests: Limit; blocks: Limit },
    cache: BlockCache | undefined,
  ) {
    this.#duration = this.#summary('request_duration_seconds', 'Time until an answer was out')
    this.#toStatus = this.#summary('time_to_status_seconds', 'Time until an answer began')
    this.#addVolumes(counters)
    this.#addOwn(counters, limits)
    if (cache !== undefined) this.#addCache(cache)
  }

  /** Counts a request that is over. A status of 0 says that its client went away without any answer. */
  observe(method: string, status: number, { timeTotal, timeToStatus }: RequestTimes): void {
    const labels = { code: String(status), method: method.toLowerCase() }
    this.#duration.observe(labels, timeTotal)
    this.#toStatus.observe(labels, timeToStatus)
  }

  /** Returns all of them as they are now. */
  async values(): Promise<MetricObject[]> {
    return (await this.#registry.getMetricsAsJSON()) as unknown as MetricObject[]
  }

  #addVolumes({ volumes }: Counters): void {
    const prefix = 'arvados_keepstore_volume'
    this.#count(`${prefix}_operations`, 'Requests to a volume', ['device_id', 'operation'], () =>
      [...volumes].flatMap(([id, { operations }]) => samples('operation', operations, id)),
    )
    this.#count(`${prefix}_errors`, 'Failures of a volume', ['device_id', 'error_type'], () =>
      [...volumes].flatMap(([id, { errors }]) => samples('error_type', errors, id)),
    )
    const help = 'Bytes read from a volume, and written to it'
    this.#count(`${prefix}_io_bytes`, help, ['device_id', 'direction'], () =>
      [...volumes].flatMap(([id, { bytesIn, bytesOut }]) =>
        samples('direction', { in: bytesIn, out: bytesOut }, id),
      ),
    )
  }

  #addOwn(counters: Counters, { requests, blocks }: { requests: Limit; blocks: Limit }): void {
    this.#count(
      'keepgw_failovers_total',
      'Places given up for other ones, by cause',
      ['cause'],
      () => samples('cause', counters.failovers),
    )
    this.#count(
      'keepgw_hedges_total',
      'Places asked beside one that was slow, by outcome',
      ['outcome'],
      () => samples('outcome', counters.hedges),
    )
    this.#count('keepgw_errors_total', 'Answers that are none, by kind', ['kind'], () =>
      samples('kind', counters.errors),
    )
    this.#count('keepgw_blocks_total', 'Blocks sent whole', [], () => [[{}, counters.blocks]])
    this.#count('keepgw_bytes_total', 'Bytes of answers', [], () => [[{}, counters.bytes]])
    this.#gauge('keepgw_concurrent_requests', 'Requests under way', () => requests.running)
    this.#gauge('keepgw_max_concurrent_requests', '0: no limit', () => requests.max)
    this.#gauge('keepgw_concurrent_blocks', 'Blocks being read', () => blocks.running)
    this.#gauge('keepgw_max_concurrent_blocks', '0: no limit', () => blocks.max)
  }

  #addCache(cache: BlockCache): void {
    const { counts } = cache
    const count = (name: string, help: string, read: () => number) => {
      this.#count(`keepgw_cache_${name}`, help, [], () => [[{}, read()]])
    }
    count('hits_total', 'Blocks that came from the cache', () => counts.hits)
    count('misses_total', 'Blocks that the cache did not have', () => counts.misses)
    count('hit_bytes_total', 'Bytes that came from the cache', () => counts.hitBytes)
    count('stored_total', 'Blocks put into the cache', () => counts.stored)
    count('skipped_total', 'Blocks read and not put into the cache', () => counts.skipped)
    count('evictions_total', 'Blocks that had to make room', () => counts.evictions)
    count('broken_total', 'Files of the cache that proved torn or spoilt', () => counts.broken)
    count('errors_total', 'Failures of the cache’s file system', () => counts.errors)
    // All servers of one address have the same cache.
    this.#gauge('keepgw_cache_bytes', 'Bytes in the cache', () => cache.bytes, 'max')
    const max = 'keepgw_cache_max_bytes'
    this.#gauge(max, 'Bytes the cache may have', () => cache.limit, 'max')
  }

  #summary(name: string, help: string): Summary {
    const labelNames = ['code', 'method']
    return new Summary({ name, help, labelNames, percentiles: [], registers: [this.#registry] })
  }

  #count(name: string, help: string, labelNames: string[], read: () => Sample[]): void {
    new Counter({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect() {
        this.reset()
        for (const [labels, value] of read()) this.inc(labels, value)
      },
    })
  }

  #gauge(name: string, help: string, read: () => number, aggregator: 'sum' | 'max' = 'sum'): void {
    new Gauge({
      name,
      help,
      aggregator,
      registers: [this.#registry],
      collect() {
        this.set(read())
      },
    })
  }
}

/** The Content-Type of metricsText(). */
export const METRICS_TYPE = Registry.PROMETHEUS_CONTENT_TYPE

/** Adds up the metrics of several servers. */
export function addMetrics(all: readonly MetricObject[][]): MetricObject[] {
  const sums = AggregatorRegistry.aggregate(all as never).getMetricsAsArray()
  return (sums as unknown as MetricObject[]).map(({ name, help, type, aggregator, values }) => {
    return { name, help, type, aggregator, values }
  })
}

/** Returns metrics in Prometheus' text format. */
export function metricsText(metrics: readonly MetricObject[]): Promise<string> {
  return AggregatorRegistry.aggregate([metrics] as never).metrics()
}

/** Returns metrics as Arvados services do at /metrics.json: protobuf's JSON of MetricFamily. */
export function metricsFamilies(metrics: readonly MetricObject[]): object[] {
  return metrics.map((family) => {
    const { name, help, type } = family
    return { name, help, type: type.toUpperCase(), metric: toMetrics(family) }
  })
}

function samples(
  label: string,
  counts: Readonly<Record<string, number>>,
  deviceId?: string,
): Sample[] {
  const device = deviceId === undefined ? {} : { device_id: deviceId }
  return Object.entries(counts).map(([name, count]) => [{ ...device, [label]: name }, count])
}

/** Returns a family's values as protobuf's Metric messages: a summary has its sum and count in one. */
function toMetrics({ type, name, values }: MetricObject): object[] {
  if (type !== 'summary') {
    return values.map(({ labels, value }) => ({ label: pairs(labels), [type]: { value } }))
  }
  const counts = values.filter(({ metricName }) => metricName === `${name}_count`)
  const sums = values.filter(({ metricName }) => metricName === `${name}_sum`)
  return counts.map(({ labels, value }, at) => ({
    label: pairs(labels),
    // Protobuf's JSON has 64-bit numbers as strings.
    summary: { sampleCount: String(value), sampleSum: sums[at]?.value ?? 0 },
  }))
}

function pairs(labels: Record<string, string | number | undefined>): object[] {
  return Object.entries(labels).map(([name, value]) => ({ name, value: String(value) }))
}
