/**
 * Keys. S3 names objects by UTF-8 text, file systems by bytes. A key is held as a string; a byte
 * that is not part of valid UTF-8 becomes the lone surrogate U+DC00 + byte, as Python's
 * "surrogateescape" does (PEP 383), so that every name survives the way to a string and back.
 */

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Returns the key that the bytes stand for. Never throws. */
export function keyFromBytes(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch {
    return escapeBytes(bytes)
  }
}

/** Returns the bytes of a key: the inverse of keyFromBytes. */
export function keyToBytes(key: string): Buffer {
  if (key.isWellFormed()) return Buffer.from(key, 'utf8')
  const parts: Buffer[] = []
  for (const part of key.split(/([\udc80-\udcff])/u)) {
    const escaped = part.length === 1 ? part.charCodeAt(0) : 0
    const isByte = escaped >= 0xdc80 && escaped <= 0xdcff
    parts.push(isByte ? Buffer.from([escaped - 0xdc00]) : Buffer.from(part, 'utf8'))
  }
  return Buffer.concat(parts)
}

/** Returns a key for messages: on one line, with control characters and stray bytes as `%XX`. */
export function showKey(key: string): string {
  return key.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    return keyToBytes(character).toString('hex').toUpperCase().replace(/../g, '%$&')
  })
}

/** Orders keys by their bytes, as S3 lists them; JavaScript's `<` compares UTF-16 units instead. */
export function compareKeys(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    // Below the surrogates, UTF-16 order is UTF-8 order.
    if (x < 0xd800 && y < 0xd800) return x - y
    return Buffer.compare(keyToBytes(a), keyToBytes(b))
  }
  return a.length - b.length
}

/** Length of the valid UTF-8 sequence at `at`, or 0 (Unicode 16, table 3-7). */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  if (first < 0x80) return 1
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2
  const sequence = bytes.subarray(at, at + length)
  try {
    utf8.decode(sequence)
    return sequence.length
  } catch {
    return 0
  }
}

function escapeBytes(bytes: Uint8Array): string {
  let key = ''
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at)
    if (length === 0) {
      key += String.fromCharCode(0xdc00 + bytes[at]!)
      at += 1
    } else {
      key += utf8.decode(bytes.subarray(at, at + length))
      at += length
    }
  }
  return key
}
