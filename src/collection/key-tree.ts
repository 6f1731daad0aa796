/**
 * Keys as a tree of directories, straight from the catalog. S3 has one order of keys, `a-b/x` before
 * `a/x`; a collection has directories, each with its files, in the order of their names: `a` before
 * `a-b`. So each directory is a scan of its own, which steps over what lies deeper; nothing is held
 * but where the scans are.
 */
import type { CatalogEntry, CatalogSnapshot } from '../mapping/catalog-entries.ts'

/** What lies directly in a directory: an object, or a directory where `entry` is missing. */
export interface Child {
  /** Without the directory; empty for the object that has the directory's own name, slash and all. */
  name: string
  entry?: CatalogEntry
}

/** The keys of a snapshot, for as long as that is open. Iterations may run side by side. */
export class KeyTree {
  readonly #snapshot: CatalogSnapshot
  readonly #prefix: string

  /** Of the keys that start with `prefix`. Directories are named by their keys up to a slash. */
  constructor(snapshot: CatalogSnapshot, prefix: string) {
    this.#snapshot = snapshot
    this.#prefix = prefix
  }

  /** Yields all objects below a directory, in order of their keys. */
  entries(directory: string): Iterable<CatalogEntry> {
    return this.#snapshot.entries(this.#within(directory))
  }

  /** Returns what the catalog has of a key of the tree. */
  entry(key: string): CatalogEntry | undefined {
    return key.startsWith(this.#prefix) ? this.#snapshot.entry(key) : undefined
  }

  /** Yields what lies directly in a directory, in order of the keys. */
  *children(directory: string): Iterable<Child> {
    const within = this.#within(directory)
    for (let from: string | undefined = within; from !== undefined; ) {
      const entries: Iterable<CatalogEntry> = this.#snapshot.entries(within, from)
      from = undefined
      for (const entry of entries) {
        const name = entry.key.slice(directory.length)
        const slash = name.indexOf('/')
        if (slash < 0) {
          yield { name, entry }
          continue
        }
        yield { name: name.slice(0, slash) }
        from = afterDirectory(directory + name.slice(0, slash))
        break
      }
    }
  }

  /**
   * Yields the names of the directories directly in a directory, in order of their bytes; and undefined
   * for each object that it passes by, of which there may be very many.
   */
  *directories(directory: string): Iterable<string | undefined> {
    /** Those that came before their turn in the order of keys; each is the start of the next one. */
    const early: string[] = []
    for (const { name, entry } of this.children(directory)) {
      if (entry !== undefined) {
        yield undefined
        continue
      }
      while (early.length > 0 && !name.startsWith(early.at(-1)!)) early.pop()
      if (early.at(-1) === name) continue
      // `a/` has its key after `a-b/`, and its name before.
      for (const shorter of namesBefore(name, early.at(-1)?.length ?? -1)) {
        if (!this.#has(`${directory}${shorter}/`)) continue
        early.push(shorter)
        yield shorter
      }
      yield name
    }
  }

  #has(directory: string): boolean {
    if (!directory.startsWith(this.#prefix) && !this.#prefix.startsWith(directory)) return false
    for (const _entry of this.entries(directory)) return true
    return false
  }

  #within(directory: string): string {
    return directory.length > this.#prefix.length ? directory : this.#prefix
  }
}

/** Returns the first key that can come after all that lie in a directory, named without its slash. */
function afterDirectory(name: string): string {
  return `${name}0`
}

/** Yields the starts of a name that are longer than `length`, and go on with a byte before the slash. */
function* namesBefore(name: string, length: number): Iterable<string> {
  for (let at = length + 1; at < name.length; at++) {
    if (name[at]! < '/') yield name.slice(0, at)
  }
}
