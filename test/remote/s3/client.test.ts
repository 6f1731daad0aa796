/** What goes over the wire: who asks, for which region, and for exactly which key. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, type TestContext, test } from 'node:test'
import { UsageError } from '../../../src/errors.ts'
import { RemoteError, type S3Spec } from '../../../src/remote/remote.ts'
import { type S3Request, S3Requests } from '../../../src/remote/s3/requests.ts'
import { openS3 } from '../../../src/remote/s3/s3.ts'
import { type Answer, s3Error } from '../../faults/fault.ts'
import { makeBucket, NO_S3, sharedS3 } from '../../servers/s3.ts'
import { failsWith, listAll, readAll } from '../../suites/remote.ts'
import { type Asked, openBucket, type Play, partOf, type Stub, startStub } from './stub.ts'

const DATA = Buffer.from('0123456789')
const LISTING =
  '<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>'

/** Answers as a bucket does in which every key holds DATA. */
function play(asked: Asked): Answer {
  const head = { kind: 'answer' as const, status: 200 }
  if (asked.path.includes('list-type')) return { ...head, body: LISTING }
  if (asked.headers.range !== undefined) return partOf(DATA, asked)
  return { ...head, headers: { ETag: '"etag"', 'Content-Length': '10' } }
}

let dir: string
const ours = /^(AWS_|HOME$)/
const saved = { ...process.env }
const clear = () => {
  for (const name of Object.keys(process.env)) if (ours.test(name)) delete process.env[name]
}
beforeEach(async () => {
  clear()
  dir = await mkdtemp(join(tmpdir(), 'keepgw-client-'))
  process.env.HOME = dir
  process.env.AWS_EC2_METADATA_DISABLED = 'true'
  process.env.AWS_CONFIG_FILE = join(dir, 'config')
  process.env.AWS_SHARED_CREDENTIALS_FILE = join(dir, 'default-credentials')
})
afterEach(async () => {
  clear()
  Object.assign(process.env, saved)
  await rm(dir, { recursive: true })
})

async function write(name: string, text: string): Promise<string> {
  const file = join(dir, name)
  await writeFile(file, text)
  return file
}

const profile = (name: string, id: string) =>
  `[${name}]\naws_access_key_id = ${id}\naws_secret_access_key = secret-of-${id}\n`

function setEnvironment(id = 'ENVIRONMENT'): void {
  process.env.AWS_ACCESS_KEY_ID = id
  process.env.AWS_SECRET_ACCESS_KEY = `secret-of-${id}`
}

/** Lists, looks and reads once each; returns the requests. */
async function useAll(
  t: TestContext,
  spec: Partial<S3Spec>,
  answer: Play = play,
): Promise<Asked[]> {
  const stub = await startStub(t, answer)
  const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint, ...spec })
  t.after(() => store.close())
  assert.deepEqual(await listAll(store), [])
  assert.equal((await store.stat('key')).size, 10)
  const data = await readAll(store, { key: 'key', offset: 2, length: 3, etag: 'etag', size: 10 })
  assert.equal(data.toString(), '234')
  return stub.requests
}

/** Returns who signed a request, and for where: `ID/REGION`. */
function signerOf({ headers }: Asked): string {
  const [, id, region] =
    /Credential=(\w+)\/\d+\/([\w-]+)\/s3\//.exec(headers.authorization ?? '') ?? []
  return `${id}/${region}`
}

async function signers(t: TestContext, spec: Partial<S3Spec>): Promise<string> {
  const all = new Set((await useAll(t, spec)).map(signerOf))
  assert.equal(all.size, 1)
  return [...all][0]!
}

