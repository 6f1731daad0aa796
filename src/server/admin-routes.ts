/** What administrators ask: whether all is well, and what was done. */
import { messageOf } from '../errors.ts'
import { withIdleLimit } from '../volume/idle-limit.ts'
import type { Volume } from '../volume/volume.ts'
import { authorize } from './access.ts'
import { METRICS_TYPE, metricsFamilies, metricsText } from './metrics.ts'
import type { Context } from './request.ts'
import type { Service } from './service.ts'

/** Milliseconds in which a volume must answer to be called healthy. */
const HEALTH_LIMIT = 5_000
/** A hash that no volume knows. To ask for it shows whether a volume can be asked at all. */
const UNKNOWN_HASH = '0'.repeat(32)

/** Answers with the mounts, and counts since the start. Throws Refused. */
export async function getStatus(service: Service, ctx: Context): Promise<void> {
  const { mounts, tokens } = service
  authorize(ctx, [tokens.systemRoot, tokens.management], { local: true })
  const { uptimeSeconds, counts, cache } = await service.snapshot()
  ctx.body = {
    uptimeSeconds,
    volumes: mounts.map(({ uuid, volume }) => ({
      uuid,
      deviceId: volume.deviceId,
      volume: String(volume),
    })),
    ...counts,
    ...(cache && { cache: { ...cache, ...(counts.cache as object) } }),
  }
}

/**
 * Answers whether the service runs and can ask its volumes; an ERROR is told by the body alone. Throws
 * Refused.
 */
export async function getHealth(service: Service, ctx: Context): Promise<void> {
  authorize(ctx, [service.tokens.management], { local: false })
  const checks = service.mounts.map(({ volume }) => healthError(volume, ctx.state.signal))
  const error = (await Promise.all(checks)).find((each) => each !== undefined)
  ctx.body = error === undefined ? { health: 'OK' } : { health: 'ERROR', error }
}

/** Answers with the metrics in Prometheus' text format. Throws Refused. */
export async function getMetrics(service: Service, ctx: Context): Promise<void> {
  authorize(ctx, [service.tokens.management], { local: true })
  const { metrics } = await service.snapshot()
  ctx.body = await metricsText(metrics)
  ctx.set('Content-Type', METRICS_TYPE)
}

/** Answers with the metrics as JSON (metricsFamilies). Throws Refused. */
export async function getMetricsJson(service: Service, ctx: Context): Promise<void> {
  authorize(ctx, [service.tokens.management], { local: true })
  const { metrics } = await service.snapshot()
  ctx.body = metricsFamilies(metrics)
}

async function healthError(volume: Volume, signal: AbortSignal): Promise<string | undefined> {
  const sources = volume.sources(UNKNOWN_HASH)[Symbol.asyncIterator]()
  try {
    await withIdleLimit(HEALTH_LIMIT, signal, () => sources.next())
    return undefined
  } catch (error) {
    return `${volume}: ${messageOf(error)}`
  } finally {
    // Not awaited: an iterator that stalls would hold the request.
    Promise.resolve(sources.return?.()).catch(() => {})
  }
}
