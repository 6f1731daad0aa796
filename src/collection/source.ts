/** What a collection is made of: the objects of a mapping as they were at one moment. */
import { KeepgwError, UsageError } from '../errors.ts'
import { Catalog } from '../mapping/catalog.ts'
import type { CatalogSnapshot } from '../mapping/catalog-entries.ts'
import { gapsOf } from '../mapping/run-report.ts'
import { chunks } from './chunks.ts'
import { KeyTree } from './key-tree.ts'

/** Which objects of the mapping, and how their names begin. */
export interface SourceOptions {
  /** Only keys that start with this. */
  prefix: string
  /** Taken off the keys; `prefix` starts with it. */
  base: string
}

/**
 * A snapshot of a mapping's objects. Close it: until then the catalog's file cannot use the room of what is
 * replaced.
 */
export class CollectionSource {
  readonly tree: KeyTree
  readonly base: string
  readonly #catalog: Catalog
  readonly #snapshot: CatalogSnapshot
  readonly #prefix: string

  private constructor(catalog: Catalog, { prefix, base }: SourceOptions) {
    this.#catalog = catalog
    this.#snapshot = catalog.snapshot()
    this.#prefix = prefix
    this.tree = new KeyTree(this.#snapshot, prefix)
    this.base = base
  }

  /**
   * Opens the mapping at `dir`. Throws UsageError where `prefix` does not start with `base`, and
   * KeepgwError where the mapping cannot be read, or knows no object of the prefix.
   */
  static async open(dir: string, options: SourceOptions): Promise<CollectionSource> {
    const { prefix, base } = options
    if (!prefix.startsWith(base)) {
      throw new UsageError(`"${base}" cannot be taken off every key that starts with "${prefix}"`, {
        hint: 'Name a beginning of the PREFIX with --strip-prefix',
      })
    }
    const source = new CollectionSource(Catalog.open(dir, { readOnly: true }), options)
    if (!isEmpty(source.tree)) {
      if (base === '' || base.endsWith('/') || !hasDirectory(source.tree, options)) return source
      await source.close()
      throw new UsageError(`without "${base}", names would begin with a slash`, {
        hint: `Say --strip-prefix '${base}/'${prefix === base ? ', and end the BUCKET with that' : ''}`,
      })
    }
    const isIndexed =
      source.#snapshot.lastRun?.outcome === 'complete' ||
      !isEmpty(new KeyTree(source.#snapshot, ''))
    await source.close()
    if (!isIndexed) {
      throw new KeepgwError(`nothing is indexed yet in the mapping ${dir}`, {
        hint: 'Run keepgw index first',
      })
    }
    const which = prefix === '' ? '' : ` whose key starts with "${prefix}"`
    throw new KeepgwError(`no object is indexed${which}`, { hint: 'See: keepgw status' })
  }

  /** Returns what index runs have left open of it, a sentence each: objects may be missing. */
  gaps(): string[] {
    return gapsOf(this.#snapshot.lastRun, this.#prefix)
  }

  /**
   * Throws KeepgwError where hashes were only taken from ETags, and the signal's reason; reads the catalog
   * to count them.
   */
  async refuseTrusted(signal: AbortSignal): Promise<void> {
    if (this.#snapshot.trusted === 0) return
    let trusted = 0
    const looking = function* (tree: KeyTree): Iterable<string> {
      for (const { record } of tree.entries('')) {
        if (record.trusted) trusted += 1
        yield ''
      }
    }
    for await (const _none of chunks(looking(this.tree), signal));
    if (trusted === 0) return
    throw new KeepgwError(
      `of ${trusted} objects nobody has read yet whether their MD5 is their ETag`,
      {
        hint: 'Prove it by keepgw index without --etag=trust, or say --allow-trusted',
      },
    )
  }

  /** Ends the snapshot, and with it the use of `tree`. */
  async close(): Promise<void> {
    this.#snapshot.close()
    await this.#catalog.close()
  }
}

/** True where keys of the tree lie in a directory of the base's name. */
function hasDirectory(tree: KeyTree, { prefix, base }: SourceOptions): boolean {
  const directory = `${base}/`
  return prefix === base ? !isEmpty(tree, directory) : prefix.startsWith(directory)
}

function isEmpty(tree: KeyTree, directory = ''): boolean {
  for (const _entry of tree.entries(directory)) return false
  return true
}
