/** Goes through a mapping, and yields what is not as it should be. Writes nothing, reads no object. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { Catalog } from '../mapping/catalog.ts'
import { type CatalogStats, type Intent, NO_STATS } from '../mapping/catalog-contents.ts'
import type { Place } from '../mapping/mapping.ts'
import { parsePlace } from '../mapping/place-line.ts'
import { segmentCount, segmentHash, segmentPlace, segmentRange } from '../mapping/record.ts'
import { blockFile } from '../mapping/tree.ts'
import { showKey } from '../remote/key.ts'
import {
  describeLine,
  placeName,
  type Suspect,
  strangerIn,
  whereOf,
  wrongCount,
} from './describe.ts'
import type { Found, Mend } from './findings.ts'
import { judgePlace, placeText } from './judge.ts'
import { PLACES_AT_ONCE, PlaceSet } from './place-set.ts'
import { Settled } from './settled.ts'
import {
  entriesOf,
  type Line,
  linesOf,
  SHARDS,
  shardName,
  strangersAt,
  type TreeEntry,
} from './tree-files.ts'

/** Files or records between two looks at the event loop. */
const PER_TURN = 512

/** What is looked at. Aborting ends the look with the signal's reason. */
export interface LookOptions {
  dir: string
  catalog: Catalog
  /** True where the mapping's lock is held. */
  isAlone: boolean
  signal: AbortSignal
  /** Places of the catalog held at once, where that is not to be PLACES_AT_ONCE; more take more passes. */
  placesAtOnce?: number
}

/** One look. What it has counted is true once all findings were taken. */
export class Look {
  readonly #options: LookOptions
  readonly #catalog: Catalog
  readonly #settled: Settled
  /** What the catalog and the tree hold; blocks are files with a place in them. */
  readonly counts: CatalogStats = { ...NO_STATS }
  /** Directories of the tree that were gone through, of 4096. */
  shards = 0
  /** Blocks that the catalog has, and their bytes; those only in lines by hand left out. */
  readonly #known = { blocks: 0, blockBytes: 0 }
  #missing = 0
  /** What a run that has ended left half done: its next one finishes that. */
  #cutShort: { keys: ReadonlySet<string>; hashes: ReadonlySet<string> } | undefined

  constructor(options: LookOptions) {
    this.#options = options
    this.#catalog = options.catalog
    this.#settled = new Settled(options.catalog, options)
  }

