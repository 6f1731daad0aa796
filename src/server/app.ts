/** The HTTP service: which request goes where. */
import Koa, { type Middleware } from 'koa'
import { isLocatorLike } from '../keep/locator.ts'
import { getHealth, getMetrics, getMetricsJson, getStatus } from './admin-routes.ts'
import { getBlock, headBlock, refuseWrite } from './block-routes.ts'
import { answerOf, Refused } from './errors.ts'
import { acceptList, getIndex, getMountBlocks, getMounts } from './index-routes.ts'
import type { Context, RequestState } from './request.ts'
import { logRequests } from './request-log.ts'
import { isWriting, type Service, type WritingService } from './service.ts'
import {
  answerPut,
  answerTouch,
  answerTrash,
  answerUntrash,
  takePullList,
  takeTrashList,
} from './write-routes.ts'

/** Browsers may read blocks from any page. Every answer but health and metrics has these. */
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

/** Answers a request; `parts` are the groups of its route's pattern. */
type Handler<S> = (service: S, ctx: Context, ...parts: string[]) => void | Promise<void>
type Route<S = Service> = readonly [method: string, path: RegExp, handler: Handler<S>]

const BLOCK = /^\/{1,2}([0-9a-f]{32}(?:\+.*)?)$/

/** What watches a service must get through when it is busy. */
const WATCHERS: readonly Route[] = [
  ['GET', /^\/_health\/ping$/, getHealth],
  ['GET', /^\/metrics$/, getMetrics],
  ['GET', /^\/metrics\.json$/, getMetricsJson],
]

const ROUTES: readonly Route[] = [
  ['GET', BLOCK, getBlock],
  ['HEAD', BLOCK, headBlock],
  ['GET', /^\/index(?:\/(.*))?$/, getIndex],
  ['GET', /^\/mounts$/, getMounts],
  ['GET', /^\/mounts\/([^/]+)\/blocks(?:\/(.*))?$/, getMountBlocks],
  ['GET', /^\/status\.json$/, getStatus],
  ['PUT', /^\/(?:pull|trash)$/, acceptList],
]

/** What a service that takes blocks answers beside, or in another way than, one that does not. */
const WRITING_ROUTES: readonly Route<WritingService>[] = [
  ['PUT', BLOCK, answerPut],
  ['TOUCH', BLOCK, answerTouch],
  ['DELETE', BLOCK, answerTrash],
  ['PUT', /^\/untrash\/+(.*)$/, answerUntrash],
  ['PUT', /^\/trash$/, takeTrashList],
  ['PUT', /^\/pull$/, takePullList],
]

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

/** True for a request that would write, trash or bring back a block. */
export function isWrite(method: string, path: string): boolean {
  if (method === 'PUT' && path.startsWith('/untrash/')) return true
  return WRITES.has(method) && isLocatorLike(path.replace(/^\/{1,2}/, ''))
}

async function route(service: Service, ctx: Context): Promise<void> {
  const { method, state, req } = ctx
  // Node's parser lets pass what says that it is 0.9 or 2.0.
  if (req.httpVersionMajor !== 1) throw new Refused(400, 'Bad Request', { Connection: 'close' })
  const watcher = find(WATCHERS, service, ctx)
  if (watcher !== undefined) return watcher()
  ctx.set(CORS_HEADERS)
  if (method === 'OPTIONS') {
    ctx.body = ''
    return
  }
  const takesBlocks = isWriting(service)
  if (!takesBlocks && isWrite(method, state.path ?? '')) return refuseWrite(ctx)
  await service.limits.requests.run(async () => {
    const writing = takesBlocks ? find(WRITING_ROUTES, service, ctx) : undefined
    const handle = writing ?? find(ROUTES, service, ctx)
    if (handle === undefined) throw new Refused(400, 'Bad Request')
    await handle()
  })
}

/** Returns how a request is answered, if a route is for it. */
function find<S extends Service>(routes: readonly Route<S>[], service: S, ctx: Context) {
  const { method, state } = ctx
  for (const [ofMethod, pattern, handler] of routes) {
    const groups = ofMethod === method ? pattern.exec(state.path ?? '') : null
    if (groups !== null) return async () => handler(service, ctx, ...groups.slice(1))
  }
  return undefined
}

function answerErrors({ log, counters }: Service): Middleware<RequestState> {
  return async (ctx, next) => {
    try {
      await next()
    } catch (error) {
      // A write can fail before the connection's end is told.
      if (ctx.state.signal.aborted || ctx.req.socket.destroyed) return
      ctx.state.error = error
      const { status, text, kind, headers = {} } = answerOf(error)
      const hasBegun = ctx.respond === false
      counters.errors[hasBegun ? 'cut' : kind] += 1
      if (kind === 'internal') log.error({ RequestID: ctx.state.id, err: error }, 'internal error')
      if (hasBegun) {
        // Short of its Content-Length, or of its last chunk: no client takes that for whole.
        ctx.res.destroy()
        return
      }
      ctx.status = status
      ctx.set(headers)
      ctx.body = `${text}\n`
    }
  }
}
