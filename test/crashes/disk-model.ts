/**
 * What a power cut may leave of recorded operations. What a sync has covered stays: of a file its data,
 * of a directory the names in it, or everything. Whatever came after may be there or not, one operation
 * without those before it, and a write in part:
 * - a name may be there without the data (the empty file behind a rename), or the data without the name:
 *   POSIX promises nothing else, though ext4, XFS and Btrfs keep the names of a file that was synced;
 * - a write to a file that is written in place is torn into sectors of 512 bytes, each of them whole, as
 *   disks promise; of what was written to the end of any other file there may be any part from its
 *   beginning: ext4 (unless mounted with data=writeback), XFS and Btrfs count no bytes that are not there;
 * - a rename is all or nothing, as on every file system with a journal.
 */
import { dirname, join, relative } from 'node:path'
import { pick } from './moments.ts'
import type { Operation } from './recording.ts'
import type { Tree } from './tree.ts'

const SECTOR = 512

/** A file or a directory, whatever it is called. */
interface Inode {
  /** Names in it, where it is a directory. */
  names: Map<string, Inode> | undefined
  bytes: Buffer
}

interface Effect {
  start: number
  end: number
  /** When a sync has made it last; infinite without one. */
  lastsFrom: number
  /** What it changes: names of directories, or bytes of a file. */
  inodes: Inode[]
  /** Undefined for what is all or nothing. */
  write: Write | undefined
  /** Carries it out; of a write only the parts that are named. */
  apply(state: Contents, parts: readonly Range[]): void
}

interface Write {
  offset: number
  data: Buffer
  inPlace: boolean
}

/** From a byte of a write up to (not including) another. */
type Range = readonly [from: number, to: number]
const WHOLE: readonly Range[] = [[0, Number.POSITIVE_INFINITY]]

/** What inodes hold at some moment. */
class Contents {
  readonly #names = new Map<Inode, Map<string, Inode>>()
  readonly #bytes = new Map<Inode, Buffer>()

  names(inode: Inode): Map<string, Inode> {
    let names = this.#names.get(inode)
    if (names === undefined) {
      names = new Map(inode.names)
      this.#names.set(inode, names)
    }
    return names
  }

  bytes(inode: Inode): Buffer {
    return this.#bytes.get(inode) ?? inode.bytes
  }

  /** Gives a file so many bytes, zeros where there were none, which may then be written to. */
  resize(inode: Inode, size: number): Buffer {
    const own = this.#bytes.get(inode)
    if (own?.length === size) return own
    const bytes = Buffer.alloc(size)
    this.bytes(inode).copy(bytes, 0, 0, size)
    this.#bytes.set(inode, bytes)
    return bytes
  }

  tree(root: Inode): Tree {
    const tree: Tree = new Map()
    const visit = (inode: Inode, path: string): void => {
      for (const [name, child] of this.names(inode)) {
        const at = join(path, name)
        tree.set(at, child.names === undefined ? this.bytes(child) : undefined)
        if (child.names !== undefined) visit(child, at)
      }
    }
    visit(root, '')
    return tree
  }
}

export interface DiskOptions {
  /** The directory whose files were recorded. */
  root: string
  /** What was there, and on disk, before. */
  before: Tree
  /** Files that are written anywhere, and not at their end only. */
  inPlace: (path: string) => boolean
  /** Which syncs count; all of them unless told. A disk that lies has none. */
  heeds?: (sync: Operation & { kind: 'sync' }) => boolean
}

/** A disk to which the recorded operations happen, and whose power may be cut at any of them. */
export class Disk {
  readonly #root: Inode
  readonly #options: DiskOptions
  readonly #effects: Effect[] = []

  constructor(operations: readonly Operation[], options: DiskOptions) {
    const { before, heeds = () => true } = options
    this.#options = options
    this.#root = makeInodes(before)
    const state = new Contents()
    for (const operation of operations) {
      if (operation.kind === 'sync') {
        if (heeds(operation)) this.#sync(operation, state)
        continue
      }
      for (const effect of this.#effectsOf(operation, state)) {
        this.#effects.push(effect)
        effect.apply(state, WHOLE)
      }
    }
  }

  /** Returns what there is at a moment, as programs see it: nothing of it need be on disk. */
  seenAt(at: number): Tree {
    const ended = this.#effects.filter(({ end }) => end <= at)
    return this.#left(ended, () => WHOLE)
  }

