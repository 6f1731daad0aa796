import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { UsageError } from '../../src/errors.ts'
import type { RemoteSpec } from '../../src/remote/remote.ts'
import { formatSpec, parseBucket } from '../../src/remote/spec.ts'

test('a bucket is a name, alone or in an s3:// URL with a prefix', () => {
  const s3 = (bucket: string, prefix?: string) =>
    prefix === undefined ? { kind: 's3', bucket } : { kind: 's3', bucket, prefix }
  const cases: [text: string, RemoteSpec | object][] = [
    ['lab', s3('lab')],
    ['lab.example-1', s3('lab.example-1')],
    ['Old_Bucket', s3('Old_Bucket')],
    ['s3://lab', s3('lab')],
    ['s3://lab/', s3('lab')],
    ['s3://lab/runs/', s3('lab', 'runs/')],
    ['s3://lab//runs', s3('lab', '/runs')],
    ['s3://lab/a b%41+\n?#', s3('lab', 'a b%41+\n?#')],
  ]
  for (const [text, spec] of cases) assert.deepEqual(parseBucket(text), spec, text)
})

test('a directory is a path that starts with / or a dot, or a file URL', () => {
  const cases = [
    ['/data', '/data'],
    ['/data/', '/data'],
    ['/data/../x y%41', '/x y%41'],
    ['.', resolve('.')],
    ['./dir', resolve('dir')],
    ['..', resolve('..')],
    ['../dir', resolve('../dir')],
    ['file:///data/x%20y', '/data/x y'],
    ['file:///', '/'],
  ] as const
  for (const [text, root] of cases) {
    assert.deepEqual(parseBucket(text), { kind: 'directory', root }, text)
  }
})

test('anything else is a mistake of the user', () => {
  const wrong = [
    '',
    'dir/sub',
    'x',
    '-lab',
    '.lab',
    's3://',
    's3:///x',
    's3:/lab',
    'http://lab',
    'a b',
  ]
  for (const text of [...wrong, 'file://host/x', 'file:///a%2Fb', 'lab\n', 'a'.repeat(300)]) {
    assert.throws(() => parseBucket(text), UsageError, text)
  }
})

const path = fc
  .array(fc.string({ unit: 'binary', minLength: 1 }).filter((part) => !/[/\0]|^\.\.?$/.test(part)))
  .map((parts) => `/${parts.join('/')}`)
const bucket = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{1,60}$/)
const plain = { noNullPrototype: true }
const spec: fc.Arbitrary<RemoteSpec> = fc.oneof(
  fc.record({ kind: fc.constant('directory' as const), root: path }, plain),
  fc.record({ kind: fc.constant('s3' as const), bucket }, plain),
  fc.record(
    {
      kind: fc.constant('s3' as const),
      bucket,
      prefix: fc.string({ unit: 'binary', minLength: 1 }),
    },
    plain,
  ),
)

test('what formatSpec writes, parseBucket reads', () => {
  fc.assert(
    fc.property(spec, (spec) => {
      assert.deepEqual(parseBucket(formatSpec(spec)), spec)
    }),
  )
})