  /**
   * Yields what is not as it should be; to be called once. Throws the signal's reason, and the errors of
   * the file system and of lmdb as they are.
   */
  async *findings(): AsyncIterable<Found> {
    const began = this.#catalog.lastTransaction()
    yield* this.#entries()
    yield* this.#records()
    for (const where of strangersAt(this.#options.dir)) {
      yield { kind: 'foreign', where, what: 'not of a mapping' }
    }
    const { placesAtOnce = PLACES_AT_ONCE } = this.#options
    const passes = Math.min(SHARDS, Math.ceil(Math.max(1, this.counts.segments) / placesAtOnce))
    for (let pass = 0; pass < passes; pass++) {
      const from = Math.floor((SHARDS * pass) / passes)
      yield* this.#tree(from, Math.floor((SHARDS * (pass + 1)) / passes), passes)
    }
    yield* this.#lost()
    // With a run under way, counts and what is counted are of different moments.
    if (this.#settled.isAlone || this.#catalog.lastTransaction() === began)
      yield* this.#wrongCounts()
  }

  *#entries(): Iterable<Found> {
    const unreadable = [...this.#catalog.unreadable()]
    for (const entry of unreadable) {
      const what = `what the catalog has there cannot be read`
      yield {
        kind: 'entry',
        where: `${entry.table} ${entry.key}`,
        what,
        mend: { do: 'clear', entry },
      }
    }
    if (unreadable.some(({ key }) => key === 'intent')) return
    const intent = this.#settled.cutShort()
    if (intent === undefined) return
    this.#cutShort = subjectsOf(intent)
    const what = `a batch of ${intent.changes.length} objects was cut short`
    yield { kind: 'batch', where: 'catalog', what }
  }

  async *#records(): AsyncIterable<Found> {
    let looked = 0
    for (const { key, record, error } of this.#decoded()) {
      if (++looked % PER_TURN === 0) await this.#breathe()
      if (record === undefined) {
        const what = `its record is bad: ${messageOf(error)}`
        yield { kind: 'record', where: showKey(key), what, mend: { do: 'forget', key } }
        continue
      }
      this.counts.objects += 1
      for (let segment = 0; segment < segmentCount(record.size); segment++) {
        if (segmentHash(record, segment) === undefined) continue
        this.counts.segments += 1
        this.counts.bytes += segmentRange(record.size, segment).length
        if (record.trusted) this.counts.trusted += 1
      }
    }
  }

  /** Looks at the directories from `from` up to `to`. */
  async *#tree(from: number, to: number, passes: number): AsyncIterable<Found> {
    const [low, high] = [shardName(from), shardName(to)]
    const places = new PlaceSet(this.counts.segments / passes)
    const isIn = (hash: string): boolean => {
      const shard = hash.slice(0, 3)
      return shard >= low && (to === SHARDS || shard < high)
    }
    for await (const { hash, place } of this.#places(isIn)) places.add(placeText(hash, place))
    for (let shard = from; shard < to; shard++, this.shards++) {
      for (const entry of entriesOf(this.#options.dir, shard)) {
        if (entry.kind === 'file') yield* this.#file(entry.hash, places)
        else if (await this.#lasts(entry)) yield strangerIn(entry)
      }
      await this.#breathe()
    }
    if (places.left > 0) yield* this.#missingOf(places, isIn)
  }

  /** False for what a rewrite under way has beside a file for a moment. */
  async #lasts(entry: TreeEntry): Promise<boolean> {
    if (entry.kind !== 'leftover') return true
    const path = join(this.#options.dir, entry.where)
    return (await this.#settled.look(undefined, () => existsSync(path))) === true
  }

  async *#file(hash: string, places: PlaceSet): AsyncIterable<Found> {
    const file = blockFile(this.#options.dir, hash)
    const suspects: Suspect[] = []
    let known: number | undefined
    let any: number | undefined
    try {
      for (const line of linesOf(file)) {
        const suspect = suspectOf(hash, line, places)
        const place = suspect?.place ?? (suspect === undefined ? lengthOf(line) : undefined)
        any ??= place?.length
        if (suspect === undefined) known ??= place?.length
        else suspects.push(suspect)
      }
    } catch (error) {
      const where = whereOf(hash)
      yield { kind: 'unreadable', where, what: messageOf(error), mend: { do: 'move', where } }
      return
    }
    if (any !== undefined) this.#count(this.counts, known ?? any)
    if (known !== undefined) this.#count(this.#known, known)
    if (suspects.length > 0) yield* this.#judge(hash, suspects, known, places)
    else if (any === undefined && (await this.#settled.look(undefined, () => isEmpty(file)))) {
      const change = { add: [], remove: [], dropBadLines: true as const }
      const mend: Mend = { do: 'change', hash, change }
      yield { kind: 'torn', where: whereOf(hash), what: 'the file is empty', mend }
    }
  }

  #count(of: { blocks: number; blockBytes: number }, length: number): void {
    of.blocks += 1
    of.blockBytes += length
  }

  async *#judge(
    hash: string,
    suspects: Suspect[],
    length: number | undefined,
    places: PlaceSet,
  ): AsyncIterable<Found> {
    const keys = suspects.flatMap(({ place }) => (place === undefined ? [] : [place.key]))
    const isUnclear = suspects.some(({ kind }) => kind === 'torn' || kind === 'bad')
    const judged = await this.#settled.look(isUnclear ? undefined : keys, () => {
      const there = this.#settled.isAlone ? suspects : this.#stillThere(hash, suspects)
      return there.map((suspect) => ({
        suspect,
        judgement: suspect.place && judgePlace(this.#catalog, hash, suspect.place),
      }))
    })
    for (const { suspect, judgement } of judged ?? []) {
      if (this.#isHalfDone(hash, suspect)) continue
      const found = describeLine(hash, suspect, judgement, length)
      if (found === undefined) continue
      // Its right line is not missing as well: one mends the other.
      if (judgement?.kind === 'wrong') places.take(placeText(hash, judgement.expected))
      yield found
    }
  }

  #isHalfDone(hash: string, { place }: Suspect): boolean {
    if (this.#settled.isAlone || this.#cutShort === undefined) return false
    const { keys, hashes } = this.#cutShort
    return place === undefined ? hashes.has(hash) : keys.has(place.key)
  }

  #stillThere(hash: string, suspects: Suspect[]): Suspect[] {
    const wanted = new Map<string, number>()
    for (const { text } of suspects) wanted.set(text ?? '', 0)
    for (const { text, isTorn } of linesOf(blockFile(this.#options.dir, hash))) {
      const name = isTorn ? `${text}\n` : (text ?? '')
      wanted.set(name, (wanted.get(name) ?? 0) + 1)
    }
    return suspects.filter(({ kind, text = '' }) => {
      const count = wanted.get(kind === 'torn' ? `${text}\n` : text) ?? 0
      return count > 0
    })
  }

  /** The catalog is gone through once more, for the places whose lines were not met. */
  async *#missingOf(places: PlaceSet, isIn: (hash: string) => boolean): AsyncIterable<Found> {
    for await (const { hash, place } of this.#places(isIn)) {
      const text = placeText(hash, place)
      if (!places.isLeft(text)) continue
      const isMissing = await this.#settled.look([place.key], () => {
        if (this.#settled.isAlone) return true
        if (judgePlace(this.#catalog, hash, place).kind !== 'right') return false
        return !this.#hasLine(hash, (line) => isLineOf(hash, line, text))
      })
      if (!isMissing) continue
      this.#missing += 1
      const what = `no line for ${placeName(place)}`
      const change = { add: [place], remove: [] }
      yield { kind: 'missing', where: whereOf(hash), what, mend: { do: 'change', hash, change } }
    }
  }

  async *#lost(): AsyncIterable<Found> {
    for (const { hash } of this.#catalog.lostBlocks()) {
      const isThere = await this.#settled.look(undefined, () => {
        return (
          this.#catalog.isLost(hash) && this.#hasLine(hash, (line) => lengthOf(line) !== undefined)
        )
      })
      if (!isThere) continue
      const what = 'noted as lost, and has a place'
      yield { kind: 'lost', where: whereOf(hash), what, mend: { do: 'found', hash } }
    }
  }

  /** A file that cannot be read has no line; that is a finding of its own. */
  #hasLine(hash: string, isIt: (line: Line) => boolean): boolean {
    try {
      return linesOf(blockFile(this.#options.dir, hash)).some(isIt)
    } catch {
      return false
    }
  }

  *#wrongCounts(): Iterable<Found> {
    let stats: CatalogStats
    try {
      stats = this.#catalog.stats()
    } catch {
      // A finding already.
      return
    }
    for (const name of ['objects', 'segments', 'bytes', 'trusted'] as const) {
      if (stats[name] !== this.counts[name]) yield wrongCount(name, stats[name], this.counts[name])
    }
    // A file that is missing cannot be counted; and a batch counts in its end what it has made or removed.
    if (this.#missing > 0 || this.#cutShort !== undefined) return
    for (const name of ['blocks', 'blockBytes'] as const) {
      // Files with nothing but lines by hand may be counted or not.
      const isRight = stats[name] >= this.#known[name] && stats[name] <= this.counts[name]
      if (!isRight) yield wrongCount(name, stats[name], this.counts[name])
    }
  }

  *#decoded() {
    for (const entry of this.#catalog.entries()) {
      try {
        yield { key: entry.key, record: entry.record }
      } catch (error) {
        yield { key: entry.key, record: undefined, error }
      }
    }
  }

  /** Yields the places of the catalog whose hashes are wanted. */
  async *#places(isIn: (hash: string) => boolean): AsyncIterable<{ hash: string; place: Place }> {
    let looked = 0
    for (const { key, record } of this.#decoded()) {
      if (++looked % PER_TURN === 0) await this.#breathe()
      for (let segment = 0; record && segment < segmentCount(record.size); segment++) {
        const hash = segmentHash(record, segment)
        if (hash !== undefined && isIn(hash))
          yield { hash, place: segmentPlace(key, record, segment) }
      }
    }
  }

