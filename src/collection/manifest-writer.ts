/** Writes the manifest of indexed objects, straight from the catalog, in memory that does not grow with it. */
import {
  type FileBlock,
  formatEmptyDirectory,
  formatStream,
  type LocatorText,
  type ManifestFile,
  partProblem,
} from '../keep/manifest.ts'
import type { CatalogEntry } from '../mapping/catalog-entries.ts'
import {
  type CatalogRecord,
  isDamaged,
  segmentCount,
  segmentHash,
  segmentRange,
} from '../mapping/record.ts'
import type { Child, KeyTree } from './key-tree.ts'

/** What goes into a manifest, and by which names. */
export interface ManifestOptions {
  /** Taken off the beginning of each key; what is left is the path in the collection. */
  base: string
  /** Leaves out what lies in directories. */
  onlyFiles?: boolean
  locator: LocatorText
  /** Called once for each object that cannot be in the manifest. */
  leftOut(key: string, reason: string): void
}

/** What is in a manifest so far. */
export interface ManifestCounts {
  files: number
  /** Bytes of the files. */
  bytes: number
  streams: number
}

/** What is known of a directory before its stream is written. */
interface Survey {
  files: number
  /** Blocks of the files. */
  blocks: number
  /** True where there is an object of the directory's own name, as consoles make it: a folder. */
  isFolder: boolean
  /** Names of files that are names of directories, too. */
  taken: Set<string>
  /** The files themselves, where they are few. */
  held: ManifestFile[] | undefined
}

/** Files and blocks of a directory that are held rather than read again. */
const HELD = 10_000

const TAKEN = 'a directory of the same name has files, and a collection cannot have both'

/** Writes one manifest. */
export class ManifestWriter {
  readonly counts: ManifestCounts = { files: 0, bytes: 0, streams: 0 }
  readonly #tree: KeyTree
  readonly #options: ManifestOptions

  constructor(tree: KeyTree, options: ManifestOptions) {
    this.#tree = tree
    this.#options = options
  }

  /**
   * Yields the text in pieces, some of them empty. Streams are in the order in which the SDKs
   * normalise them: a directory before those in it, and these by their names. To be called once. Throws
   * KeepgwError where a record is damaged.
   */
  *pieces(): Iterable<string> {
    for (const found of this.#directories()) {
      if (found === undefined) yield ''
      else if (found.problem === undefined) yield* this.#stream(found.directory)
      else yield* this.#leaveAllOut(found.directory, `its name ${found.problem}`)
    }
  }