describe('credentials', () => {
  test('are those of the environment', async (t) => {
    setEnvironment()
    assert.equal(await signers(t, {}), 'ENVIRONMENT/us-east-1')
  })

  test('are those of the file that was named, whatever the environment has', async (t) => {
    setEnvironment()
    const credentialsFile = await write(
      'named',
      profile('default', 'NAMED') + profile('two', 'TWO'),
    )
    assert.equal(await signers(t, { credentialsFile }), 'NAMED/us-east-1')
    assert.equal(await signers(t, { credentialsFile, profile: 'two' }), 'TWO/us-east-1')
  })

  test('are those of the profile that was named, whatever the environment has', async (t) => {
    setEnvironment()
    await write('default-credentials', profile('default', 'DEFAULT') + profile('lab', 'LAB'))
    assert.equal(await signers(t, { profile: 'lab' }), 'LAB/us-east-1')
  })

  test('of a profile that is not there are missing, and its name is told, once', async (t) => {
    setEnvironment()
    await write('default-credentials', profile('default', 'DEFAULT'))
    const warned = t.mock.method(console, 'warn')
    const stub = await startStub(t, play)
    const endpoint = { kind: 's3', bucket: 'bucket', endpoint: stub.endpoint } as const
    const store = openS3({ ...endpoint, profile: 'lab' })
    t.after(() => store.close())
    const { message, hint } = await failsWith(listAll(store), 'unreachable')
    assert.match(message, /the profile "lab" gives none/)
    assert.match(hint ?? '', /--profile/)
    assert.equal(warned.mock.callCount(), 0)
  })

  test('are those of AWS_PROFILE', async (t) => {
    await write('default-credentials', profile('default', 'DEFAULT') + profile('lab', 'LAB'))
    assert.equal(await signers(t, {}), 'DEFAULT/us-east-1')
    process.env.AWS_PROFILE = 'lab'
    assert.equal(await signers(t, {}), 'LAB/us-east-1')
  })

  test('are not sent to a public bucket', async (t) => {
    setEnvironment()
    process.env.AWS_SESSION_TOKEN = 'session'
    for (const { headers, path } of await useAll(t, { anonymous: true })) {
      assert.equal(headers.authorization, undefined)
      assert.equal(headers['x-amz-security-token'], undefined)
      assert.doesNotMatch(path, /X-Amz/)
    }
  })

  test('that are missing make the store unreachable, and say what to set', async (t) => {
    const stub = await startStub(t, play)
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
    t.after(() => store.close())
    for (const call of [listAll(store), store.stat('key')]) {
      assert.match((await failsWith(call, 'unreachable')).hint ?? '', /AWS_ACCESS_KEY_ID/)
    }
    assert.equal(stub.requests.length, 0)
  })

  test('files that cannot be read are a mistake of the user', () => {
    const open = (credentialsFile: string) =>
      openS3({ kind: 's3', bucket: 'bucket', credentialsFile })
    assert.throws(() => open(join(dir, 'missing')), UsageError)
    assert.throws(() => open(dir), UsageError)
  })

  for (const refusal of [
    s3Error(400, 'ExpiredToken', 'The provided token has expired.'),
    s3Error(403, 'InvalidAccessKeyId', 'The key does not exist in our records.'),
    s3Error(403, 'InvalidTokenId', 'The security token is invalid.'),
    s3Error(403, 'InvalidClientTokenId', 'The security token is invalid.'),
  ]) {
    const [, code] = /<Code>(.*)<.Code>/.exec(refusal.body!)!
    test(`that are ${code} are asked for anew, and the request made again`, async (t) => {
      const credentialsFile = await write('credentials', profile('default', 'OLD'))
      let isRenewed = false
      const renewing = startStub(t, (asked) => {
        if (!isRenewed || signerOf(asked).startsWith('NEW/')) return play(asked)
        return refusal
      })
      const { endpoint, requests } = await renewing
      const store = openS3({ kind: 's3', bucket: 'bucket', endpoint, credentialsFile })
      t.after(() => store.close())
      await store.stat('key')
      await write('credentials', profile('default', 'NEW'))
      isRenewed = true
      const data = await readAll(store, { key: 'key', offset: 0, length: 10 })
      assert.ok(data.equals(DATA))
      assert.deepEqual(requests.map(signerOf), ['OLD/us-east-1', 'OLD/us-east-1', 'NEW/us-east-1'])
    })
  }

  test('that stay expired fail once they were asked for', async (t) => {
    setEnvironment()
    const { endpoint, requests } = await startStub(t, () => {
      return s3Error(400, 'ExpiredToken', 'The provided token has expired.')
    })
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint })
    t.after(() => store.close())
    const error = await failsWith(
      readAll(store, { key: 'key', offset: 0, length: 1 }),
      'unreachable',
    )
    assert.match(error.hint ?? '', /Renew/)
    assert.equal(requests.length, 2)
  })

  test('are good in spite of a clock that is wrong', async (t) => {
    setEnvironment()
    const ahead = 3_600_000
    const { endpoint, requests } = await startStub(t, (asked, res) => {
      const date = String(asked.headers['x-amz-date'])
      const [, y, mo, d, h, mi, s] = /(....)(..)(..)T(..)(..)(..)Z/.exec(date)!
      const signed = Date.UTC(
        Number(y),
        Number(mo) - 1,
        Number(d),
        Number(h),
        Number(mi),
        Number(s),
      )
      if (Math.abs(signed - Date.now() - ahead) < 60_000) return play(asked)
      res.setHeader('Date', new Date(Date.now() + ahead).toUTCString())
      return s3Error(403, 'RequestTimeTooSkewed', 'The difference is too large.')
    })
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint })
    t.after(() => store.close())
    for (let i = 0; i < 2; i++) await readAll(store, { key: 'key', offset: 0, length: 10 })
    assert.equal(requests.length, 3)
  })

  test('show up in no message', async (t) => {
    setEnvironment()
    const answer = s3Error(403, 'SignatureDoesNotMatch', 'No match')
    const stub = await startStub(t, () => answer)
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
    t.after(() => store.close())
    const { message, hint } = await failsWith(store.stat('key'), 'unreachable')
    assert.doesNotMatch(`${message} ${hint}`, /ENVIRONMENT|secret-of/)
  })
})