  /** Returns one of the states that a power cut may leave at a moment: when `at` has just happened. */
  afterCut(at: number, random: () => number): Tree {
    const begun = this.#effects.filter(({ start }) => start <= at)
    const share = pick([0, 0.1, 0.5, 0.9, 1], random)
    // Journals keep the order of names: half of the cuts are of such a disk.
    const unsynced = begun.filter(({ write, lastsFrom }) => write === undefined && lastsFrom > at)
    const some = unsynced.slice(0, Math.ceil(unsynced.length * random()))
    const kept = random() < 0.5 ? new Set(some) : undefined
    return this.#left(begun, (effect) => {
      if (effect.lastsFrom <= at) return WHOLE
      const keepsOrder = effect.write === undefined && kept !== undefined
      if (keepsOrder ? !kept.has(effect) : random() >= share) return undefined
      return torn(effect, random)
    })
  }

  /** Returns what is there when of each effect those parts are, or nothing. */
  #left(effects: readonly Effect[], parts: (effect: Effect) => readonly Range[] | undefined): Tree {
    const state = new Contents()
    for (const effect of effects) {
      const there = parts(effect)
      if (there !== undefined) effect.apply(state, there)
    }
    return state.tree(this.#root)
  }

  #sync(sync: Operation & { kind: 'sync' }, state: Contents): void {
    const inode = sync.of === 'one' ? this.#find(sync.path, state) : undefined
    for (const effect of this.#effects) {
      if (effect.end > sync.start) continue
      if (inode !== undefined && !effect.inodes.includes(inode)) continue
      effect.lastsFrom = Math.min(effect.lastsFrom, sync.end)
    }
  }

  #effectsOf(operation: Exclude<Operation, { kind: 'sync' }>, state: Contents): Effect[] {
    const { start, end } = operation
    const effect = (
      inodes: Inode[],
      apply: Effect['apply'],
      write?: Effect['write'],
      lastsFrom = Number.POSITIVE_INFINITY,
    ): Effect => ({ start, end, lastsFrom, inodes, write, apply })
    switch (operation.kind) {
      case 'mkdir': {
        const made: Inode = { names: new Map(), bytes: Buffer.alloc(0) }
        const [dir, name] = this.#place(operation.path, state)
        return [effect([dir], (now) => now.names(dir).set(name, made))]
      }
      case 'open': {
        const [dir, name] = this.#place(operation.path, state)
        const there = state.names(dir).get(name)
        if (there === undefined) {
          const made: Inode = { names: undefined, bytes: Buffer.alloc(0) }
          return [effect([dir], (now) => now.names(dir).set(name, made))]
        }
        if (!operation.truncate || state.bytes(there).length === 0) return []
        return [effect([there], (now) => now.resize(there, 0))]
      }
      case 'remove': {
        const [dir, name] = this.#place(operation.path, state)
        return [effect([dir], (now) => now.names(dir).delete(name))]
      }
      case 'rename': {
        const [fromDir, fromName] = this.#place(operation.from, state)
        const [toDir, toName] = this.#place(operation.to, state)
        const inode = this.#find(operation.from, state)
        const apply = (now: Contents) => {
          if (now.names(fromDir).get(fromName) === inode) now.names(fromDir).delete(fromName)
          now.names(toDir).set(toName, inode)
        }
        return [effect([...new Set([fromDir, toDir])], apply)]
      }
      case 'truncate': {
        const inode = this.#find(operation.path, state)
        const { size } = operation
        return [effect([inode], (now) => now.resize(inode, size))]
      }
      case 'write': {
        const inode = this.#find(operation.path, state)
        const { data, lasting } = operation
        const offset = operation.offset === 'end' ? state.bytes(inode).length : operation.offset
        const apply: Effect['apply'] = (now, parts) => {
          for (const [from, to] of parts) {
            const part = data.subarray(from, to)
            const at = offset + from
            const size = Math.max(now.bytes(inode).length, at + part.length)
            part.copy(now.resize(inode, size), at)
          }
        }
        const write = { offset, data, inPlace: this.#options.inPlace(operation.path) }
        return [effect([inode], apply, write, lasting ? end : undefined)]
      }
    }
  }

  #find(path: string, state: Contents): Inode {
    let inode = this.#root
    for (const name of this.#names(path)) {
      const next = state.names(inode).get(name)
      if (next === undefined) throw new Error(`the recording has nothing at ${path}`)
      inode = next
    }
    return inode
  }

  #place(path: string, state: Contents): [dir: Inode, name: string] {
    return [this.#find(dirname(path), state), this.#names(path).at(-1)!]
  }

  #names(path: string): string[] {
    return relative(this.#options.root, path)
      .split('/')
      .filter((name) => name !== '')
  }
}

function makeInodes(tree: Tree): Inode {
  const root: Inode = { names: new Map(), bytes: Buffer.alloc(0) }
  const inodes = new Map([['.', root]])
  for (const path of [...tree.keys()].sort()) {
    const bytes = tree.get(path)
    const inode: Inode =
      bytes === undefined
        ? { names: new Map(), bytes: Buffer.alloc(0) }
        : { names: undefined, bytes }
    inodes.set(path, inode)
    inodes.get(dirname(path))!.names!.set(path.slice(path.lastIndexOf('/') + 1), inode)
  }
  return root
}

/** Returns what is there of a write, in the order of its bytes. */
function torn({ write }: Effect, random: () => number): Range[] {
  if (write === undefined) return []
  const { offset, data, inPlace } = write
  // In half of the cases nothing is torn.
  if (random() < 0.5) return [[0, data.length]]
  if (!inPlace) return [[0, Math.floor(random() * (data.length + 1))]]
  const ranges: Range[] = []
  for (let from = 0; from < data.length; ) {
    const to = Math.min(data.length, from + SECTOR - ((offset + from) % SECTOR))
    if (random() < 0.5) ranges.push([from, to])
    from = to
  }
  return ranges
}