  /**
   * Yields the directories, the base first; of one whose name is a problem none that are in it. Undefined
   * while it only looks.
   */
  *#directories(): Iterable<{ directory: string; problem?: string } | undefined> {
    const { base, onlyFiles = false } = this.#options
    yield { directory: base }
    if (onlyFiles) return
    /** Directories under way, each within the one before, and the names in them that are to come. */
    const open = [{ directory: base, names: namesIn(this.#tree, base) }]
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const { value: name, done } = top.names.next()
      if (done) {
        open.pop()
        continue
      }
      if (name === undefined) {
        yield undefined
        continue
      }
      const directory = `${top.directory}${name}/`
      const problem = partProblem(name)
      if (problem === undefined) {
        yield { directory }
        open.push({ directory, names: namesIn(this.#tree, directory) })
      } else {
        yield { directory, problem }
      }
    }
  }

  *#stream(directory: string): Iterable<string> {
    const { base, locator } = this.#options
    const path = directory.slice(base.length, -1)
    const stream = directory === base ? '.' : `./${path}`
    const survey = yield* this.#survey(directory)
    if (survey.files > 0) {
      this.counts.streams += 1
      const files = () => this.#files(directory, survey)
      yield* formatStream(stream, { blocks: survey.blocks, files }, locator)
    } else if (survey.isFolder && directory !== base) {
      yield* this.#emptyDirectory(directory, stream)
    }
  }

  /** Looks at what lies directly in a directory, and names what must be left out. */
  *#survey(directory: string): Generator<string, Survey> {
    const { onlyFiles = false, leftOut } = this.#options
    const survey: Survey = { files: 0, blocks: 0, isFolder: false, taken: new Set(), held: [] }
    /** Files whose names the last name starts with: one of a directory comes soon after. */
    const before: { key: string; name: string; record: CatalogRecord }[] = []
    for (const child of this.#tree.children(directory)) {
      yield ''
      const { name, entry } = child
      while (before.length > 0 && !name.startsWith(before.at(-1)!.name)) before.pop()
      if (entry === undefined) {
        if (onlyFiles) continue
        const same = before.at(-1)
        if (same?.name !== name || !this.#hasFile(`${same.key}/`)) continue
        this.#count(survey, same.record, -1)
        survey.taken.add(name)
        leftOut(same.key, TAKEN)
      } else if (isFolder(directory, child)) {
        survey.isFolder = true
      } else {
        const { key, record } = entry
        const reason = whyNot(name, record)
        if (reason !== undefined) {
          leftOut(key, reason)
          continue
        }
        this.#count(survey, record, 1)
        before.push({ key, name, record })
        survey.held?.push({ name, blocks: blocksOf(record) })
        if (survey.files + survey.blocks > HELD) survey.held = undefined
      }
    }
    return survey
  }

  #count(survey: Survey, { size }: CatalogRecord, sign: 1 | -1): void {
    survey.files += sign
    survey.blocks += sign * segmentCount(size)
    this.counts.files += sign
    this.counts.bytes += sign * size
  }

  *#files(directory: string, survey: Survey): Iterable<ManifestFile> {
    const { taken, held } = survey
    if (held !== undefined) {
      yield* held.filter(({ name }) => !taken.has(name))
      return
    }
    for (const child of this.#tree.children(directory)) {
      const { name, entry } = child
      if (entry === undefined || taken.has(name) || isFolder(directory, child)) continue
      const { record } = entry
      if (whyNot(name, record) === undefined) yield { name, blocks: blocksOf(record) }
    }
  }

  /** A folder without anything in it becomes an empty directory, unless a file has its name. */
  *#emptyDirectory(directory: string, stream: string): Iterable<string> {
    for (const entry of this.#tree.entries(directory)) {
      if (entry.key !== directory && this.#problemOf(entry) === undefined) return
      yield ''
    }
    if (this.#isBelowFile(directory)) {
      this.#options.leftOut(directory, 'it is an empty directory, and a file has its name')
      return
    }
    this.counts.streams += 1
    yield formatEmptyDirectory(stream)
  }

  /** True where a directory, or one around it, has a file's name, and the file is in the manifest. */
  #isBelowFile(directory: string): boolean {
    const { base } = this.#options
    for (
      let end = directory.length - 1;
      end > base.length;
      end = directory.lastIndexOf('/', end - 1)
    ) {
      const entry = this.#tree.entry(directory.slice(0, end))
      const isFile = entry !== undefined && this.#problemOf(entry) === undefined
      if (isFile && !this.#hasFile(`${entry.key}/`)) return true
    }
    return false
  }

  #hasFile(directory: string): boolean {
    for (const entry of this.#tree.entries(directory)) {
      if (!entry.key.endsWith('/') && this.#problemOf(entry) === undefined) return true
    }
    return false
  }

  /** Returns what keeps an object out of the manifest, other objects apart. */
  #problemOf({ key, record }: CatalogEntry): string | undefined {
    const path = key.slice(this.#options.base.length)
    const isEmptyFolder = path.endsWith('/') && record.size === 0
    const parts = (isEmptyFolder ? path.slice(0, -1) : path).split('/')
    for (const part of parts) {
      const reason = whyNot(part, record)
      if (reason !== undefined) return reason
    }
    return undefined
  }

  *#leaveAllOut(directory: string, reason: string): Iterable<string> {
    for (const { key } of this.#tree.entries(directory)) {
      this.#options.leftOut(key, reason)
      yield ''
    }
  }
}

function namesIn(tree: KeyTree, directory: string): Iterator<string | undefined> {
  return tree.directories(directory)[Symbol.iterator]()
}

function isFolder(directory: string, { name, entry }: Child): boolean {
  return name === '' && directory.endsWith('/') && entry?.record.size === 0
}

/** Returns what keeps an object out of any manifest, by the last part of its key and its record. */
function whyNot(name: string, record: CatalogRecord): string | undefined {
  const problem = partProblem(name)
  if (problem !== undefined) return `its name ${problem}`
  return isDamaged(record)
    ? 'a repair has dropped part of it; the next keepgw index reads it anew'
    : undefined
}

function blocksOf(record: CatalogRecord): FileBlock[] {
  return Array.from({ length: segmentCount(record.size) }, (_, segment) => ({
    hash: segmentHash(record, segment)!,
    size: segmentRange(record.size, segment).length,
  }))
}