describe('an endpoint', () => {
  test('that holds a password is refused, and not repeated', () => {
    for (const endpoint of ['https://me:pass@host', 'https://:pass@host', 'me:pass@host']) {
      const open = () => openS3({ kind: 's3', bucket: 'bucket', endpoint })
      assert.throws(open, (error) => error instanceof UsageError && !error.message.includes('pass'))
    }
  })

  test('is an HTTP URL', () => {
    for (const endpoint of ['host', 'localhost:9000', 'ftp://host', '/x', 'http://']) {
      assert.throws(() => openS3({ kind: 's3', bucket: 'bucket', endpoint }), UsageError)
    }
  })

  test('has the bucket in its path, unless told otherwise', async (t) => {
    setEnvironment()
    for (const { path } of await useAll(t, {})) assert.match(path, /^\/bucket(\/|\?)/)
  })
})

test('what a proxy may write anew is not signed', async (t) => {
  setEnvironment()
  for (const { headers } of await useAll(t, { requestPayer: 'requester' })) {
    assert.equal(headers['user-agent'], 'keepgw')
    const [, signed] = /SignedHeaders=([^,]*)/.exec(headers.authorization!)!
    assert.match(signed!, /^host;.*x-amz-date;x-amz-request-payer$/)
    assert.doesNotMatch(signed!, /user-agent/)
  }
})

test('Google’s store is asked for objects as they are stored, others are not', async (t) => {
  const stub = await startStub(t, play)
  const credentials = { accessKeyId: 'ME', secretAccessKey: 'secret', tokenHeader: 'x' }
  const ask = async (host: string, request: Pick<S3Request, 'key'>): Promise<Asked> => {
    const where = { origin: stub.endpoint, host, path: '/bucket', region: 'auto', service: 's3' }
    const requests = new S3Requests(async () => ({ ...where, credentials, expires: Infinity }), {})
    t.after(() => requests.close())
    await requests.send({ method: 'HEAD', ...request }, () => () => {})
    return stub.requests.at(-1)!
  }
  for (const host of ['storage.googleapis.com', 'bucket.storage.googleapis.com:443']) {
    const { headers } = await ask(host, { key: 'key' })
    assert.equal(headers['accept-encoding'], 'gzip')
    assert.doesNotMatch(headers.authorization!, /accept-encoding/)
    assert.equal((await ask(host, {})).headers['accept-encoding'], undefined)
  }
  for (const host of ['s3.amazonaws.com', 'evilgoogleapis.com', 'googleapis.com.example.org']) {
    assert.equal((await ask(host, { key: 'key' })).headers['accept-encoding'], undefined)
  }
})

