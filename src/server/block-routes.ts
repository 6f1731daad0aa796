/** GET and HEAD of a block, and the refusal of what would write one. */
import { type Locator, parseLocator } from '../keep/locator.ts'
import { readThrough } from '../volume/cache/read-through.ts'
import { checkBlock, proveBlock } from '../volume/check-block.ts'
import { type BlockOutput, readBlock } from '../volume/read-block.ts'
import type { BlockQuery } from '../volume/source-walk.ts'
import { authorizeRead } from './access.ts'
import { Refused, TimedOut } from './errors.ts'
import { type Context, write } from './request.ts'
import { logFailover, logHedge } from './request-log.ts'
import type { Service } from './service.ts'

/** Milliseconds that a refused body is read and thrown away, so that its sender sees the answer. */
const LINGER = 5_000

/**
 * Answers GET: status and headers go out with the first byte that may. Throws BadLocator, Refused,
 * BlockError, or what the request was aborted with; where `ctx.respond` is false by then, only the
 * connection can be cut.
 */
export async function getBlock(service: Service, ctx: Context, name: string): Promise<void> {
  const { res, state } = ctx
  const query = blockQuery(service, ctx, name)
  const output: BlockOutput = {
    begin(length) {
      // From here on an error can only cut the connection, which koa would not do.
      ctx.respond = false
      setBlockHeaders(ctx, length)
    },
    async write(chunk) {
      await write(res, chunk, state.signal)
      state.bodyBytes += chunk.length
    },
  }
  const { cache, limits, timeouts } = service
  const late = setTimeout(() => {
    res.destroy(new TimedOut(`the answer took longer than ${timeouts.answer / 1000} s`))
  }, timeouts.answer)
  try {
    await limits.blocks.run(() => {
      return cache === undefined ? readBlock(query, output) : readThrough(cache, query, output)
    })
  } finally {
    clearTimeout(late)
  }
  res.end()
  service.counters.blocks += 1
}

/**
 * Answers HEAD: as GET, without the data. The cache is not asked: who sends HEAD wants to know whether
 * the block will stay, and does not write it again if told so. Throws as getBlock does.
 */
export async function headBlock(service: Service, ctx: Context, name: string): Promise<void> {
  const query = blockQuery(service, ctx, name)
  const check = service.head === 'read' ? proveBlock : checkBlock
  setBlockHeaders(ctx, await service.limits.blocks.run(() => check(query)))
}

/**
 * Answers PUT, TOUCH and DELETE before any body is read: this service is read-only. Throws as refuseBody
 * does.
 */
export async function refuseWrite(ctx: Context): Promise<void> {
  const headers = { Allow: 'GET, HEAD, OPTIONS' }
  await refuseBody(ctx, new Refused(405, 'Method Not Allowed', headers))
}

/**
 * Answers a request whose body is not wanted, or not its rest, and ends the connection. Throws what the
 * request was aborted with, where its client has gone.
 */
export async function refuseBody(ctx: Context, refused: Refused): Promise<void> {
  const text = `${refused.message}\n`
  ctx.status = refused.status
  ctx.set(refused.headers)
  ctx.body = text
  ctx.set('Connection', 'close')
  const { req } = ctx
  const sendsBody = 'transfer-encoding' in req.headers || Number(req.headers['content-length']) > 0
  // Who expects "100 Continue" has sent nothing yet, and will not.
  if (sendsBody && req.headers.expect === undefined) await answerThenDrain(ctx, text)
}

/**
 * Closing a connection with data unread resets it, and the sender may never see the answer; so the
 * answer goes out first and the connection is closed when the body has come, or after a while.
 */
async function answerThenDrain(ctx: Context, text: string): Promise<void> {
  ctx.respond = false
  await write(ctx.res, text, ctx.state.signal)
  ctx.state.bodyBytes += text.length
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, LINGER)
    ctx.req.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    ctx.req.resume()
  })
  ctx.res.end()
}

/** Returns the locator that the request may read. Throws BadLocator, or Refused. */
function readable(service: Service, ctx: Context, name: string): Locator {
  ctx.set('Vary', 'X-Keep-Signature')
  const locator = parseLocator(name)
  authorizeRead(ctx, locator, service.signing)
  return locator
}

function blockQuery(service: Service, ctx: Context, name: string): BlockQuery {
  const { volumes, failures, engine, readAhead, hedging, idleLimit, log, counters } = service
  const { hash, size } = readable(service, ctx, name)
  const { id, signal, token } = ctx.state
  return {
    volumes,
    hash,
    size,
    reader: { locator: name, token, via: ctx.get('Via') },
    signal,
    failures,
    engine,
    readAhead,
    hedging,
    idleLimit,
    onHedge(hedge) {
      counters.hedges[hedge.won ? 'won' : 'lost'] += 1
      logHedge(log, id, hash, hedge)
    },
    onFailover(event) {
      if (!event.resumed) counters.failovers[event.cause] += 1
      logFailover(log, id, hash, event)
    },
  }
}

function setBlockHeaders(ctx: Context, length: number): void {
  ctx.status = 200
  ctx.set('Content-Type', 'application/octet-stream')
  ctx.set('Content-Length', String(length))
}
