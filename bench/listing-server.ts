/**
 * A store of as many small objects as a bucket's name says (`keys-1000000`): their listing is made as
 * it is asked for, so that a million of them need no disk. It takes any credentials, lists in byte
 * order (ListObjectsV2 of the S3 API reference), and gives each object out: its own key.
 */
import { hash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { serveParent } from './child.ts'
import { keyOf } from './data.ts'

const PAGE = 1000
const LAST_MODIFIED = '2024-02-29T12:00:00.000Z'

serveParent(createServer(answer))

function answer(request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://store')
  const [, count, key] = /^\/keys-(\d+)\/?(.*)$/.exec(pathname) ?? []
  if (count === undefined) response.writeHead(404).end()
  else if (key !== '') sendObject(request, response, decodeURIComponent(key ?? ''))
  else {
    response.setHeader('content-type', 'application/xml')
    response.end(listing(Number(count), searchParams))
  }
}

function sendObject(request: IncomingMessage, response: ServerResponse, key: string): void {
  const whole = Buffer.from(key)
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const body = from === undefined ? whole : whole.subarray(Number(from), Number(to || Infinity) + 1)
  if (from !== undefined) {
    const end = Number(from) + body.length - 1
    response.setHeader('content-range', `bytes ${from}-${end}/${whole.length}`)
  }
  response.setHeader('content-length', body.length)
  response.setHeader('etag', `"${hash('md5', whole)}"`)
  response.setHeader('last-modified', new Date(LAST_MODIFIED).toUTCString())
  response.writeHead(from === undefined ? 200 : 206)
  response.end(request.method === 'HEAD' ? undefined : body)
}

function listing(count: number, query: URLSearchParams): string {
  const prefix = query.get('prefix') ?? ''
  const after = query.get('continuation-token') ?? query.get('start-after') ?? ''
  const start = firstAfter(after, count, prefix)
  const page = Math.min(PAGE, Number(query.get('max-keys') ?? PAGE))
  // No key has a character behind this one.
  const end = firstAfter(`${prefix}\uffff`, count, '')
  const next = Math.max(start, Math.min(start + page, end))
  let contents = ''
  for (let i = start; i < next; i++) {
    const key = keyOf(i)
    contents += `<Contents><Key>${key}</Key><LastModified>${LAST_MODIFIED}</LastModified><ETag>&quot;${hash('md5', key)}&quot;</ETag><Size>${key.length}</Size><StorageClass>STANDARD</StorageClass></Contents>`
  }
  const isTruncated = next < end && next > start
  const token = isTruncated
    ? `<NextContinuationToken>${keyOf(next - 1)}</NextContinuationToken>`
    : ''
  const encoding = query.has('encoding-type') ? '<EncodingType>url</EncodingType>' : ''
  return `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>keys-${count}</Name><Prefix>${prefix}</Prefix><MaxKeys>${page}</MaxKeys>${encoding}<IsTruncated>${isTruncated}</IsTruncated><KeyCount>${next - start}</KeyCount>${contents}${token}</ListBucketResult>`
}

/** Returns the number of the first key behind `after` that is not before `least`. */
function firstAfter(after: string, count: number, least: string): number {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >> 1
    const key = keyOf(middle)
    if (key <= after || key < least) low = middle + 1
    else high = middle
  }
  return low
}