test('who agrees to pay says so in each request', async (t) => {
  setEnvironment()
  const requests = await useAll(t, { requestPayer: 'requester' })
  assert.deepEqual(new Set(requests.map(({ method }) => method)), new Set(['GET', 'HEAD']))
  for (const { headers } of requests) assert.equal(headers['x-amz-request-payer'], 'requester')
  for (const { headers } of await useAll(t, {}))
    assert.equal(headers['x-amz-request-payer'], undefined)
})

describe('the region', () => {
  beforeEach(() => setEnvironment('ME'))

  test('is the one named, or that of the environment, or that of the profile', async (t) => {
    await write('config', '[default]\nregion = eu-south-1\n[profile lab]\nregion = eu-north-1\n')
    await write('default-credentials', profile('lab', 'LAB'))
    assert.equal(await signers(t, {}), 'ME/eu-south-1')
    assert.equal(await signers(t, { profile: 'lab' }), 'LAB/eu-north-1')
    process.env.AWS_DEFAULT_REGION = 'ap-east-1'
    assert.equal(await signers(t, {}), 'ME/ap-east-1')
    process.env.AWS_REGION = ''
    assert.equal(await signers(t, {}), 'ME/ap-east-1')
    process.env.AWS_REGION = 'sa-east-1'
    assert.equal(await signers(t, {}), 'ME/sa-east-1')
    assert.equal(await signers(t, { region: 'eu-west-1' }), 'ME/eu-west-1')
  })

  test("is S3's default where nobody names one", async (t) => {
    assert.equal(await signers(t, {}), 'ME/us-east-1')
  })

  const elsewhere = (status: number, code: string, headers: Record<string, string>) =>
    s3Error(status, code, 'Another region.', headers)
  const named = { 'x-amz-bucket-region': 'eu-west-1' }
  const REDIRECTS: [name: string, Answer][] = [
    ['301', elsewhere(301, 'PermanentRedirect', named)],
    ['301 without a body', { kind: 'answer', status: 301, headers: named }],
    ['307', elsewhere(307, 'TemporaryRedirect', named)],
    ['400', elsewhere(400, 'IllegalLocationConstraintException', named)],
    [
      '400 that names it in its body',
      {
        kind: 'answer',
        status: 400,
        body: '<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is wrong</Message><Region>eu-west-1</Region></Error>',
      },
    ],
  ]

  for (const [name, answer] of REDIRECTS) {
    test(`is learnt once from ${name}, also by requests side by side`, async (t) => {
      const stub: Stub = await startStub(t, (asked) =>
        signerOf(asked) === 'ME/eu-west-1' ? play(asked) : answer,
      )
      const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
      t.after(() => store.close())
      const read = () => readAll(store, { key: 'key', offset: 0, length: 10 })
      const all = await Promise.all(Array.from({ length: 20 }, read))
      assert.ok(all.every((data) => data.equals(DATA)))
      const before = stub.requests.length
      await listAll(store)
      await store.stat('key')
      await read()
      assert.equal(stub.requests.length, before + 3)
    })
  }

  test('is no host of another', async (t) => {
    const evil = elsewhere(301, 'PermanentRedirect', { 'x-amz-bucket-region': 'x.example.org/' })
    const stub = await startStub(t, () => evil)
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
    t.after(() => store.close())
    const error = await failsWith(listAll(store), 'unreachable')
    assert.match(error.hint ?? '', /--region/)
    assert.equal(stub.requests.length, 1)
  })

  test('that a store refuses as well ends the search', async (t) => {
    let turn = 0
    const stub = await startStub(t, () =>
      elsewhere(301, 'PermanentRedirect', { 'x-amz-bucket-region': `r-${turn++}` }),
    )
    const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
    t.after(() => store.close())
    await failsWith(listAll(store), 'unreachable')
    assert.equal(stub.requests.length, 2)
  })
})

