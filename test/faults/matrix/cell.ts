/** A cell of the fault matrix: one fault, at one moment of one operation. */
import type { Lab } from './lab.ts'

export type Operation = 'index' | 'serve, one place' | 'serve, two places' | 'verify'

/** What keepgw is safe by: test:safeguards shows that a cell breaks where one is taken away. */
export type Safeguard =
  | 'If-Match'
  | 'the answered ETag is compared'
  | 'the MD5 check'
  | 'the hold-back'
  | 'what came is counted'
  | 'only S3’s word proves an object gone'
  | 'a missing key is believed only of a bucket that is there'
  | 'unreachable places forbid a 404'
  | 'certificates are checked'
  | 'a listing must come whole'
  | 'a listing must come to its end'
  | 'a listing must have what was asked for'
  | 'what its ETag does not confirm is read again'
  | 'the shrink guard'
  | 'the lock'
  | 'the intent comes first'
  | 'the lines come before the commit'
  | 'the sync comes before the commit'
  | 'repair drops only what is proven bad'

export interface Cell {
  operation: Operation
  fault: string
  moment: string
  /** What keepgw has to do, in words. */
  expected: string
  /** Part of `npm test`. */
  quick: boolean
  /** Those without which it breaks. */
  safeguards: readonly Safeguard[]
  /** Throws where the cell is broken. Cells may run at the same time. */
  run(lab: Lab): Promise<void>
}

/** What all tables of cells say of a cell. */
export interface CellOptions {
  quick?: true
  safeguards?: Safeguard[]
}

/** Returns what names a cell among all others. */
export function nameOf({ operation, fault, moment }: Cell): string {
  return `${operation}: ${fault}, ${moment}`
}
