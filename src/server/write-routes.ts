/** What writes, for services with a volume that takes blocks: PUT, TOUCH, DELETE, and the lists. */
import { createHash } from 'node:crypto'
import { messageOf } from '../errors.ts'
import { MAX_BLOCK, parseLocator } from '../keep/locator.ts'
import { putBlock } from '../volume/put-block.ts'
import type { Stored, TrashOutcome, TrashVolume, Wanted } from '../volume/volume.ts'
import { authorizeRoot } from './access.ts'
import { refuseBody } from './block-routes.ts'
import { announcedLength, receive } from './body.ts'
import { Refused, tooBusy } from './errors.ts'
import { parsePullList, parseTrashList } from './lists.ts'
import type { Context } from './request.ts'
import type { WritingService } from './service.ts'
import type { Writes } from './writes.ts'

/** Bytes of a list: a few hundred thousand blocks. */
const MAX_LIST = 33_554_432
/** Copies beyond which nobody can mean it. */
const MAX_REPLICAS = 64

/** Answers PUT of a block, once it is written. */
export async function answerPut(
  service: WritingService,
  ctx: Context,
  name: string,
): Promise<void> {
  const { writes } = service
  const { hash, size } = parseLocator(name)
  const { token } = ctx.state
  // A copy that is stored here on the way around would be counted again on the way back.
  if (writes.passedOn(ctx.get('Via'))) return refuseBody(ctx, new Refused(508, 'Loop Detected'))
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

/** Answers TOUCH: the block's time is set to now. */
export async function answerTouch(
  service: WritingService,
  ctx: Context,
  name: string,
): Promise<void> {
  await changeBlock(service, ctx, name, (volume, hash) => volume.touch(hash))
}

/** Answers what takes a block back out of the trash. */
export async function answerUntrash(
  service: WritingService,
  ctx: Context,
  name: string,
): Promise<void> {
  await changeBlock(service, ctx, name, (volume, hash) => volume.untrash(hash))
}

/** Answers DELETE. A block that is too new to go stays, and is no error: keepstore answers so. */
export async function answerTrash(
  service: WritingService,
  ctx: Context,
  name: string,
): Promise<void> {
  const { writes } = service
  const trash: Change = (volume, hash) => volume.trash(hash, writes.policy)
  const volumes = writes.trashes ? writes.trashVolumes : []
  const { hash, outcomes } = await changeBlock(service, ctx, name, trash, volumes)
  service.log.info({ RequestID: ctx.state.id, hash, outcomes }, 'block trashed')
}

/** Takes keep-balance's list of blocks to trash, in place of the one that is worked on. */
export async function takeTrashList(service: WritingService, ctx: Context): Promise<void> {
  const text = await receiveList(service, ctx)
  if (text !== undefined) service.writes.trashList.replace(parseTrashList(text))
}

/** Takes keep-balance's list of blocks to pull, in place of the one that is worked on. */
export async function takePullList(service: WritingService, ctx: Context): Promise<void> {
  const text = await receiveList(service, ctx)
  if (text !== undefined) service.writes.pullList.replace(parsePullList(text))
}

/** What a request does to a block in one volume; false and `not-found` say that it is not there. */
type Change = (volume: TrashVolume, hash: string) => Promise<boolean | TrashOutcome>

/** Answers 200 where some volume has the block, and 404 where none has. Throws Refused. */
async function changeBlock(
  service: WritingService,
  ctx: Context,
  name: string,
  change: Change,
  volumes: readonly TrashVolume[] = service.writes.trashVolumes,
): Promise<{ hash: string; outcomes: (boolean | TrashOutcome)[] }> {
  // Not for whoever is on this machine: what these requests do cannot be undone for ever.
  authorizeRoot(service, ctx, { local: false })
  if (volumes.length === 0) throw new Refused(405, 'Method Not Allowed')
  const { hash } = parseLocator(name)
  const outcomes = await onEach(volumes, (volume) => change(volume, hash))
  const isNowhere = outcomes.every((each) => each === false || each === 'not-found')
  if (isNowhere) throw new Refused(404, 'Not Found')
  ctx.body = ''
  return { hash, outcomes }
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
async function receiveList(service: WritingService, ctx: Context): Promise<string | undefined> {
  authorizeRoot(service, ctx, { local: false })
  let text: string | undefined
  await withBody(service.writes, ctx, MAX_LIST, async (receiveBody) => {
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
