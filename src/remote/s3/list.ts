/** ListObjectsV2, page by page. */
import { keyFromBytes, keyToBytes, showKey } from '../key.ts'
import { type ListOptions, type ListPage, RemoteError, type S3Spec, type Sink } from '../remote.ts'
import { requestError } from './failure.ts'
import { ListingParser, type RawListing } from './listing-parser.ts'
import { MalformedXml } from './xml.ts'

/**
 * Sends one GET of the bucket with this query, and resolves when the body of a 200 is taken to its
 * end. `begin` is called for each attempt, and returns who takes that attempt's body from its start;
 * `ended` at its end. MalformedXml of either has it tried again, and comes through in the end.
 */
export type AskPage = (
  query: Record<string, string>,
  begin: () => Sink,
  ended: () => void,
  signal?: AbortSignal,
) => Promise<void>

/** Yields the listing's pages. Throws RemoteError unless it came to its end, or the signal's reason. */
export async function* listObjects(
  ask: AskPage,
  spec: S3Spec,
  options: ListOptions,
): AsyncIterable<ListPage> {
  const prefix = narrower(spec.prefix ?? '', options.prefix ?? '')
  if (prefix === undefined) return
  const what = `listing s3://${spec.bucket}/${showKey(prefix)}`
  // XML cannot hold every byte that a key can.
  const always = { 'list-type': '2', 'encoding-type': 'url', prefix }
  const { after, signal } = options
  const refuse = (how: string): RemoteError =>
    new RemoteError('unreachable', `${what}: the store says there is more, and ${how}`)
  let query: Record<string, string> = after ? { ...always, 'start-after': after } : always
  // Of an earlier page: the first, second, fourth, eighth … (Brent's way to find a cycle).
  let known: { token: string; lastKey: string | undefined } | undefined
  for (let count = 1; ; count++) {
    const raw = await fetchPage(ask, query, what, signal)
    const page = pageOf(raw, what)
    refuseStrays(page, prefix, what)
    yield page
    if (!raw.isTruncated) return
    const { nextToken: token } = raw
    const lastKey = lastKeyOf(page)
    if (!token) throw refuse('not where')
    if (token === known?.token) throw refuse('where it was before')
    // Some make a new token each time.
    if (lastKey !== undefined && lastKey === known?.lastKey) throw refuse('lists the same again')
    if (Number.isInteger(Math.log2(count))) known = { token, lastKey }
    query = { ...always, 'continuation-token': token }
  }
}

/** Undefined for an empty page. */
function lastKeyOf({ objects, unlisted }: ListPage): string | undefined {
  return (objects.at(-1) ?? unlisted.at(-1))?.key
}

/** Of two prefixes that both hold, the longer one; undefined where no key can have both. */
function narrower(a: string, b: string): string | undefined {
  if (a.startsWith(b)) return a
  return b.startsWith(a) ? b : undefined
}

async function fetchPage(
  ask: AskPage,
  query: Record<string, string>,
  what: string,
  signal: AbortSignal | undefined,
): Promise<RawListing> {
  let parser: ListingParser
  let page: RawListing | undefined
  const begin = (): Sink => {
    parser = new ListingParser()
    return (chunk) => parser.write(chunk)
  }
  const ended = (): void => {
    page = parser.end()
  }
  try {
    await ask(query, begin, ended, signal)
    return page!
  } catch (error) {
    signal?.throwIfAborted()
    // A proxy may greet with status 200.
    if (!(error instanceof MalformedXml)) throw requestError(error, what)
    throw new RemoteError('unreachable', `${what}: the answer is no listing: ${error.message}`)
  }
}

/** Takes over the objects of `raw`. */
function pageOf({ objects, encodingType }: RawListing, what: string): ListPage {
  const page: ListPage = { objects: [], unlisted: [] }
  for (const object of objects) {
    if (encodingType === 'url') object.key = decodeKey(object.key, what)
    if (object.key.isWellFormed()) page.objects.push(object)
    else {
      const reason = 'its key is not UTF-8, which S3 cannot be asked for'
      page.unlisted.push({ key: object.key, reason })
    }
  }
  return page
}

/** Form encoding, as S3 does it: `+` is a space. Throws RemoteError where the text is no such thing. */
function decodeKey(encoded: string, what: string): string {
  if (!/[%+]/.test(encoded)) return encoded
  const text = encoded.replaceAll('+', ' ')
  try {
    return decodeURIComponent(text)
  } catch {
    if (/%(?![0-9a-f]{2})/i.test(text)) {
      throw new RemoteError('unreachable', `${what}: ${showKey(encoded)} is not URL-encoded`)
    }
    const parts = text.split(/%(..)/)
    // Every second part is what the parentheses caught.
    const bytes = parts.map((part, i) =>
      i % 2 === 1 ? Buffer.from(part, 'hex') : keyToBytes(part),
    )
    return keyFromBytes(Buffer.concat(bytes))
  }
}

/** A store or proxy that leaves the prefix out would have us index what nobody asked for. */
function refuseStrays({ objects, unlisted }: ListPage, prefix: string, what: string): void {
  const isStray = ({ key }: { key: string }): boolean => !key.startsWith(prefix)
  const stray = objects.find(isStray) ?? unlisted.find(isStray)
  if (stray === undefined) return
  const named = `the store names "${showKey(stray.key)}", which was not asked for`
  throw new RemoteError('unreachable', `${what}: ${named}`)
}
