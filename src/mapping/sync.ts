/** Makes what was written to a tree survive a power cut. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import pLimit from 'p-limit'

const limit = pLimit(16)

/** Syncs a directory's file system for each line that it reads, and says whether it could. */
const SCRIPT = 'while read -r _; do if sync -f "$1"; then echo yes; else echo no; fi; done'

/**
 * Syncs a mapping's tree: through one sync of its file system (Node has no syncfs(2), coreutils'
 * `sync -f` has), or else through an fsync of each file. Calls must not overlap.
 */
export class TreeSync {
  readonly #mappings: string
  #helper: SyncHelper | undefined

  constructor(mappings: string) {
    this.#mappings = mappings
  }

  /** Resolves once the files, and their names, are on disk. Throws the system's error where they cannot be. */
  async sync(files: Iterable<string>): Promise<void> {
    // A signal to all that a service has started may have ended the helper: another one takes its place.
    const answer = (await this.#ask()) ?? (await this.#ask())
    if (answer !== 'yes') await syncEach(files)
  }

  /** Resolves once nothing of it is left. It can be used again. */
  async close(): Promise<void> {
    const helper = this.#helper
    this.#helper = undefined
    await helper?.close()
  }

  /** Undefined where nobody has answered. */
  async #ask(): Promise<string | undefined> {
    this.#helper ??= new SyncHelper(this.#mappings)
    const answer = await this.#helper.ask()
    if (answer === undefined) await this.close()
    return answer
  }
}

/**
 * A small process that starts `sync` whenever it is asked to: to start it from a large one costs more
 * than it does itself, as all that the large one then writes to has to be unshared. It ends with this one.
 */
class SyncHelper {
  readonly #child: ChildProcess
  readonly #input: Socket
  readonly #output: Socket
  readonly #answers: AsyncIterator<string>

  constructor(mappings: string) {
    // Not of this one's group: Ctrl-C must not end it before what was read is on disk.
    this.#child = spawn('sh', ['-c', SCRIPT, 'sh', mappings], {
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
    })
    this.#child.on('error', () => {})
    this.#child.unref()
    this.#input = this.#child.stdin as Socket
    this.#output = this.#child.stdout as Socket
    this.#input.on('error', () => {}).unref()
    this.#answers = createInterface({ input: this.#output })[Symbol.asyncIterator]()
    this.#output.unref()
  }

  /** Returns what it says; undefined where it has ended. */
  async ask(): Promise<string | undefined> {
    this.#output.ref()
    this.#input.write('\n')
    const { value, done } = await this.#answers.next()
    this.#output.unref()
    return done ? undefined : value
  }

  async close(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child
    this.#input.end()
    if (pid === undefined || exitCode !== null || signalCode !== null) return
    this.#child.ref()
    await once(this.#child, 'exit')
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
