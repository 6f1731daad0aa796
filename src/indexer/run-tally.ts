/** The counts of a run, and who hears of them. */
import type { RunLimit } from '../mapping/run-report.ts'
import { showKey } from '../remote/key.ts'
import type { RequestCounts } from '../remote/remote.ts'
import type { Task, WalkPage } from './walk.ts'

/** Counts of a run, up to now. */
export interface IndexCounts {
  /** Objects in the listing that the run is about. */
  listed: number
  unchanged: number
  added: number
  changed: number
  dropped: number
  /** Objects, of those added and changed, whose hash was taken from the ETag. */
  trusted: number
  /** Objects whose hash had been taken from the ETag, and that were read since, by whomever. */
  proven: number
  /** Objects whose ETag looked like an MD5, and was not that of their bytes. */
  falseEtags: number
  archived: number
  unreadable: number
  /** Objects that are to be read, and are not yet. */
  waiting: number
  /** Bytes read. */
  bytes: number
  /** Known at the end only. */
  requests: RequestCounts
}

/** What a run came to. */
export interface IndexResult extends IndexCounts {
  /** The limit that ended it early. */
  incomplete?: RunLimit
}

/** What the one who started a run hears of it. */
export interface IndexObserver {
  /** Called often, with the same object each time. */
  progress(counts: Readonly<IndexCounts>): void
  unreadable(key: string, reason: string): void
  /** Something that the user should know, and that is no failure. */
  notice(message: string): void
}

/** Counts what becomes of each object of one run, and tells the observer. */
export class RunTally {
  readonly counts: IndexCounts = {
    listed: 0,
    unchanged: 0,
    added: 0,
    changed: 0,
    dropped: 0,
    trusted: 0,
    proven: 0,
    falseEtags: 0,
    archived: 0,
    unreadable: 0,
    waiting: 0,
    bytes: 0,
    requests: { list: 0, get: 0, head: 0 },
  }
  /** Keys, and prefixes that end with `/`, that the listing could not look into. */
  readonly unlisted = new Set<string>()
  readonly #observer: IndexObserver

  constructor(observer: IndexObserver) {
    this.#observer = observer
  }

  /** A page of the listing has come; its tasks wait from now on. */
  listed({ tasks, unchanged, archived, unlisted, unreadable }: WalkPage): void {
    const { counts } = this
    counts.listed += tasks.length + unchanged + archived + unreadable.length
    counts.unchanged += unchanged
    counts.archived += archived
    counts.waiting += tasks.length
    // A disk that is lost under way is met with each of its directories.
    const unknown = unlisted.filter(({ key }) => !this.unlisted.has(key))
    for (const { key } of unknown) this.unlisted.add(key)
    for (const { key, reason } of [...unknown, ...unreadable]) {
      this.unreadable(key, `${showKey(key)}: ${reason}`)
    }
    this.#report()
  }

  /** An object's hashes were recorded, or would be. */
  indexed({ before }: Task): void {
    this.counts[before === undefined ? 'added' : 'changed'] += 1
  }

  /** An object, or a part of the listing, cannot be read. */
  unreadable(key: string, reason: string): void {
    this.counts.unreadable += 1
    this.#observer.unreadable(key, reason)
  }

  /** A task is done with, whatever came of it. */
  done(): void {
    this.counts.waiting -= 1
    this.#report()
  }

  /** So many more bytes were read. */
  read(bytes: number): void {
    this.counts.bytes += bytes
    this.#report()
  }

  #report(): void {
    this.#observer.progress(this.counts)
  }
}
