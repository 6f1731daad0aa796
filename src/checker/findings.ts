/** What a check can find, what it means, and what would make it good. */
import type { Unreadable } from '../mapping/catalog-contents.ts'
import type { Place } from '../mapping/mapping.ts'
import type { BlockChange } from '../mapping/tree-update.ts'

/** `damage` makes a mapping not whole; a `notice` is for whoever looks after it. */
export type Severity = 'damage' | 'notice'

const KINDS = {
  /** remote.json is missing or bad. */
  description: 'damage',
  /** The catalog cannot be opened. */
  catalog: 'damage',
  /** A record that cannot be read: its object is to be read anew. */
  record: 'damage',
  /** A number that `status` shows is not what is there. */
  counts: 'damage',
  /** Something beside the objects that cannot be read. */
  entry: 'damage',
  /** A hash that is noted as lost, and has a place. */
  lost: 'damage',
  /** A place of the catalog has no line. */
  missing: 'damage',
  /** The line of a place does not say what the catalog does. */
  wrong: 'damage',
  /** A line of what the catalog knows to be otherwise by now. */
  stale: 'damage',
  /** Line and catalog disagree, and nothing proves which is right. */
  conflict: 'damage',
  /** The same line again. */
  doubled: 'damage',
  /** Not a line. */
  bad: 'damage',
  /** A line without its end. */
  torn: 'damage',
  /** A line whose length cannot be that of the block. */
  length: 'damage',
  /** A file that is not where readers look for it. */
  misplaced: 'damage',
  /** A file that cannot be read. */
  unreadable: 'damage',
  /** A line of an object that the catalog does not know. */
  stray: 'notice',
  /** What a run that was killed has left. */
  leftover: 'notice',
  /** A batch that was begun and not finished. */
  batch: 'notice',
  /** What is none of keepgw's. */
  foreign: 'notice',
} as const satisfies Record<string, Severity>

/** What a finding is about; severityOf() says how bad that is. */
export type Kind = keyof typeof KINDS

/** One thing that is not as it should be. */
export interface Finding {
  kind: Kind
  /** The file, below the mapping, or the key, that it is about. */
  where: string
  /** What is the matter, in a few words. */
  what: string
}

/** Returns how bad a finding is. */
export function severityOf(kind: Kind): Severity {
  return KINDS[kind]
}

/** Counts findings by their kinds. */
export class Tally {
  readonly #counts = new Map<Kind, number>()

  /** Counts a finding, of which nothing but the kind is kept. */
  add({ kind }: Finding): void {
    this.#counts.set(kind, this.of(kind) + 1)
  }

  /** How many findings there are of this kind. */
  of(kind: Kind): number {
    return this.#counts.get(kind) ?? 0
  }

  /** How many findings there are of this severity. */
  total(severity: Severity): number {
    let sum = 0
    for (const [kind, count] of this.#counts) if (KINDS[kind] === severity) sum += count
    return sum
  }

  /** The counts of what was found, by kind. */
  counts(): Partial<Record<Kind, number>> {
    return Object.fromEntries(this.#counts)
  }
}

/** What would make a finding good. */
export type Mend =
  /** Change the file of a hash: what is added is what the catalog says. */
  | { do: 'change'; hash: string; change: BlockChange }
  /** Believe neither the record nor the line: remove the former, and ask the store about the latter. */
  | { do: 'doubt'; hash: string; place: Place }
  /** Have an object read anew: remove its record. */
  | { do: 'forget'; key: string }
  /** Take a hash out of the lost ones. */
  | { do: 'found'; hash: string }
  | { do: 'clear'; entry: Unreadable }
  /** Move a file that cannot be read to where it harms nobody. */
  | { do: 'move'; where: string }
  | { do: 'remove'; where: string }
  /** Bring the lines of a file to where readers look for them. */
  | { do: 'place'; hash: string; where: string }
  /** Ask the store about the object. */
  | { do: 'ask'; hash: string; place: Place }

/** A finding, and what would make it good, where that is known. */
export interface Found extends Finding {
  mend?: Mend
}
