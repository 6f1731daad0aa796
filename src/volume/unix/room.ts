/** Whether a directory has room for a block, as keepstore decides and marks it. */
import { readlink, rm, statfs, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { MAX_BLOCK } from '../../keep/locator.ts'
import { VolumeFull } from '../volume.ts'

/** Bytes that stay free: keepstore's reserve, the size of one block. */
export const RESERVE = MAX_BLOCK
/** Milliseconds for which a full volume is not looked at again, as in keepstore. */
const PAUSE = 3_600_000

/**
 * Throws VolumeFull where less than the reserve is free, or was so within the last hour. That is
 * remembered in ROOT/full, a symbolic link to the time in seconds since 1970. Throws the system's error where
 * the disk cannot be asked.
 */
export async function checkRoom(root: string): Promise<void> {
  const marked = Number(await readlink(join(root, 'full')).catch(() => 0)) * 1000
  if (Date.now() - marked < PAUSE) throw fullError(root)
  const { bavail, bsize } = await statfs(root)
  if (bavail * bsize >= RESERVE) return
  await markFull(root)
  throw fullError(root)
}

/** Marks a volume as full: the next hour's writes go elsewhere. Never throws. */
export async function markFull(root: string): Promise<void> {
  const path = join(root, 'full')
  try {
    await rm(path, { force: true })
    await symlink(String(Math.floor(Date.now() / 1000)), path)
  } catch {
    // Without the mark, each write finds out for itself.
  }
}

/** Returns the error of a volume without room. */
export function fullError(root: string): VolumeFull {
  return new VolumeFull(`volume ${root} is full`, {
    hint: `Make room, and remove ${join(root, 'full')} to write again at once`,
  })
}