test('a redirect takes no request, and no credentials, to another host', async (t) => {
  process.env.AWS_SESSION_TOKEN = 'session-token'
  t.after(() => {
    delete process.env.AWS_SESSION_TOKEN
  })
  const other = await startStub(t, play)
  for (const status of [301, 302, 303, 307, 308]) {
    const headers = { Location: `${other.endpoint}/bucket/key`, 'x-amz-bucket-region': 'eu-west-1' }
    const stub = await startStub(t, () => ({ kind: 'answer', status, headers }))
    const store = openBucket(t, stub)
    await failsWith(readAll(store, { key: 'key', offset: 0, length: 10 }), 'unreachable')
    await failsWith(listAll(store), 'unreachable')
    await failsWith(store.stat('key'), 'unreachable')
    assert.ok(stub.requests.length >= 3)
    assert.equal(other.requests.length, 0, `status ${status}`)
  }
})

test('an ETag makes no header, whatever it holds: the object is out of reach', async (t) => {
  const stub = await startStub(t, play)
  const store = openBucket(t, stub)
  for (const etag of ['x"\r\nx-evil: 1', 'x\ny', 'x\0', 'ü€', '\udc80']) {
    await assert.rejects(readAll(store, { key: 'key', offset: 0, length: 10, etag }), (error) => {
      assert.ok(error instanceof RemoteError && error.failure === 'unreachable', String(error))
      return true
    })
  }
  assert.deepEqual(stub.requests, [])
  const read = await readAll(store, { key: 'key', offset: 0, length: 10 })
  assert.ok(read.equals(DATA.subarray(0, 10)))
})

const ODD_KEYS = [
  'a/../b',
  'a/%2e%2e/c',
  './x',
  '../x',
  '.',
  '..',
  'a/.',
  'a/..',
  '/lead',
  '//x',
  'a//b',
  '/',
  'trailing/',
  'trailing//',
  '%41',
  '%',
  '%zz',
  '+ ?#&',
  'a?versionId=1',
  'a#b',
  "!'()*~-_.",
  '$&:@=,;[]{}|\\^`"<>',
  'line\nfeed\r\t',
  '\u0001\u007f',
  'é\u{1f9ec}\u2028\ufeff',
  '{Key+}/{Bucket}',
  'k'.repeat(1024),
]

/** RFC 3986: all but the unreserved characters is encoded, slashes stay. */
const encoded = (key: string) =>
  [...Buffer.from(key)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      if (/[A-Za-z0-9/._~-]/.test(character)) return character
      return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')

test('the path of a request is the key, encoded and never folded', async (t) => {
  setEnvironment()
  const stub = await startStub(t, play)
  const store = openS3({ kind: 's3', bucket: 'bucket', endpoint: stub.endpoint })
  t.after(() => store.close())
  for (const key of ODD_KEYS) {
    await readAll(store, { key, offset: 0, length: 1 })
    await store.stat(key)
    for (const { path } of stub.requests.splice(0)) {
      assert.equal(path, `/bucket/${encoded(key)}`)
    }
  }
})

const shared = sharedS3()
test('a real server takes the signature of every key', {
  skip: shared ? false : NO_S3,
}, async (t) => {
  const bucket = await makeBucket(shared!)
  process.env.AWS_ACCESS_KEY_ID = shared!.accessKeyId
  process.env.AWS_SECRET_ACCESS_KEY = shared!.secretAccessKey
  const { endpoint, region } = shared!
  const store = openS3({ kind: 's3', bucket: bucket.name, endpoint, region })
  t.after(async () => {
    await store.close()
    await bucket.destroy()
  })
  for (const key of ODD_KEYS) {
    const refusal = await failsWith(
      store.read({ key, offset: 0, length: 1 }, () => assert.fail('there is no object')),
      'gone',
      'unreachable',
    )
    // Stores refuse some keys, each in its own words.
    assert.doesNotMatch(refusal.message, /Signature|AccessDenied|Authorization/, key)
  }
})
