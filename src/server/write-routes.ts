/** What writes, for services with a volume that takes blocks: PUT, TOUCH, DELETE, and the lists. */
import { createHash } from 'node:crypto'
import { messageOf } from '../errors.ts'
import { isLocatorLike, MAX_BLOCK, parseLocator } from '../keep/locator.ts'
import { requestToken } from '../keep/token.ts'
import { putBlock } from '../volume/put-block.ts'
import type { Stored, TrashOutcome, TrashVolume, Wanted } from '../volume/volume.ts'
import { authorize } from './access.ts'
import { refuseBody } from './block-routes.ts'
import { announcedLength, receive } from './body.ts'
import { Refused, tooBusy } from './errors.ts'
import { parsePullList, parseTrashList } from './lists.ts'
import type { Context } from './request.ts'
import type { Service } from './service.ts'
import type { Writes } from './writes.ts'

/** Bytes of a list: a few hundred thousand blocks. */
const MAX_LIST = 33_554_432
/** Copies beyond which nobody can mean it. */
const MAX_REPLICAS = 64

/** Answers a request that writes, and returns true; false for any other one. */
export async function routeWrite(
  service: Service,
  writes: Writes,
  ctx: Context,
  path: string,
): Promise<boolean> {
  const { method } = ctx
  const name = path.replace(/^\/{1,2}/, '')
  const untrash = /^\/untrash\/+(.*)$/.exec(path)?.[1]
  if (method === 'PUT' && isLocatorLike(name)) await answerPut(service, writes, ctx, name)
  else if (method === 'TOUCH' && isLocatorLike(name)) {
    await changeBlock(service, writes.trashVolumes, ctx, name, (volume, hash) => volume.touch(hash))
  } else if (method === 'DELETE' && isLocatorLike(name))
    await answerTrash(service, writes, ctx, name)
  else if (method === 'PUT' && untrash !== undefined) {
    await changeBlock(service, writes.trashVolumes, ctx, untrash, (volume, hash) =>
      volume.untrash(hash),
    )
  } else if (method === 'PUT' && path === '/trash') {
    const text = await receiveList(service, writes, ctx)
    if (text !== undefined) writes.trashList.replace(parseTrashList(text))
  } else if (method === 'PUT' && path === '/pull') {
    const text = await receiveList(service, writes, ctx)
    if (text !== undefined) writes.pullList.replace(parsePullList(text))
  } else return false
  return true
}

async function answerPut(
  service: Service,
  writes: Writes,
  ctx: Context,
  name: string,
): Promise<void> {
  const { hash, size } = parseLocator(name)
  // A copy that is stored here on the way around would be counted again on the way back.
  if (writes.passedOn(ctx.get('Via'))) return refuseBody(ctx, new Refused(508, 'Loop Detected'))
  const token = tokenOf(ctx)
  await withBody(writes, ctx, MAX_BLOCK, async (receiveBody) => {
    const md5 = createHash('md5')
    const data = await receiveBody((piece) => md5.update(piece))
    if (data === undefined) return
    if (md5.digest('hex') !== hash || (size !== undefined && size !== data.length)) {
      throw new Refused(422, 'the data is not that of the locator')
    }
    const stored = await putBlock({
      volumes: writes.nextVolumes(),
      block: { hash, data },
      wanted: wantedBy(ctx, token),
      signal: ctx.state.signal,
      onFailure(volume, error) {
        const fields = { RequestID: ctx.state.id, hash, volume: String(volume) }
        service.log.warn({ ...fields, reason: messageOf(error) }, 'block not written')
      },
    })
    setStored(ctx, stored)
    const plain = `${hash}+${data.length}`
    const isSigned = token !== undefined && writes.signing !== undefined
    ctx.body = `${isSigned ? writes.sign(plain, token) : (stored.locator ?? plain)}\n`
  })
}

/** A block that is too new to go stays, and is no error: keepstore answers so. */
async function answerTrash(
  service: Service,
  writes: Writes,
  ctx: Context,
  name: string,
): Promise<void> {
  const trash: Change = (volume, hash) => volume.trash(hash, writes.policy)
  const volumes = writes.trashes ? writes.trashVolumes : []
  const { hash, outcomes } = await changeBlock(service, volumes, ctx, name, trash)
  service.log.info({ RequestID: ctx.state.id, hash, outcomes }, 'block trashed')
}

