/** What administrators and keep-balance ask: the index, the status, and whether all is well. */
import type { Volume } from '../volume/volume.ts'
import { authorize } from './access.ts'
import { Refused } from './errors.ts'
import { type Context, write } from './request.ts'
import type { Service } from './service.ts'

/** Characters of an index that go out together. */
const BATCH = 32_768

/**
 * Answers with every block of all volumes whose hash starts with `prefix`. The empty line at the
 * end is the proof that the list is complete; without it the connection is broken.
 */
export async function getIndex(service: Service, ctx: Context, prefix: string): Promise<void> {
  authorize(ctx, [service.tokens.systemRoot], { local: true })
  if (!/^[0-9a-f]{0,32}$/.test(prefix)) throw new Refused(400, 'Bad Request')
  const { res, state } = ctx
  // The first batch is at hand before the status goes out: most errors can still be answered.
  for await (const text of indexText(service.volumes, prefix)) {
    if (ctx.respond !== false) {
      ctx.respond = false
      ctx.status = 200
      ctx.set('Content-Type', 'text/plain; charset=utf-8')
    }
    await write(res, text, state.signal)
    state.bodyBytes += text.length
  }
  res.end()
}

/** Answers with the volumes, and counts since the start. */
export function getStatus(service: Service, ctx: Context): void {
  const { volumes, counters, tokens } = service
  authorize(ctx, [tokens.systemRoot, tokens.management], { local: true })
  const { uptime, requests, running, statuses, blocks, bytes, errors, failovers } = counters
  ctx.body = {
    uptimeSeconds: uptime,
    volumes: volumes.map((volume) => ({ deviceId: volume.deviceId, volume: String(volume) })),
    requests: { total: requests, running, byStatus: statuses },
    blocks,
    bytes,
    errors,
    failovers,
  }
}

/** Answers that the service runs. */
export function getHealth(service: Service, ctx: Context): void {
  authorize(ctx, [service.tokens.management], { local: false })
  ctx.body = { health: 'OK' }
}

async function* indexText(volumes: readonly Volume[], prefix: string): AsyncGenerator<string> {
  let text = ''
  for (const volume of volumes) {
    for await (const { hash, length, mtimeNs } of volume.blocks(prefix)) {
      text += `${hash}+${length} ${mtimeNs}\n`
      if (text.length < BATCH) continue
      yield text
      text = ''
    }
  }
  yield `${text}\n`
}
