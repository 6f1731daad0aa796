/** What keep-balance asks: which volumes there are, and which blocks they hold. */
import { once } from 'node:events'
import { HeapBound } from '../heap.ts'
import type { Volume } from '../volume/volume.ts'
import { authorizeRoot } from './access.ts'
import { Refused } from './errors.ts'
import { mountEntry, shownMounts } from './mounts.ts'
import { type Context, write } from './request.ts'
import type { Service } from './service.ts'

/** Characters of an index that go out together. */
const BATCH = 32_768

/** Of V8's young generation (HeapBound). What becomes of a block is over in a moment. */
const YOUNG_BYTES = 16 * 2 ** 20

type Listed = Pick<Volume, 'blocks'>

/**
 * Answers with every block of all volumes whose hash starts with the prefix. Throws Refused, what a volume
 * throws, or what the request was aborted with.
 */
export async function getIndex(service: Service, ctx: Context, prefix = ''): Promise<void> {
  authorizeRoot(service, ctx, { local: true })
  await sendIndex(ctx, service.volumes, prefix)
}

/** Answers with the mounts, but for those whose blocks other services list. Throws Refused. */
export function getMounts(service: Service, ctx: Context): void {
  authorizeRoot(service, ctx, { local: true })
  ctx.body = shownMounts(service.mounts).map(mountEntry)
}

/** Answers as getIndex, for one mount; throws as it does. */
export async function getMountBlocks(
  service: Service,
  ctx: Context,
  uuid = '',
  prefix = '',
): Promise<void> {
  authorizeRoot(service, ctx, { local: true })
  const mount = shownMounts(service.mounts).find((each) => each.uuid === uuid)
  if (mount === undefined) throw new Refused(404, 'Not Found')
  await sendIndex(ctx, [service.volumes[service.mounts.indexOf(mount)]!], prefix)
}

/**
 * Takes a list of blocks to pull or to trash, and does nothing with it: nothing is written here. Throws
 * Refused, or AbortError where the client goes away.
 */
export async function acceptList(service: Service, ctx: Context): Promise<void> {
  authorizeRoot(service, ctx, { local: true })
  if (ctx.req.headers.expect !== undefined) ctx.res.writeContinue()
  ctx.req.resume()
  // Answered before it has come, a long list would meet a closed connection.
  if (!ctx.req.readableEnded) await once(ctx.req, 'end', { signal: ctx.state.signal })
  ctx.body = 'ignored: this service is read-only\n'
}

/**
 * Sends the index of some volumes. The empty line at the end is the proof that the list is complete;
 * without it the connection is broken.
 */
async function sendIndex(ctx: Context, volumes: readonly Listed[], inPath: string): Promise<void> {
  const { res, state } = ctx
  const prefix = inPath || new URLSearchParams(state.query).get('prefix') || ''
  if (!/^[0-9a-f]{0,32}$/.test(prefix)) throw new Refused(400, 'Bad Request')
  const heap = new HeapBound(YOUNG_BYTES)
  try {
    // The first batch is at hand before the status goes out: most errors can still be answered.
    for await (const text of indexText(volumes, prefix, ctx.get('Via'))) {
      if (ctx.respond !== false) {
        ctx.respond = false
        ctx.status = 200
        ctx.set('Content-Type', 'text/plain; charset=utf-8')
      }
      heap.look()
      await write(res, text, state.signal)
      state.bodyBytes += text.length
    }
  } finally {
    heap.end()
  }
  res.end()
}

async function* indexText(
  volumes: readonly Listed[],
  prefix: string,
  via: string,
): AsyncGenerator<string> {
  let text = ''
  for (const volume of volumes) {
    for await (const { hash, length, mtimeNs } of volume.blocks(prefix, via)) {
      text += `${hash}+${length} ${mtimeNs}\n`
      if (text.length < BATCH) continue
      yield text
      text = ''
    }
  }
  yield `${text}\n`
}
