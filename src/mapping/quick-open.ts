/**
 * Opens small files of a tree. While the disk answers at once, so does this: to have one of Node's
 * threads open and read a file that is in the page cache costs ten times as much, a fifth of all that it
 * takes to serve a small block. A disk that is slow must not hold up everything else, so there, and on
 * file systems of the network, the threads do it.
 */
import { closeSync, open as openFile, openSync, read as readFile, readSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { promisify } from 'node:util'

// A FileHandle costs more, and each block that is served pays for it.
const open = promisify(openFile)
const read = promisify(readFile)

/** By their numbers in statfs(2): nothing else is known never to wait for another machine. */
const LOCAL_FILE_SYSTEMS = new Set([
  0xef53, // ext4
  0x58465342, // XFS
  0x9123683e, // Btrfs
  0x2fc12fc1, // ZFS
  0xf2f52010, // F2FS
  0xca451a4e, // bcachefs
  0x794c7630, // overlayfs
  0x01021994, // tmpfs
])
/** Milliseconds: from the page cache, it is a hundredth of that. */
const SLOW = 1
/** Files that are opened by threads after one that was slow. */
const SPARED = 200

/** An open file and what it begins with. */
export interface OpenFile {
  /** To be closed by the caller. */
  fd: number
  /** Fewer bytes than were asked for: then that is all of the file, for now. */
  head: Buffer
}

/** Opens files below one directory. Safe for concurrent use. */
export class QuickOpen {
  readonly #dir: string
  #isLocal: Promise<boolean> | undefined
  /** Files that are yet to be opened by threads. */
  #spared = 0

  constructor(dir: string) {
    this.#dir = dir
  }

  /** Opens a file for reading, and reads `length` bytes from its start. Throws the system's errors. */
  async open(file: string, length: number): Promise<OpenFile> {
    this.#isLocal ??= isLocal(this.#dir)
    if (!(await this.#isLocal)) return await openByThread(file, length)
    if (this.#spared > 0) {
      this.#spared -= 1
      return await openByThread(file, length)
    }
    const start = performance.now()
    try {
      return openAtOnce(file, length)
    } finally {
      if (performance.now() - start > SLOW) this.#spared = SPARED
    }
  }
}

/** A directory that cannot be asked counts as far away. */
async function isLocal(dir: string): Promise<boolean> {
  try {
    return LOCAL_FILE_SYSTEMS.has((await statfs(dir)).type)
  } catch {
    return false
  }
}

function openAtOnce(file: string, length: number): OpenFile {
  const fd = openSync(file, 'r')
  try {
    const buffer = Buffer.allocUnsafe(length)
    return { fd, head: buffer.subarray(0, readSync(fd, buffer)) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

async function openByThread(file: string, length: number): Promise<OpenFile> {
  const fd = await open(file, 'r')
  try {
    const buffer = Buffer.allocUnsafe(length)
    const { bytesRead } = await read(fd, buffer, 0, length, null)
    return { fd, head: buffer.subarray(0, bytesRead) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}
