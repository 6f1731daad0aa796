/** Listings as stores and proxies give them: complete and of what was asked, or not believed. */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { type TestContext, test } from 'node:test'
import type { ListPage } from '../../../src/remote/remote.ts'
import { openS3 } from '../../../src/remote/s3/s3.ts'
import type { Answer } from '../../faults/fault.ts'
import { failsWith, listAll } from '../../suites/remote.ts'
import { asPlainObject, openBucket, startStub } from './stub.ts'

const ok = (body: string): Answer => ({
  kind: 'answer',
  status: 200,
  headers: { 'Content-Type': 'application/xml' },
  body,
})

const entry = (key: string, more = '<ETag>"etag"</ETag><Size>3</Size>') =>
  `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>${more}</Contents>`

/** A page; `next` is its continuation token, '' for a page that says there is more and not where. */
function page(contents: string[], next?: string, encoded = true): Answer {
  const more = next === undefined ? 'false' : 'true'
  const token = next ? `<NextContinuationToken>${next}</NextContinuationToken>` : ''
  const encoding = encoded ? '<EncodingType>url</EncodingType>' : ''
  return ok(`<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>${encoding}
<KeyCount>${contents.length}</KeyCount><IsTruncated>${more}</IsTruncated>${token}
${contents.join('\n')}</ListBucketResult>`)
}

/** Returns a bucket whose listing has these pages, and what it was asked. */
async function listing(t: TestContext, pages: Answer[], spec = {}) {
  let turn = 0
  const stub = await startStub(t, () => pages[Math.min(turn++, pages.length - 1)])
  return { store: openBucket(t, stub, { attempts: 1 }, spec), stub }
}

async function keysOf(t: TestContext, ...pages: Answer[]): Promise<string[]> {
  const { store } = await listing(t, pages)
  return (await listAll(store)).map(({ key }) => key)
}

test('an object has what the listing says of it', async (t) => {
  const glacier =
    '<ETag>W/"a-2"</ETag><Size>9007199254740991</Size><StorageClass>GLACIER</StorageClass>'
  const { store } = await listing(t, [page([entry('a'), entry('b', glacier)])])
  const lastModified = Date.UTC(2026, 0, 2, 3, 4, 5, 678)
  assert.deepEqual((await listAll(store)).map(asPlainObject), [
    { key: 'a', size: 3, etag: 'etag', lastModified, archived: false },
    { key: 'b', size: 9007199254740991, etag: 'a-2', lastModified, archived: true },
  ])
})

test('keys are decoded where the store says that it encoded them', async (t) => {
  const contents = ['a+b', 'a%2Bb', '%25zz', 'l%0Af%0D%01', '%F0%9F%A7%AC', 'q?%26amp;'].map(
    (key) => entry(key),
  )
  const decoded = ['a b', 'a+b', '%zz', 'l\nf\r\u0001', '\u{1f9ec}', 'q?&amp;']
  assert.deepEqual(await keysOf(t, page(contents)), decoded)
})

test('keys are left as they are where it does not', async (t) => {
  const contents = ['a+b', 'a%2Bb', '%zz', ' x ', 'a&amp;b', '\u{1f9ec}'].map((key) => entry(key))
  const plain = ['a+b', 'a%2Bb', '%zz', ' x ', 'a&b', '\u{1f9ec}']
  assert.deepEqual(await keysOf(t, page(contents, undefined, false)), plain)
})

test('a key that is not UTF-8 cannot be read, and hides no other', async (t) => {
  const { store } = await listing(t, [page([entry('a%FFb+c'), entry('d')])])
  const pages: ListPage[] = []
  for await (const page of store.list()) pages.push(page)
  assert.deepEqual(
    pages[0]?.unlisted.map(({ key }) => key),
    ['a\udcffb c'],
  )
  assert.deepEqual(
    pages[0]?.objects.map(({ key }) => key),
    ['d'],
  )
})

test('a last page may have nothing', async (t) => {
  assert.deepEqual(await keysOf(t, page([entry('a')], 'more'), page([])), ['a'])
})

test('a page in the middle may have nothing', async (t) => {
  assert.deepEqual(await keysOf(t, page([], 'more'), page([entry('a')])), ['a'])
})

test('pages are asked for by the token, encoded, with all that was asked first', async (t) => {
  const token = 'a+b/c=&d e'
  const { store, stub } = await listing(t, [page([], token.replace('&', '&amp;')), page([])])
  await listAll(store, { prefix: 'p q/' })
  const [first, second] = stub.requests.map(({ path }) => new URL(path, stub.endpoint).searchParams)
  for (const query of [first, second]) {
    assert.equal(query?.get('list-type'), '2')
    assert.equal(query?.get('prefix'), 'p q/')
    assert.equal(query?.get('encoding-type'), 'url')
  }
  assert.equal(first?.get('continuation-token'), null)
  assert.equal(second?.get('continuation-token'), token)
})

test('a listing may begin behind a key, which is said once', async (t) => {
  const { store, stub } = await listing(t, [page([entry('b+c')], 'more'), page([])])
  assert.deepEqual(
    (await listAll(store, { after: 'b &' })).map(({ key }) => key),
    ['b c'],
  )
  const asked = stub.requests.map(({ path }) =>
    new URL(path, stub.endpoint).searchParams.get('start-after'),
  )
  assert.deepEqual(asked, ['b &', null])
})

