/** Many manifests at once: one for each directory. */
import { randomUUID } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { KeepgwError, messageOf } from '../errors.ts'
import { type LocatorText, PortableDataHash, partProblem } from '../keep/manifest.ts'
import { keyToBytes, showKey } from '../remote/key.ts'
import { chunks, turns } from './chunks.ts'
import { type ManifestCounts, ManifestWriter } from './manifest-writer.ts'
import type { CollectionSource } from './source.ts'

const SUFFIX = '.manifest'
/** Bytes of a file's name, at most (Linux, NAME_MAX). */
const MAX_NAME = 255

/** Where manifests are written to, and what is in them. */
export interface SplitOptions {
  /** The directory that the files are written to; made where it is not there, but not what it lies in. */
  output: string
  locator: LocatorText
  signal: AbortSignal
  leftOut(key: string, reason: string): void
}

/** A manifest that was written. */
export interface WrittenManifest extends ManifestCounts {
  /** What the keys start with; their rests are the names in the manifest. */
  directory: string
  /** For messages: its path, escaped. */
  file: string
  portableDataHash: string
}

/**
 * Writes a manifest for each directory that lies directly in the source's base, to `NAME.manifest`,
 * and one of the files beside them to `manifest`. Each file is there whole or not at all, in place of
 * one that was there before. Yields what was written. Throws KeepgwError.
 */
export async function* splitManifests(
  source: CollectionSource,
  options: SplitOptions,
): AsyncIterable<WrittenManifest> {
  const { tree, base } = source
  await makeDirectory(options.output)
  yield* writeManifest(source, base, 'manifest', true, options)
  const { signal, leftOut } = options
  for await (const name of turns(tree.directories(base), signal)) {
    const directory = `${base}${name}/`
    const problem = partProblem(name) ?? fileProblem(name)
    if (problem === undefined) {
      yield* writeManifest(source, directory, name + SUFFIX, false, options)
    } else {
      const reason = `its name ${problem}`
      for await (const { key } of turns(tree.entries(directory), signal)) leftOut(key, reason)
    }
  }
}

/** Returns what keeps a directory's manifest from having its name, in words that go on from "its name". */
function fileProblem(name: string): string | undefined {
  const isLong = Buffer.byteLength(name) + SUFFIX.length > MAX_NAME
  return isLong || name.includes('\0')
    ? `cannot be that of a file, with ${SUFFIX} behind it`
    : undefined
}

async function makeDirectory(dir: string): Promise<void> {
  try {
    await mkdir(dir)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
    throw new KeepgwError(`cannot make the directory ${dir}: ${messageOf(error)}`, { cause: error })
  }
}

/** Writes one manifest, unless it has nothing in it. */
async function* writeManifest(
  { tree }: CollectionSource,
  directory: string,
  name: string,
  onlyFiles: boolean,
  { output, locator, signal, leftOut }: SplitOptions,
): AsyncIterable<WrittenManifest> {
  const writer = new ManifestWriter(tree, { base: directory, onlyFiles, locator, leftOut })
  const hash = new PortableDataHash()
  const text = chunks(hash.tee(writer.pieces()), signal)
  const file = join(output, name)
  const beside = join(output, `.manifest.${randomUUID()}`)
  try {
    const handle = await open(beside, 'wx')
    try {
      for await (const chunk of text) await handle.writeFile(chunk)
    } finally {
      await handle.close()
    }
    if (writer.counts.streams === 0) return
    await rename(beside, keyToBytes(file))
  } catch (error) {
    if (error instanceof KeepgwError) throw error
    throw new KeepgwError(`cannot write ${showKey(file)}: ${messageOf(error)}`, { cause: error })
  } finally {
    await rm(beside, { force: true }).catch(() => {})
  }
  yield { directory, file: showKey(file), portableDataHash: hash.digest(), ...writer.counts }
}
