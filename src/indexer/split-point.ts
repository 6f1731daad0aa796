/** Where to split a range of keys of which only a part has been seen. Pure. */
import { compareKeys } from '../remote/key.ts'

/** Keys are mostly made of digits, or of letters of one case: a split within such a class is fairer. */
const CLASS_ENDS = [0x3a, 0x5b, 0x7b, 0x7e]
const FIRST_PRINTABLE = 0x20
/** Characters that are tried, from the first that varies on. */
const DEPTH = 8

/**
 * Returns a key behind `last` and before `end`, at best with as many keys on the one side as on the
 * other: about halfway behind the first character in which the keys from `first` to `last` differ.
 * It is made of characters of `last` and one of printable ASCII, so it is UTF-8 and can be asked for.
 * Returns undefined where there is no such key.
 */
export function splitPoint(first: string, last: string, end?: string): string | undefined {
  const characters = [...last]
  const varying = sharedLength([...first], characters)
  for (let at = varying; at <= characters.length && at < varying + DEPTH; at++) {
    const shared = characters.slice(0, at).join('')
    const low = Math.max(characters[at]?.codePointAt(0) ?? 0, FIRST_PRINTABLE)
    const high = end?.startsWith(shared) ? end.charCodeAt(shared.length) : Number.POSITIVE_INFINITY
    const top = Math.min(high, CLASS_ENDS.find((one) => one > low) ?? low)
    const middle = Math.ceil((low + top) / 2)
    if (middle <= low) continue
    const point = shared + String.fromCharCode(middle)
    if (end === undefined || compareKeys(point, end) < 0) return point
  }
  return undefined
}

function sharedLength(a: string[], b: string[]): number {
  let at = 0
  while (at < a.length && at < b.length && a[at] === b[at]) at += 1
  return at
}
