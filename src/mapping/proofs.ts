/**
 * The journal of proofs, MAPPINGS/.keepgw/proofs. Who reads blocks without the lock (serve, verify)
 * notes here which trusted places turned out to hold their block; the next index run takes the
 * notes in, and their marks away. One line a proof: `HASH LINE`, with the place's line as in the
 * tree. To lose some is harmless: a place is then proven by another read.
 */
import { existsSync } from 'node:fs'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Catalog } from './catalog.ts'
import type { Change } from './catalog-contents.ts'
import { stateDir } from './description.ts'
import type { Place } from './mapping.ts'
import { formatPlace, parsePlace } from './place-line.ts'
import { segmentHash, withoutTrust } from './record.ts'

/** Bytes of a journal that nobody takes in, at most: 100,000 proofs or so. */
const MAX_BYTES = 16 * 1024 * 1024
/** Proofs held in memory to be written together. */
const FULL = 1000
/** They are written after this long at the latest. */
const MAX_AGE_MS = 5000
/** Proofs that are known to be noted: a block that is read all the time is noted once. */
const REMEMBERED = 20_000

/** How large a journal may become. */
export interface ProofJournalOptions {
  /** Bytes after which nothing is added to the file. */
  maxBytes?: number
}

/**
 * The writing half, for any number of processes at once. A mapping that cannot be written to has
 * no journal, which is no error. Safe for concurrent use.
 */
export class ProofJournal {
  readonly #file: string
  readonly #maxBytes: number
  /** In the order in which they came, so that the oldest is forgotten first. */
  readonly #known = new Set<string>()
  #pending: string[] = []
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  /** A journal of the mapping at `mappings`; nothing is opened before there is something to write. */
  constructor(mappings: string, { maxBytes = MAX_BYTES }: ProofJournalOptions = {}) {
    this.#file = journalFile(mappings)
    this.#maxBytes = maxBytes
  }

  /** Notes that all bytes of the place were read, and have this MD5. Only trusted places count. */
  note(hash: string, place: Place): void {
    if (!place.trusted) return
    const line = `${hash} ${formatPlace(place)}\n`
    if (this.#known.has(line)) return
    this.#remember(line)
    this.#pending.push(line)
    if (this.#pending.length >= FULL) this.#write()
    else this.#timer ??= setTimeout(() => this.#write(), MAX_AGE_MS).unref()
  }

  /** Resolves once everything is written, as far as it can be. Never throws. */
  async close(): Promise<void> {
    this.#write()
    await this.#writing
  }

  #remember(line: string): void {
    this.#known.add(line)
    if (this.#known.size <= REMEMBERED) return
    for (const oldest of this.#known) {
      this.#known.delete(oldest)
      return
    }
  }

  #write(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const lines = this.#pending
    this.#pending = []
    if (lines.length === 0) return
    this.#writing = this.#writing.then(() => this.#append(lines.join(''))).catch(() => {})
  }

  /** Opened anew each time: an index run may have taken the file away. */
  async #append(text: string): Promise<void> {
    const handle = await open(this.#file, 'a')
    try {
      if ((await handle.stat()).size < this.#maxBytes) await handle.writeFile(text)
    } finally {
      await handle.close()
    }
  }
}

/**
 * Gives each change that the journal's proofs make to `record`, and then removes the journal; to be
 * called by the holder of the mapping's lock. `flush` is to resolve once all of them are recorded.
 * Returns how many marks go. What a crash interrupts is taken in by the next call. Throws what `record` and
 * `flush` throw, KeepgwError for a damaged record, and the system's errors.
 */
export async function takeProofs(
  mappings: string,
  catalog: Catalog,
  { record, flush }: { record(change: Change): Promise<void>; flush(): Promise<void> },
): Promise<number> {
  const journal = journalFile(mappings)
  const taken = `${journal}.taken`
  let count = 0
  // One that was taken by a run that was cut short comes first.
  for (const next of [taken, journal]) {
    if (!existsSync(next)) continue
    // Writers begin a new file from here on.
    if (next === journal) await rename(journal, taken)
    // What another user has written may not be ours to read: then it is lost.
    const text = await readFile(taken, 'utf8').catch(() => '')
    for (const change of changesOf(text, catalog)) {
      await record(change)
      count += 1
    }
    await flush()
    await rm(taken, { recursive: true })
  }
  return count
}

function* changesOf(text: string, catalog: Catalog): Iterable<Change> {
  // Several servers of a mapping may each have read the same place.
  for (const line of new Set(text.split('\n'))) {
    const [hash = ''] = line.split(' ', 1)
    const place = parsePlace(line.slice(hash.length + 1))
    const before = place && catalog.get(place.key)
    // The object may have changed since, or been read by an index run.
    if (!before?.trusted || before.etag !== place?.etag || segmentHash(before, 0) !== hash) continue
    yield { key: place.key, before, after: withoutTrust(before) }
  }
}

function journalFile(mappings: string): string {
  return join(stateDir(mappings), 'proofs')
}
