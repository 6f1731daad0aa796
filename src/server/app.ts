/** The HTTP service: which request goes where. */
import Koa, { type Middleware } from 'koa'
import { isLocatorLike } from '../keep/locator.ts'
import { getHealth, getIndex, getStatus } from './admin-routes.ts'
import { getBlock, headBlock, refuseWrite } from './block-routes.ts'
import { answerOf, Refused } from './errors.ts'
import type { Context, RequestState } from './request.ts'
import { logRequests } from './request-log.ts'
import type { Service } from './service.ts'

/** Browsers may read blocks from any page. Every answer but health has these. */
export const CORS_HEADERS = {
  'Access-Control-Allow-Methods': 'GET, HEAD, PUT, OPTIONS',
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Headers':
    'Authorization, Content-Length, Content-Type, X-Keep-Desired-Replicas, X-Keep-Signature, X-Keep-Storage-Classes',
  'Access-Control-Expose-Headers':
    'X-Keep-Locator, X-Keep-Replicas-Stored, X-Keep-Storage-Classes-Confirmed',
  'Access-Control-Max-Age': '86486400',
}

const WRITES = new Set(['PUT', 'TOUCH', 'DELETE'])

/** Returns the koa application that serves these volumes. */
export function createApp(service: Service): Koa<RequestState> {
  const app = new Koa<RequestState>()
  // Errors are answered and logged below; what koa would print are clients that reset.
  app.silent = true
  app.use(logRequests(service))
  app.use(answerErrors(service))
  app.use((ctx) => route(service, ctx))
  return app
}

/** True for a request that would write a block. */
export function isWrite(method: string, path: string): boolean {
  return WRITES.has(method) && isLocatorLike(blockName(path))
}

async function route(service: Service, ctx: Context): Promise<void> {
  const { method, state } = ctx
  const path = state.path ?? ''
  if (method === 'GET' && path === '/_health/ping') return getHealth(service, ctx)
  ctx.set(CORS_HEADERS)
  if (method === 'OPTIONS') {
    ctx.body = ''
    return
  }
  const name = blockName(path)
  if (isLocatorLike(name)) return routeBlock(service, ctx, name)
  if (method === 'GET' && path === '/status.json') return getStatus(service, ctx)
  const index = /^\/index(?:\/(.*))?$/.exec(path)
  if (method === 'GET' && index !== null) {
    const prefix = index[1] || new URLSearchParams(state.query).get('prefix') || ''
    return getIndex(service, ctx, prefix)
  }
  throw new Refused(400, 'Bad Request')
}

async function routeBlock(service: Service, ctx: Context, name: string): Promise<void> {
  const { method } = ctx
  if (isWrite(method, `/${name}`)) return refuseWrite(ctx)
  if (method !== 'GET' && method !== 'HEAD') throw new Refused(400, 'Bad Request')
  ctx.set('Vary', 'X-Keep-Signature')
  return method === 'GET' ? getBlock(service, ctx, name) : headBlock(service, ctx, name)
}

/** Clients may put one slash too many before a locator. */
function blockName(path: string): string {
  return path.replace(/^\/{1,2}/, '')
}

function answerErrors({ log, counters }: Service): Middleware<RequestState> {
  return async (ctx, next) => {
    try {
      await next()
    } catch (error) {
      // A write can fail before the connection's end is told.
      if (ctx.state.signal.aborted || ctx.req.socket.destroyed) return
      ctx.state.error = error
      const { status, text, kind } = answerOf(error)
      const hasBegun = ctx.respond === false
      counters.errors[hasBegun ? 'cut' : kind] += 1
      if (kind === 'internal') log.error({ RequestID: ctx.state.id, err: error }, 'internal error')
      if (hasBegun) {
        // Short of its Content-Length, or of its last chunk: no client takes that for whole.
        ctx.res.destroy()
        return
      }
      ctx.status = status
      ctx.body = `${text}\n`
    }
  }
}
