/** Pages as stores write them, however they come over the wire, and documents that are no page. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { RemoteObject } from '../../../src/remote/remote.ts'
import { ListingParser, type RawListing } from '../../../src/remote/s3/listing-parser.ts'
import { MalformedXml } from '../../../src/remote/s3/xml.ts'
import { runs } from '../../fuzz.ts'
import { asPlainObject } from './stub.ts'

/** Parses a document that comes in pieces which end at these bytes. The pieces' memory is used again. */
function parse(document: string | Uint8Array, ends: number[] = []): RawListing {
  const bytes = Buffer.from(document)
  const parser = new ListingParser()
  const slab = Buffer.alloc(bytes.length)
  let at = 0
  for (const end of [
    ...ends.filter((end) => end < bytes.length).sort((a, b) => a - b),
    bytes.length,
  ]) {
    const piece = slab.subarray(0, bytes.copy(slab, 0, at, Math.max(at, end)))
    parser.write(piece)
    piece.fill('<')
    at = Math.max(at, end)
  }
  const { objects, ...listing } = parser.end()
  return { ...listing, objects: objects.map(asPlainObject) }
}

/** Ways to write the same document. */
interface Style {
  prefix: string
  gap: string
  /** How text is written. */
  encode: (text: string) => string
  isReversed: boolean
  /** Elements that nobody asked for. */
  noise: string
}

