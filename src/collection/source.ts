/** What a collection is made of: the objects of a mapping as they were at one moment. */
import { KeepgwError, UsageError } from '../errors.ts'
import { Catalog } from '../mapping/catalog.ts'
import type { CatalogSnapshot } from '../mapping/catalog-entries.ts'
import { chunks } from './chunks.ts'
import { KeyTree } from './key-tree.ts'

export interface SourceOptions {
  /** Only keys that start with this. */
  prefix: string
  /** Taken off the keys; `prefix` starts with it. */
  base: string
}

export class CollectionSource {
  readonly tree: KeyTree
  readonly base: string
  readonly #catalog: Catalog
  readonly #snapshot: CatalogSnapshot

  private constructor(catalog: Catalog, { prefix, base }: SourceOptions) {
    this.#catalog = catalog
    this.#snapshot = catalog.snapshot()
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
    if (!isEmpty(source.tree)) return source
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

  /** Returns what the last index run has left open, a sentence each: objects may be missing. */
  gaps(): string[] {
    const { lastRun } = this.#snapshot
    if (lastRun === undefined)
      return ['no index run has come to its end yet: objects may be missing']
    const { outcome, unreadable, archived = 0, earlier } = lastRun
    return [
      ...(earlier === undefined
        ? []
        : [`the last index run about all objects was ${earlier}: some may be missing`]),
      ...(outcome === 'complete' || unreadable > 0
        ? []
        : [`the last index run was ${outcome}: objects may be missing`]),
      ...(unreadable > 0
        ? [`the last index run could not read ${unreadable} objects: they may be missing`]
        : []),
      ...(archived > 0
        ? [`the last index run passed by ${archived} archived objects: they may be missing`]
        : []),
    ]
  }

  /** Throws KeepgwError where hashes were only taken from ETags; reads the catalog to count them. */
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

  async close(): Promise<void> {
    this.#snapshot.close()
    await this.#catalog.close()
  }
}

function isEmpty(tree: KeyTree): boolean {
  for (const _entry of tree.entries('')) return false
  return true
}
