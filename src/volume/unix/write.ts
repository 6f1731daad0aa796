/** Writes a block's file: whole and on disk under its name, or not at all. */
import { randomInt } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { RemoteError } from '../../remote/remote.ts'
import type { NewBlock } from '../volume.ts'
import { type Root, syncDirectory, unreachable } from './files.ts'
import { checkRoom, fullError, markFull } from './room.ts'

/** Bytes of one write; between two, a client that has gone is noticed. */
const PIECE = 1_048_576

/**
 * Writes beside and renames, with an fsync of the file before and of its directory after, so that a
 * kill or a power cut at any point leaves the old block, the new one, or none. Throws VolumeFull,
 * RemoteError `unreachable`, or the signal's reason.
 */
export async function writeBlock(root: Root, block: NewBlock, signal: AbortSignal): Promise<void> {
  const path = root.block(block.hash)
  try {
    const hasShard = await root.hasShard(block.hash)
    await checkRoom(root.path)
    if (!hasShard) await makeShard(root, block.hash)
    await writeBeside(root, block, signal)
    await root.syncNames(block.hash)
  } catch (error) {
    signal.throwIfAborted()
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      await markFull(root.path)
      throw fullError(root.path)
    }
    if (error instanceof RemoteError || code === undefined) throw error
    throw unreachable(path, error)
  }
}

/**
 * Has a block that is there already outlast a power cut, whoever wrote it: keepstore syncs nothing. False
 * where it is gone by now. Throws RemoteError `unreachable`.
 */
export async function syncBlock(root: Root, hash: string): Promise<boolean> {
  const block = await root.open(hash)
  if (block === undefined) return false
  try {
    await block.handle.sync()
    await root.syncNames(hash)
    return true
  } catch (error) {
    throw unreachable(root.block(hash), error)
  } finally {
    await block.handle.close()
  }
}

async function makeShard(root: Root, hash: string): Promise<void> {
  const path = root.shard(hash)
  try {
    await mkdir(path, { mode: 0o755 })
  } catch (error) {
    // Another write may have been first; a link is none of ours.
    if (await root.hasShard(hash)) return
    throw error
  }
  await syncDirectory(root.path)
}

async function writeBeside(root: Root, block: NewBlock, signal: AbortSignal): Promise<void> {
  const path = root.block(block.hash)
  const beside = `${root.shard(block.hash)}/tmp${block.hash}${randomInt(2 ** 47)}`
  const handle = await open(beside, 'wx', 0o644)
  try {
    await writeAll(handle, block.data, signal)
    // The kernel's clock may be some milliseconds late; keep-balance compares times.
    const now = Date.now() / 1000
    await handle.utimes(now, now)
    await handle.sync()
    await handle.close()
    await rename(beside, path)
  } catch (error) {
    await handle.close().catch(() => {})
    await rm(beside, { force: true }).catch(() => {})
    throw error
  }
}

async function writeAll(handle: FileHandle, data: Uint8Array, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < data.length; ) {
    signal.throwIfAborted()
    const { bytesWritten } = await handle.write(data, at, Math.min(PIECE, data.length - at))
    at += bytesWritten
  }
}
