import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HeadObjectCommand, S3Client } from '@aws-sdk/client-s3'
import fc from 'fast-check'
import type { S3Access } from '../../../src/remote/s3/access.ts'
import { encodeKey, encodeQuery, Signer } from '../../../src/remote/s3/sigv4.ts'
import { runs } from '../../fuzz.ts'

interface Signed {
  path: string
  headers: Record<string, string>
}

/** Signs a HEAD of a key with the SDK, which sends nothing. */
async function signedBySdk(key: string, access: S3Access): Promise<Signed> {
  const { accessKeyId, secretAccessKey, sessionToken } = access.credentials!
  const client = new S3Client({
    region: access.region,
    endpoint: access.origin,
    forcePathStyle: true,
    credentials: {
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === undefined ? {} : { sessionToken }),
    },
  })
  const command = new HeadObjectCommand({ Bucket: 'bucket', Key: key, IfMatch: '"e 1"' })
  let signed: Signed | undefined
  client.middlewareStack.add(
    () => async (args) => {
      signed = args.request as Signed
      return { output: { $metadata: {} }, response: {} }
    },
    { step: 'finalizeRequest', priority: 'low' },
  )
  await client.send(command)
  return signed!
}

/** The headers that a signature names, as they were signed. */
function signedHeaders({ headers }: Signed): Record<string, string> {
  const names = /SignedHeaders=([^,]+)/.exec(headers.authorization!)![1]!.split(';')
  const kept = names.filter(
    (name) => name !== 'host' && !/^x-amz-(date|content|security)/.test(name),
  )
  return Object.fromEntries(kept.map((name) => [name, headers[name]!]))
}

const access = fc.record({
  accessKeyId: fc.stringMatching(/^[A-Z0-9]{4,20}$/),
  secretAccessKey: fc.stringMatching(/^[A-Za-z0-9/+=]{8,40}$/),
  sessionToken: fc.option(fc.stringMatching(/^[A-Za-z0-9/+=]{8,60}$/), { nil: undefined }),
  region: fc.constantFrom('us-east-1', 'eu-central-2', 'garage'),
})

test('a signature is the one that the SDK makes', async () => {
  const signer = new Signer()
  const property = fc.asyncProperty(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
    access,
    async (key, { region, sessionToken, ...identity }) => {
      const origin = 'http://127.0.0.1:9000'
      const token = sessionToken === undefined ? {} : { sessionToken }
      const ours: S3Access = {
        origin,
        host: '127.0.0.1:9000',
        path: '/bucket',
        region,
        service: 's3',
        credentials: { ...identity, ...token, tokenHeader: 'x-amz-security-token' },
        expires: Infinity,
      }
      const theirs = await signedBySdk(key, ours)
      const path = `/bucket/${encodeKey(key)}`
      assert.equal(path, theirs.path)
      const date = theirs.headers['x-amz-date']!.replace(
        /(....)(..)(..)T(..)(..)(..)Z/,
        '$1-$2-$3T$4:$5:$6Z',
      )
      const request = { method: 'HEAD', path, query: '', headers: signedHeaders(theirs) }
      const headers = signer.sign(request, ours, Date.parse(date) + 999)
      assert.equal(headers.authorization, theirs.headers.authorization)
      assert.equal(headers['x-amz-security-token'], sessionToken)
    },
  )
  await fc.assert(property, runs(60))
})

test('who asks without credentials signs nothing', () => {
  const headers = { range: 'bytes=0-1' }
  const access = { origin: '', host: 'h', path: '', region: 'r', service: 's3', expires: Infinity }
  const request = { method: 'GET', path: '/k', query: '', headers }
  assert.deepEqual(new Signer().sign(request, access, 0), headers)
})

test('a query and a key are encoded by RFC 3986', () => {
  assert.equal(encodeQuery("a b/c+d~!'()*é"), 'a%20b%2Fc%2Bd~%21%27%28%29%2A%C3%A9')
  assert.equal(encodeKey('a//../b c/%41'), 'a//../b%20c/%2541')
})
