/** The trash of a keepstore directory: blocks whose files are named for the time they may be deleted. */
import { link, lstat, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { RemoteError } from '../../remote/remote.ts'
import type { TrashOutcome, TrashPolicy } from '../volume.ts'
import {
  type FileName,
  isAbsent,
  parseName,
  type Root,
  syncDirectory,
  unreachable,
} from './files.ts'

/** Milliseconds after which a half-written file belongs to nobody any more. */
const ABANDONED = 86_400_000

/** As TrashVolume.trash. The caller sees to it that no write of this process comes in between. */
export async function trashBlock(
  root: Root,
  hash: string,
  { minAge, lifetime }: TrashPolicy,
  mtimeNs?: bigint,
): Promise<TrashOutcome> {
  const path = root.block(hash)
  const judge = async (file: string): Promise<TrashOutcome> => {
    const stats = await lstat(file, { bigint: true })
    if (!stats.isFile()) return 'not-found'
    if (mtimeNs !== undefined && stats.mtimeNs !== mtimeNs) return 'other-mtime'
    return isYounger(stats.mtimeMs, minAge) ? 'too-new' : 'trashed'
  }
  try {
    if (!(await root.hasShard(hash))) return 'not-found'
    const outcome = await judge(path)
    if (outcome !== 'trashed') return outcome
    const deadline = Math.floor(Date.now() / 1000) + lifetime
    const trash = `${path}.trash.${deadline}`
    await rename(path, trash)
    // Another process may have touched it meanwhile, and counts on it: touches go by the name, so
    // that after the rename none can.
    const late = await judge(trash)
    if (late !== 'trashed') {
      await putBack(trash, path)
      return late
    }
    if (lifetime === 0) await rm(trash, { force: true })
    return outcome
  } catch (error) {
    if (isAbsent(error)) return 'not-found'
    throw unreachable(path, error)
  }
}

/** As TrashVolume.untrash: takes the copy that would be deleted last. */
export async function untrashBlock(root: Root, hash: string): Promise<boolean> {
  const shard = root.shard(hash)
  try {
    if (!(await root.hasShard(hash))) return false
    const files = (await readdir(shard)).map((name) => ({
      name,
      parsed: parseName(name, basename(shard)),
    }))
    const copies = files.flatMap(({ name, parsed }) => {
      return parsed?.kind === 'trash' && parsed.hash === hash
        ? [{ path: join(shard, name), deadline: parsed.deadline }]
        : []
    })
    const last = copies.sort((a, b) => b.deadline - a.deadline)[0]
    if (last === undefined) return false
    await putBack(last.path, root.block(hash))
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw unreachable(shard, error)
  }
}

/**
 * Deletes temporary files of writes that ended without cleaning up in one directory of the volume and,
 * unless `trashStays`, what is due there. `onError` is told of what cannot be looked at or deleted: that
 * keeps nothing else from it.
 */
export async function emptyShard(
  root: Root,
  shard: string,
  trashStays: boolean,
  onError: (error: RemoteError) => void,
): Promise<void> {
  const dir = join(root.path, shard)
  const failed = (path: string, error: unknown) => {
    // A write that ends takes its temporary file away.
    if (!isAbsent(error)) onError(unreachable(path, error))
  }
  const names = await readdir(dir).catch((error: unknown) => {
    failed(dir, error)
    return []
  })
  for (const name of names) {
    const path = join(dir, name)
    try {
      if (await isOver(path, parseName(name, shard), trashStays)) await rm(path, { force: true })
    } catch (error) {
      failed(path, error)
    }
  }
}

async function isOver(path: string, name: FileName | undefined, trashStays: boolean) {
  if (name?.kind === 'trash') return !trashStays && name.deadline * 1000 <= Date.now()
  return name?.kind === 'temporary' && !isYounger((await lstat(path)).mtimeMs, ABANDONED / 1000)
}

/** Gives a trashed file its name back, unless a new block has it by now. */
async function putBack(trash: string, path: string): Promise<void> {
  try {
    await link(trash, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  await rm(trash, { force: true })
  await syncDirectory(dirname(path))
}

function isYounger(mtimeMs: number | bigint, seconds: number): boolean {
  return Date.now() - Number(mtimeMs) < seconds * 1000
}