test('only buckets of Amazon that hold objects in order are sure to be listed in order', async (t) => {
  const ranges = async (bucket: string, endpoint?: string) => {
    const where = endpoint === undefined ? {} : { endpoint }
    const store = openS3({ kind: 's3', bucket, region: 'eu-west-1', anonymous: true, ...where })
    t.after(() => store.close())
    return await store.ranges()
  }
  assert.equal(await ranges('plain.bucket'), 'sure')
  assert.equal(await ranges('bucket', 'https://s3.cn-north-1.amazonaws.com.cn'), 'sure')
  assert.equal(await ranges('fast--euw1-az1--x-s3'), 'none')
  assert.equal(await ranges('program-behind-an-alias--ol-s3'), 'likely')
  assert.equal(await ranges('bucket', 'http://127.0.0.1:9'), 'likely')
  assert.equal(await ranges('bucket', 'https://amazonaws.com.example.org'), 'likely')
  process.env.AWS_ENDPOINT_URL_S3 = 'http://127.0.0.1:9'
  try {
    assert.equal(await ranges('bucket'), 'likely')
  } finally {
    delete process.env.AWS_ENDPOINT_URL_S3
  }
})

test('what is restored is asked for at Amazon, and not where that might be refused', async (t) => {
  const stub = await startStub(t, () => page([]))
  const { port } = new URL(stub.endpoint)
  // Every name is this machine's.
  t.mock.method(dns, 'lookup', (_host: string, ...rest: unknown[]) => {
    const answered = rest.at(-1) as (error: null, all: dns.LookupAddress[]) => void
    answered(null, [{ address: '127.0.0.1', family: 4 }])
  })
  const asked = async (endpoint: string, bucket: string) => {
    await listAll(openBucket(t, { endpoint }, {}, { bucket }))
    return stub.requests.at(-1)?.headers['x-amz-optional-object-attributes']
  }
  const amazon = `http://s3.us-east-1.amazonaws.com:${port}`
  assert.equal(await asked(amazon, 'bucket'), 'RestoreStatus')
  assert.equal(await asked(amazon, 'program-behind-an-alias--ol-s3'), undefined)
  assert.equal(await asked(stub.endpoint, 'bucket'), undefined)
})

test("the spec's prefix and that of the call both hold", async (t) => {
  const { store, stub } = await listing(t, [page([])], { prefix: 'a/b' })
  for (const prefix of ['', 'a/', 'a/b', 'a/bc/']) await listAll(store, { prefix })
  assert.deepEqual(await listAll(store, { prefix: 'a/c' }), [])
  const asked = stub.requests.map(({ path }) =>
    new URL(path, stub.endpoint).searchParams.get('prefix'),
  )
  assert.deepEqual(asked, ['a/b', 'a/b', 'a/b', 'a/bc/'])
})

const whole = page([entry('a'), entry('b')]).body!
const UNBELIEVED: [name: string, pages: Answer[], message: RegExp][] = [
  ['garbage', [ok('\u0000\u0001 garbage')], /listing s3:\/\/bucket\//],
  ['nothing at all', [ok('')], /no listing/],
  ['an HTML page', [ok('<!DOCTYPE html><html><head></head><body>Welcome</body></html>')], /./],
  [
    'an error with status 200',
    [ok('<Error><Code>InternalError</Code></Error>')],
    /no listing: <Error>, InternalError/,
  ],
  ['half a page', [ok(whole.slice(0, whole.length / 2))], /./],
  ['a page cut behind an object', [ok(whole.slice(0, whole.indexOf('</Contents>') + 11))], /./],
  [
    'no word on whether there is more',
    [ok(whole.replace(/<IsTruncated>.*<.IsTruncated>/, ''))],
    /no listing/,
  ],
  ['more, and no token', [page([entry('a')], '')], /more, and not where/],
  [
    'the same token again',
    [page([entry('a')], 'x'), page([entry('b')], 'x')],
    /more, and where it was before/,
  ],
  [
    'tokens that lead round',
    ['x', 'y', 'z', 'x', 'y', 'z', 'x'].map((token, i) => page([entry(`${i}`)], token)),
    /more, and where it was before/,
  ],
  [
    'pages that come again under ever new tokens',
    Array.from({ length: 20 }, (_, i) => page([entry('abc'[i % 3]!)], `token ${i}`)),
    /more, and lists the same again/,
  ],
  [
    'an object without a key',
    [page(['<Contents><Size>3</Size><ETag>"e"</ETag></Contents>'])],
    /without its key/,
  ],
  ['a key that is not URL-encoded', [page([entry('a%zz')])], /a%zz is not URL-encoded/],
]

for (const [name, pages, message] of UNBELIEVED) {
  test(`a listing with ${name} is unreachable`, async (t) => {
    const { store } = await listing(t, pages)
    assert.match((await failsWith(listAll(store), 'unreachable')).message, message)
  })
}

test('a listing that names what was not asked for is unreachable', async (t) => {
  const { store } = await listing(t, [page([entry('a/1'), entry('b%0A')])], { prefix: 'a/' })
  const { message } = await failsWith(listAll(store), 'unreachable')
  assert.match(message, /"b%0A", which was not asked for/)
})

test('a listing that breaks off is unreachable, and is asked for once more first', async (t) => {
  const stub = await startStub(t, (_asked, res) => {
    res.writeHead(200, { 'Content-Length': whole.length })
    res.write(whole.slice(0, -20), () => res.destroy())
  })
  await failsWith(listAll(openBucket(t, stub, { attempts: 2 })), 'unreachable')
  assert.equal(stub.requests.length, 2)
})

test('a page that is none is asked for again', async (t) => {
  const good = page([entry('a')])
  for (const bad of ['<Error><Code>InternalError</Code></Error>', whole.slice(0, -20), '', '<']) {
    let left = 1
    const stub = await startStub(t, () => (left-- > 0 ? ok(bad) : good))
    const listed = await listAll(openBucket(t, stub, { attempts: 2 }))
    assert.deepEqual(
      listed.map(({ key }) => key),
      ['a'],
    )
  }
})
