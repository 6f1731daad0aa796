/** All that lies in a directory, held in memory. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** Files and directories by their paths below a root: their bytes, or undefined for a directory. */
export type Tree = Map<string, Buffer | undefined>

/** Returns what lies below a directory. */
export function readTree(root: string): Tree {
  const tree: Tree = new Map()
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    tree.set(relative(root, path), entry.isDirectory() ? undefined : readFileSync(path))
  }
  return tree
}

/** Writes the tree into a directory, which is made. */
export function writeTree(root: string, tree: Tree): void {
  mkdirSync(root)
  // A directory comes before what is in it.
  for (const path of [...tree.keys()].sort()) {
    const bytes = tree.get(path)
    if (bytes === undefined) mkdirSync(join(root, path))
    else writeFileSync(join(root, path), bytes)
  }
}