const named: Record<string, string> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot', "'": 'apos' }
const escapes: Style['encode'][] = [
  (text) => text.replace(/[&<>"']/g, (one) => `&${named[one]};`),
  (text) => text.replace(/[&<>"'\r\n\t]/g, (one) => `&#${one.codePointAt(0)};`),
  (text) => text.replace(/[^a-z]/gu, (one) => `&#x${one.codePointAt(0)!.toString(16)};`),
  (text) => `<![CDATA[${text.replaceAll(']]>', ']]]]><![CDATA[>')}]]>`,
  (text) => `<!-- <Key>no</Key> -->${text.replace(/[&<]/g, (one) => `&${named[one]};`)}<?pi ?>`,
]

const styles: fc.Arbitrary<Style> = fc.record({
  prefix: fc.constantFrom('', 's3:'),
  gap: fc.constantFrom('', '\n  ', ' \r\n\t'),
  encode: fc.constantFrom(...escapes),
  isReversed: fc.boolean(),
  noise: fc.constantFrom(
    '',
    '<Owner><ID>a</ID><Key>no</Key><DisplayName/></Owner>',
    '<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><RestoreStatus a="/>"><ETag><Size>9</Size></ETag></RestoreStatus >',
    '<x:Key x:a=\'<>"\'/><!-- </Contents> --><empty a = "\'" />',
  ),
})

function write(listing: RawListing, { prefix, gap, encode, isReversed, noise }: Style): string {
  const element = (name: string, content: string): string =>
    `<${prefix}${name}>${content}</${prefix}${name}>`
  const text = (name: string, value: string | undefined): string =>
    value === undefined ? '' : element(name, encode(value))
  const parts = (all: string[]): string => (isReversed ? all.reverse() : all).join(gap)
  const contents = listing.objects.map(({ key, etag, size, lastModified, archived }) =>
    element(
      'Contents',
      parts([
        text('Key', key),
        noise.replace('x:Key', 'other'),
        text('LastModified', new Date(lastModified).toISOString()),
        text('ETag', `"${etag}"`),
        text('Size', String(size)),
        text('StorageClass', archived ? 'GLACIER' : 'STANDARD'),
      ]),
    ),
  )
  const page = parts([
    text('Name', 'bucket'),
    text('IsTruncated', String(listing.isTruncated)),
    text('EncodingType', listing.encodingType),
    noise.replace('x:Key', 'Key'),
    ...(isReversed ? contents.reverse() : contents),
    text('NextContinuationToken', listing.nextToken),
    element('CommonPrefixes', element('Prefix', 'x') + element('Key', 'no')),
  ])
  return `<?xml version="1.0"?>${gap}<${prefix}ListBucketResult xmlns:s3="http://s3/" a='>'>${page}</${prefix}ListBucketResult>${gap}`
}

const texts = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }),
  fc
    .array(
      fc.constantFrom(
        'a',
        ' ',
        '/',
        '%2F',
        '+',
        '&',
        '&amp;',
        '<',
        '>',
        ']]>',
        '"',
        'é',
        '🙂',
        '\r',
        '\n',
      ),
      {
        minLength: 1,
        maxLength: 8,
      },
    )
    .map((parts) => parts.join('')),
)

const objects: fc.Arbitrary<RemoteObject> = fc.record(
  {
    key: texts,
    size: fc.maxSafeNat(),
    etag: fc.constantFrom(
      '9a0364b9e99bb480dd25e1f0284c8555',
      '9a0364b9e99bb480dd25e1f0284c8555-12',
      'x',
    ),
    lastModified: fc
      .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
      .map(Number),
    archived: fc.boolean(),
  },
  { noNullPrototype: true },
)

const listings: fc.Arbitrary<RawListing> = fc.record(
  {
    objects: fc.array(objects, { maxLength: 4 }),
    encodingType: fc.option(fc.constant('url'), { nil: undefined }),
    isTruncated: fc.boolean(),
    nextToken: fc.option(texts, { nil: undefined }),
  },
  { noNullPrototype: true },
)

const places = fc.array(fc.nat({ max: 3000 }), { maxLength: 40 })

test('a page says the same however it is written, and in whatever pieces it comes', () => {
  fc.assert(
    fc.property(listings, styles, places, (listing, style, ends) => {
      assert.deepEqual(parse(write(listing, style), ends), listing)
    }),
    runs(500),
  )
})

test('a page that comes byte by byte says the same', () => {
  fc.assert(
    fc.property(listings, styles, (listing, style) => {
      const document = write(listing, style)
      const ends = Array.from({ length: Buffer.byteLength(document) }, (_, i) => i)
      assert.deepEqual(parse(document, ends), listing)
    }),
    runs(50),
  )
})

test('a page that breaks off is none, wherever that is', () => {
  fc.assert(
    fc.property(listings, styles, fc.nat(), (listing, style, place) => {
      const document = Buffer.from(write(listing, style).trimEnd())
      const part = document.subarray(0, place % document.length)
      assert.throws(() => parse(part), MalformedXml)
    }),
    runs(500),
  )
})

test('bytes that are not UTF-8 stay what they are', () => {
  const head =
    '<ListBucketResult><IsTruncated>false</IsTruncated><Contents><ETag>e</ETag><Size>0</Size><Key>'
  const tail = '</Key></Contents></ListBucketResult>'
  const bytes = [Buffer.from(head), Buffer.from([0x61, 0xff, 0xc3, 0xa9]), Buffer.from(tail)]
  assert.equal(parse(Buffer.concat(bytes)).objects[0]?.key, 'a\udcffé')
})

const page = (inner: string): string =>
  `<ListBucketResult><IsTruncated>false</IsTruncated>${inner}</ListBucketResult>`
const contents = (inner: string): string => page(`<Contents>${inner}</Contents>`)
const GOOD = '<Key>a</Key><ETag>"e"</ETag><Size>1</Size>'

test('what a page may leave out or add', () => {
  const plain = parse(contents(GOOD)).objects
  assert.deepEqual(plain, [{ key: 'a', etag: 'e', size: 1, lastModified: 0, archived: false }])
  assert.deepEqual(
    parse(`\ufeff<?xml version="1.0"?><!-- -->\n${contents(GOOD)}\n<!-- -->`).objects,
    plain,
  )
  assert.deepEqual(
    parse(contents(`${GOOD}<LastModified>soon</LastModified><StorageClass/>`)).objects,
    plain,
  )
  assert.deepEqual(parse(contents(GOOD.replace('"e"', 'W/&quot;e&quot;'))).objects, plain)
  assert.deepEqual(parse(page('')).objects, [])
})

test('what is archived is not so any more once it is restored', () => {
  const cold = '<StorageClass>GLACIER</StorageClass>'
  const status = (restoring: string): string =>
    `<RestoreStatus><IsRestoreInProgress>${restoring}</IsRestoreInProgress><RestoreExpiryDate/></RestoreStatus>`
  const archived = (inner: string): boolean => parse(contents(inner)).objects[0]!.archived
  assert.equal(archived(GOOD + cold), true)
  assert.equal(archived(GOOD + cold + status('true')), true)
  assert.equal(archived(GOOD + cold + status('false')), false)
  assert.equal(archived(status('false') + cold + GOOD), false)
})

const REFUSED: [name: string, document: string, message: RegExp][] = [
  ['nothing', '', /no XML/],
  ['white space', ' \n', /no XML/],
  ['text', 'garbage', /no XML/],
  ['an HTML page', '<!DOCTYPE html><html></html>', /document type/],
  ['an HTML page without a type', '<html><body>x<br></body></html>', /<html>/],
  ['an error', '<Error><Code>InternalError</Code></Error>', /<Error>, InternalError/],
  ['an error without a code', '<Error><Message>x</Message></Error>', /<Error>/],
  ['an error that looks like a page', page('').replaceAll('ListBucketResult', 'Error'), /<Error>/],
  ['text before the page', `x${page('')}`, /no XML/],
  ['text behind the page', `${page('')}x`, /no XML/],
  ['two pages', page('') + page(''), /more than one/],
  ['an entity of its own', `<!ENTITY a "b">${page('')}`, /document type/],
  ['a page without IsTruncated', '<ListBucketResult></ListBucketResult>', /IsTruncated/],
  ['IsTruncated that is neither', page('<IsTruncated>1</IsTruncated>'), /IsTruncated 1/],
  [
    'an object without a key',
    contents(GOOD.replace('<Key>a</Key>', '')),
    /an object without its key/,
  ],
  ['an object with an empty key', contents(GOOD.replace('>a<', '><')), /an object without its key/],
  ['tags that cross', page('<a><b></a></b>'), /out of place/],
  ['a tag that is closed as another', page('<ab></abc>'), /out of place/],
  ['a tag that closes nothing', `${page('')}</a>`, /out of place/],
  ['a tag without a name', page('<></>'), /without a name/],
  ['an element in a key', contents(GOOD.replace('>a<', '>a<b/>c<')), /<b> within a value/],
  ['an unknown entity', contents(GOOD.replace('>a<', '>&nbsp;<')), /reference/],
  ['a reference without an end', contents(GOOD.replace('>a<', '>a&amp<')), /reference/],
  ['a reference to no character', contents(GOOD.replace('>a<', '>&#xd800;<')), /reference/],
  ['a reference beyond Unicode', contents(GOOD.replace('>a<', '>&#1114112;<')), /reference/],
]

for (const [name, document, message] of REFUSED) {
  test(`${name}: no listing`, () => {
    assert.throws(() => parse(document), { name: 'MalformedXml', message })
  })
}

test('memory is not for text without an end', () => {
  const parser = new ListingParser()
  parser.write(Buffer.from('<ListBucketResult><Contents><Key>'))
  const more = Buffer.alloc(64 * 1024, 'k')
  const forever = (): void => {
    for (let i = 0; i < 1000; i++) parser.write(more)
  }
  assert.throws(forever, MalformedXml)
})

const UNREADABLE: [name: string, inner: string, reason: RegExp][] = [
  ['without a size', GOOD.replace(/<Size.*/, ''), /size/],
  ['without an ETag', GOOD.replace(/<ETag.*ETag>/, ''), /ETag/],
  ['with an empty ETag', GOOD.replace(/<ETag.*ETag>/, '<ETag></ETag>'), /ETag/],
  ['with quotes for an ETag', GOOD.replace('"e"', '&quot;&quot;'), /ETag/],
  ['with a size below 0', GOOD.replace('>1<', '>-1<'), /size/],
  ['with a size of no digits', GOOD.replace('>1<', '>1e3<'), /size/],
  ['with a size that no number can hold', GOOD.replace('>1<', '>9007199254740992<'), /size/],
]

for (const [name, inner, reason] of UNREADABLE) {
  test(`an object ${name}: listed, with the reason why it cannot be indexed`, () => {
    const other = GOOD.replace('>a<', '>b<')
    const both = page(`<Contents>${inner}</Contents><Contents>${other}</Contents>`)
    const [bad, good] = parse(both).objects
    assert.equal(bad?.key, 'a')
    assert.match(bad?.unreadable ?? '', reason)
    assert.deepEqual([good?.key, good?.unreadable], ['b', undefined])
  })
}

/** Returns the page of a document in pieces, or undefined where it is none. Throws what else is thrown. */
function parsed(document: Uint8Array, ends: number[]): RawListing | undefined {
  try {
    return parse(document, ends)
  } catch (error) {
    assert.ok(error instanceof MalformedXml, String(error))
    return undefined
  }
}

const spoilt = fc
  .tuple(
    listings,
    styles,
    fc.nat(),
    fc.nat({ max: 20 }),
    fc.oneof(
      fc.uint8Array({ maxLength: 5 }),
      fc
        .constantFrom('<', '>', '/>', '</', '<![CDATA[', ']]>', '<!--', '-->', '&', ';', '"', '<?')
        .map((text) => Buffer.from(text)),
    ),
  )
  .map(([listing, style, place, cut, more]) => {
    const document = Buffer.from(write(listing, style))
    const at = place % document.length
    return Buffer.concat([document.subarray(0, at), more, document.subarray(at + cut)])
  })

test('what a page is, or that it is none, does not depend on the pieces it comes in', () => {
  const garbage = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
  fc.assert(
    fc.property(fc.oneof(spoilt, garbage), places, (document, ends) => {
      assert.deepEqual(parsed(document, ends), parsed(document, []))
    }),
    runs(1000),
  )
})

const ENDLESS: Record<string, [head: string, more: string]> = {
  'a tag': ['<ListBucketResult ', 'x'.repeat(1000)],
  'a comment': ['<ListBucketResult><!--', 'x'.repeat(1000)],
  'a value in pieces': ['<ListBucketResult><Contents><Key>', `${'k'.repeat(1000)}<!-- -->`],
  'a value of CDATA': ['<ListBucketResult><Contents><Key>', '<![CDATA[kkkkkkkkkkkk]]>'.repeat(40)],
  'elements in each other': ['<ListBucketResult>', '<a>'.repeat(300)],
  objects: ['<ListBucketResult>', `<Contents>${GOOD}</Contents>`.repeat(10)],
  'white space behind the page': [page(''), ' '.repeat(1000)],
}

for (const [name, [head, more]] of Object.entries(ENDLESS)) {
  test(`${name} without an end: no listing, before it takes memory or hours`, () => {
    const parser = new ListingParser()
    const piece = Buffer.from(more)
    const forever = (): void => {
      parser.write(Buffer.from(head))
      for (let i = 0; i < 200_000; i++) parser.write(piece)
    }
    assert.throws(forever, MalformedXml)
  })
}
