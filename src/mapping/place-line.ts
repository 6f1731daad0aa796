/**
 * The line codec of the mapping tree: `offset:length:path[TAB name=value]…`, one place a line.
 * Pure. The path comes last before the attributes, so that colons and spaces need no escaping and
 * `cut -f1 | cut -d: -f3-` gives it back.
 */
import { keyFromBytes, keyToBytes } from '../remote/key.ts'
import type { Place } from './mapping.ts'

/** The most bytes a block can hold: 64 MiB (Keep). */
export const MAX_BLOCK = 67_108_864

// Control bytes would break lines and fields; a lone surrogate is a byte that is not UTF-8 (key.ts).
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must be escaped
const UNSAFE = /[%\u0000-\u001f\u007f\ud800-\udfff]/u
/** Marks a place whose hash nobody has read yet: the object's ETag is all the proof there is. */
const TRUSTED = 'proof=etag'
const LINE = /^(0|[1-9]\d{0,15}):([1-9]\d{0,7}):([^\t]+)((?:\t[^\t]*)*)$/

/** Returns the line of a place, without its line feed. */
export function formatPlace(place: Place): string {
  let line = `${place.offset}:${place.length}:${encodePath(place.key)}`
  if (place.etag !== undefined) line += `\tetag=${encodePath(place.etag)}`
  if (place.trusted) line += `\t${TRUSTED}`
  for (const attribute of place.extra ?? []) line += `\t${attribute}`
  return line
}

/** Returns the place of a line (without its line feed), or undefined where the line is bad. */
export function parsePlace(line: string): Place | undefined {
  const [, offset, length, path, attributes] = LINE.exec(line) ?? []
  if (offset === undefined || length === undefined || path === undefined) return undefined
  const key = decodePath(path)
  const place: Place = { offset: Number(offset), length: Number(length), key: key ?? '' }
  const fits = Number.isSafeInteger(place.offset) && place.length <= MAX_BLOCK
  if (key === undefined || !fits) return undefined
  for (const attribute of attributes ? attributes.slice(1).split('\t') : []) {
    if (attribute.startsWith('etag=')) {
      const etag = decodePath(attribute.slice('etag='.length))
      if (etag === undefined) return undefined
      place.etag = etag
    } else if (attribute === TRUSTED) {
      place.trusted = true
    } else {
      place.extra ??= []
      place.extra.push(attribute)
    }
  }
  return place
}

function encodePath(text: string): string {
  if (!UNSAFE.test(text)) return text
  let escaped = ''
  for (const part of text) {
    if (!UNSAFE.test(part)) escaped += part
    else for (const byte of keyToBytes(part)) escaped += `%${hexByte(byte)}`
  }
  return escaped
}

function hexByte(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0')
}

/** Undefined where a `%` has no two hex digits behind it, or the text holds raw control bytes. */
function decodePath(text: string): string | undefined {
  if (!UNSAFE.test(text)) return text
  const parts: Buffer[] = []
  for (const [i, part] of text.split('%').entries()) {
    const plain = i === 0 ? part : part.slice(2)
    if (i > 0) {
      if (!/^[0-9a-fA-F]{2}/.test(part)) return undefined
      parts.push(Buffer.from(part.slice(0, 2), 'hex'))
    }
    if (UNSAFE.test(plain)) return undefined
    parts.push(Buffer.from(plain, 'utf8'))
  }
  return keyFromBytes(Buffer.concat(parts))
}