  async #breathe(): Promise<void> {
    this.#options.signal.throwIfAborted()
    await setImmediate()
  }
}

/** Returns the keys and the hashes that a batch is about. */
function subjectsOf({ changes }: Intent): { keys: Set<string>; hashes: Set<string> } {
  const hashes = new Set<string>()
  for (const record of changes.flatMap(({ before, after }) => [before, after])) {
    for (let segment = 0; record && segment < segmentCount(record.size); segment++) {
      const hash = segmentHash(record, segment)
      if (hash !== undefined) hashes.add(hash)
    }
  }
  return { keys: new Set(changes.map(({ key }) => key)), hashes }
}

function suspectOf(hash: string, { text, isTorn }: Line, places: PlaceSet): Suspect | undefined {
  if (isTorn) return { kind: 'torn', text }
  if (text === undefined) return { kind: 'bad', text }
  let taken = places.take(`${hash} ${text}`)
  if (taken === 'first') return undefined
  const place = parsePlace(text)
  if (place === undefined) return { kind: 'bad', text }
  if (taken === undefined && place.extra !== undefined) taken = places.take(placeText(hash, place))
  if (taken === 'first') return undefined
  return { kind: taken === 'again' ? 'doubled' : 'line', text, place }
}

function lengthOf({ text, isTorn }: Line): { length: number } | undefined {
  return isTorn || text === undefined ? undefined : parsePlace(text)
}

function isLineOf(hash: string, { text, isTorn }: Line, wanted: string): boolean {
  const place = isTorn || text === undefined ? undefined : parsePlace(text)
  return place !== undefined && placeText(hash, place) === wanted
}

function isEmpty(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.size === 0
}