/** What a request does to a block in one volume; false and `not-found` say that it is not there. */
type Change = (volume: TrashVolume, hash: string) => Promise<boolean | TrashOutcome>

/** Answers 200 where some volume has the block, and 404 where none has. Throws Refused. */
async function changeBlock(
  service: Service,
  volumes: readonly TrashVolume[],
  ctx: Context,
  name: string,
  change: Change,
): Promise<{ hash: string; outcomes: (boolean | TrashOutcome)[] }> {
  authorizeRoot(service, ctx)
  if (volumes.length === 0) throw new Refused(405, 'Method Not Allowed')
  const { hash } = parseLocator(name)
  const outcomes = await onEach(volumes, (volume) => change(volume, hash))
  const isNowhere = outcomes.every((each) => each === false || each === 'not-found')
  if (isNowhere) throw new Refused(404, 'Not Found')
  ctx.body = ''
  return { hash, outcomes }
}

/** Not for whoever is on this machine: what these requests do cannot be undone for ever. */
function authorizeRoot({ tokens }: Service, ctx: Context): void {
  authorize(ctx, [tokens.systemRoot], { local: false })
}

/** Asks all volumes, and throws the first error once all have ended. */
async function onEach<T>(
  volumes: readonly TrashVolume[],
  work: (volume: TrashVolume) => Promise<T>,
): Promise<T[]> {
  const results = await Promise.allSettled(volumes.map(work))
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}

/** Undefined stands for a list that was refused. */
async function receiveList(
  service: Service,
  writes: Writes,
  ctx: Context,
): Promise<string | undefined> {
  authorizeRoot(service, ctx)
  let text: string | undefined
  await withBody(writes, ctx, MAX_LIST, async (receiveBody) => {
    text = (await receiveBody())?.toString('utf8')
    if (text !== undefined) ctx.body = ''
  })
  return text
}

type ReceiveBody = (onPiece?: (piece: Uint8Array) => void) => Promise<Buffer | undefined>

/**
 * Calls `work` with memory for the request's body, which it has for as long as it runs. Where there
 * is none, or the body is longer than `max` bytes, the request is answered here.
 */
async function withBody(
  { buffers }: Writes,
  ctx: Context,
  max: number,
  work: (receiveBody: ReceiveBody) => Promise<void>,
): Promise<void> {
  const tooLarge = new Refused(413, 'Payload Too Large')
  if ((announcedLength(ctx.req) ?? 0) > max) return refuseBody(ctx, tooLarge)
  const buffer = buffers.take()
  if (buffer === undefined) return refuseBody(ctx, tooBusy('too many blocks are being written'))
  try {
    await work(async (onPiece) => {
      const length = await receive(ctx, buffer.subarray(0, max), onPiece)
      if (length !== undefined) return buffer.subarray(0, length)
      await refuseBody(ctx, tooLarge)
      return undefined
    })
  } finally {
    buffers.give(buffer)
  }
}

function wantedBy(ctx: Context, token: string | undefined): Wanted {
  const replicas = Number(ctx.get('X-Keep-Desired-Replicas') || 1)
  const names = ctx.get('X-Keep-Storage-Classes').split(',')
  return {
    replicas: Number.isInteger(replicas) ? Math.min(Math.max(replicas, 1), MAX_REPLICAS) : 1,
    classes: [...new Set(names.map((each) => each.trim()).filter((each) => each !== ''))],
    token,
    via: ctx.get('Via'),
  }
}

function setStored(ctx: Context, { replicas, classes }: Stored): void {
  ctx.set('X-Keep-Replicas-Stored', String(replicas))
  const confirmed = Object.entries(classes).map(([name, count]) => `${name}=${count}`)
  ctx.set('X-Keep-Storage-Classes-Confirmed', confirmed.join(', '))
}

function tokenOf(ctx: Context): string | undefined {
  const { authorization, cookie } = ctx.req.headers
  return requestToken({ authorization, cookie, query: ctx.state.query })
}
