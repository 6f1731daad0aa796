/** Makes what was written to a tree survive a power cut. */
import { execFile } from 'node:child_process'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import pLimit from 'p-limit'

const run = promisify(execFile)
const limit = pLimit(16)

/**
 * Resolves once the files, and their names, are on disk: through one sync of their file system
 * (Node has no syncfs(2), coreutils' `sync -f` has), or else through an fsync of each. Throws the
 * system's error where they cannot be.
 */
export async function syncTree(mappings: string, files: Iterable<string>): Promise<void> {
  try {
    await run('sync', ['-f', mappings])
  } catch {
    await syncEach(files)
  }
}

async function syncEach(files: Iterable<string>): Promise<void> {
  const written = [...files]
  const dirs = new Set(written.map((file) => dirname(file)))
  for (const dir of [...dirs]) dirs.add(dirname(dir))
  await Promise.all(written.map((file) => limit(syncPath, file)))
  await Promise.all([...dirs].map((dir) => limit(syncPath, dir)))
}

/**
 * Resolves once a file's data, or the names in a directory, are on disk; also where it is gone. Throws
 * the system's errors.
 */
export async function syncPath(path: string): Promise<void> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(path, 'r')
  } catch (error) {
    // Removed again: the directory's sync makes that last.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
