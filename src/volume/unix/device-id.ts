/** Names a directory's storage as keepstore does, so that one directory never counts for two. */
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

const BY_UUID = '/dev/disk/by-uuid'

/**
 * Returns `FILESYSTEM-UUID/PATH`, with the directory's path from the file system's own root, or
 * `HOST:ROOT` where the file system has no UUID that can be found (tmpfs, NFS, containers, and where only a
 * part of it is mounted).
 * keep-balance refuses to run when two mounts have one device id: that is what tells it, and so the
 * administrator, that a keepstore serves this very directory. Never throws.
 */
export async function deviceIdOf(root: string): Promise<string> {
  const found = await byUuid(root).catch(() => undefined)
  return found ?? `${hostname()}:${root}`
}

async function byUuid(root: string): Promise<string | undefined> {
  const path = await realpath(root)
  const mount = mountOf(path, await readFile('/proc/self/mountinfo', 'utf8'))
  if (mount === undefined || !mount.source.startsWith('/')) return undefined
  const device = await stat(mount.source)
  for (const uuid of await readdir(BY_UUID)) {
    const { ino, dev } = await stat(join(BY_UUID, uuid))
    if (ino === device.ino && dev === device.dev) {
      return uuid + (mount.point === '/' ? path : path.slice(mount.point.length))
    }
  }
  return undefined
}

/**
 * Returns what is mounted where a path lies: the last of the longest mount points above it. Undefined where
 * that is a part of a file system, as with bind mounts and Btrfs' subvolumes: of several parts, paths below
 * their mount points may be the same.
 */
export function mountOf(
  path: string,
  mountinfo: string,
): { point: string; source: string } | undefined {
  let found: { point: string; source: string; root: string } | undefined
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root = '', point = ''] = before.split(' ').map(unescapeOctal)
    if (point === '' || !isBelow(path, point)) continue
    if (found !== undefined && found.point.length > point.length) continue
    found = { point, root, source: unescapeOctal(after.split(' ')[1] ?? '') }
  }
  if (found?.root !== '/') return undefined
  return { point: found.point, source: found.source }
}

function isBelow(path: string, point: string): boolean {
  return point === '/' || path === point || path.startsWith(`${point}/`)
}

/** The kernel writes spaces and the like as `\040`. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) => {
    return String.fromCharCode(Number.parseInt(digits, 8))
  })
}
