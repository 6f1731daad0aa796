/** Looks at a mapping that others may be writing to. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Catalog } from '../mapping/catalog.ts'
import type { Intent } from '../mapping/catalog-contents.ts'
import { isSilent } from '../mapping/lock.ts'
import { isProvenDead } from '../process-id.ts'

const PAUSE_MS = 100

/**
 * What makes a look sound while an index runs: a batch changes the catalog before and after it changes
 * the tree. So what is seen between two looks at the catalog's transactions, with no batch begun that is
 * about the key, is no passing state.
 */
export class Settled {
  readonly #catalog: Catalog
  readonly #signal: AbortSignal
  /** With the lock held nothing passes. */
  readonly #isAlone: boolean
  readonly #cutShort: ReadonlySet<string>

  constructor(catalog: Catalog, { isAlone, signal }: { isAlone: boolean; signal: AbortSignal }) {
    this.#catalog = catalog
    this.#isAlone = isAlone
    this.#signal = signal
    this.#cutShort = isAlone ? keysOf(intentOf(catalog)) : new Set()
  }

  /** True where nobody else writes: then the first look is as good as any. */
  get isAlone(): boolean {
    return this.#isAlone
  }

  /**
   * Returns what `look` returns once nothing is under way that is about these keys, or, without keys,
   * nothing at all. Undefined where a run that has ended left that half done: the next one finishes it.
   * Throws the signal's reason, and what `look` throws.
   */
  async look<T>(keys: Iterable<string> | undefined, look: () => T): Promise<T | undefined> {
    const all = keys === undefined ? undefined : new Set(keys)
    if (this.#isAlone) return isAbout(this.#cutShort, all) ? undefined : look()
    for (;;) {
      this.#signal.throwIfAborted()
      this.#catalog.refresh()
      const transaction = this.#catalog.lastTransaction()
      const intent = intentOf(this.#catalog)
      if (intent === undefined || (all !== undefined && !isAbout(keysOf(intent), all))) {
        const seen = look()
        if (this.#catalog.lastTransaction() === transaction) return seen
      } else if (this.#isUnderWay(transaction)) {
        await delay(PAUSE_MS)
      } else {
        return all === undefined ? look() : undefined
      }
    }
  }

  /** Returns the batch that a run which has ended left half done. */
  cutShort(): Intent | undefined {
    this.#catalog.refresh()
    const transaction = this.#catalog.lastTransaction()
    const intent = this.#catalog.intent()
    return intent !== undefined && this.#isUnderWay(transaction) ? undefined : intent
  }

  /** True where somebody works at the batch that was there at this transaction, or has ended it since. */
  #isUnderWay(transaction: number): boolean {
    if (this.#isAlone) return false
    const holder = this.#catalog.lockRecord()
    const isHeld = holder !== undefined && !isProvenDead(holder) && !isSilent(holder)
    return isHeld || this.#catalog.lastTransaction() !== transaction
  }
}

function isAbout(some: ReadonlySet<string>, keys: ReadonlySet<string> | undefined): boolean {
  return keys !== undefined && !some.isDisjointFrom(keys)
}

function keysOf(intent: Intent | undefined): Set<string> {
  return new Set(intent?.changes.map(({ key }) => key))
}

/** One that cannot be read is a finding of its own. */
function intentOf(catalog: Catalog): Intent | undefined {
  try {
    return catalog.intent()
  } catch {
    return undefined
  }
}
