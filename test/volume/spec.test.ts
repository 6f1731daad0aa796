import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { KeepgwError, UsageError } from '../../src/errors.ts'
import { writeDescription } from '../../src/mapping/description.ts'
import { openVolume, parseVolume, splitDirectories } from '../../src/volume/spec.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-spec-'))
after(() => rm(scratch, { recursive: true }))

test('volumes as they are written', () => {
  const s3 = { kind: 'mapped', mappings: '/m', remote: { kind: 's3', bucket: 'bucket' } }
  assert.deepEqual(parseVolume('s3:/m:bucket'), s3)
  assert.deepEqual(parseVolume('s3:/m/:bucket:reader'), { ...s3, profile: 'reader' })
  assert.deepEqual(parseVolume('s3:/m:bucket:/etc/creds'), { ...s3, credentialsFile: '/etc/creds' })
  assert.deepEqual(parseVolume('s3:/m:bucket/data/'), {
    kind: 'mapped',
    mappings: '/m',
    remote: { kind: 's3', bucket: 'bucket', prefix: 'data/' },
  })
  assert.deepEqual(parseVolume('file:/m:/data/a:b'), {
    kind: 'mapped',
    mappings: '/m',
    remote: { kind: 'directory', root: '/data/a:b' },
  })
  const relative = parseVolume('s3:maps:bucket')
  assert.ok(relative.kind === 'mapped' && relative.mappings === join(process.cwd(), 'maps'))
})

test('directories of a keepstore', () => {
  const unix = { kind: 'unix', root: '/data/keep', serialize: false, readOnly: false }
  assert.deepEqual(parseVolume('unix:/data/keep'), unix)
  assert.deepEqual(parseVolume('/data/keep/'), unix)
  assert.deepEqual(parseVolume('unix:serialize:/data/keep'), { ...unix, serialize: true })
  const both = { ...unix, serialize: true, readOnly: true }
  assert.deepEqual(parseVolume('unix:readonly:serialize:/data/keep'), both)
  assert.deepEqual(parseVolume('./keep'), { ...unix, root: join(process.cwd(), 'keep') })
  assert.deepEqual(splitDirectories('/tmp/1,/tmp/2').map(parseVolume), [
    { ...unix, root: '/tmp/1' },
    { ...unix, root: '/tmp/2' },
  ])
  for (const text of ['', '/tmp/1,', 's3:/m:b,/tmp/2', 'tmp']) {
    assert.throws(() => splitDirectories(text), UsageError, text)
  }
})

test('other keep services', () => {
  const keep = { kind: 'keep', services: ['http://a:25107'], readOnly: false }
  assert.deepEqual(parseVolume('keep:http://a:25107'), keep)
  assert.deepEqual(parseVolume('keep:readonly:http://a:25107/,https://b'), {
    ...keep,
    services: ['http://a:25107', 'https://b'],
    readOnly: true,
  })
})

test('any directory, and any text at all', () => {
  const name = fc.stringMatching(/^[^/\0]+$/).filter((each) => each !== '.' && each !== '..')
  fc.assert(
    fc.property(fc.array(name, { minLength: 1, maxLength: 4 }), (names) => {
      const root = `/${names.join('/')}`
      for (const text of [root, `unix:${root}`, `unix:serialize:${root}`]) {
        const spec = parseVolume(text)
        assert.ok(spec.kind === 'unix' && spec.root === root, text)
      }
    }),
  )
  const start = fc.constantFrom('', 'unix:', 'keep:', 's3:', 'file:', 'keep:http://', 'unix:/')
  fc.assert(
    fc.property(start, fc.string(), (kind, rest) => {
      try {
        const spec = parseVolume(kind + rest)
        if (spec.kind === 'unix') assert.ok(isAbsolute(spec.root))
        if (spec.kind === 'keep') for (const each of spec.services) assert.ok(URL.canParse(each))
      } catch (error) {
        assert.ok(error instanceof UsageError, String(error))
      }
    }),
  )
})

test('what is no volume is a usage error with the ways to write one', () => {
  const bad = [
    '',
    's3:',
    's3:/m',
    's3:/m:',
    's3:/m:b:',
    's3:/m:b:c:d',
    's3::b',
    'file:/m',
    'ftp:/m:b',
  ]
  const others = ['unix:', 'unix:dir', 'unix:other:/dir', 'keep:', 'keep:zzzzz', 'keep:ftp://a']
  const services = ['keep:http://', 'keep:http://a/path', 'keep:http://u:p@a', 'keep:http://a,']
  for (const text of [...bad, ...others, ...services, 'keep:http://a,http://a/']) {
    assert.throws(
      () => parseVolume(text),
      (error) => error instanceof UsageError && error.hint !== undefined,
      text,
    )
  }
})

test('a mapping is served only for what it is of', async () => {
  const mappings = join(scratch, 'm')
  const remote = { kind: 's3', bucket: 'mine', prefix: 'data/', region: 'eu-west-1' } as const
  await writeDescription(mappings, { version: 1, remote, ifMatch: true })
  for (const name of ['mine', 'mine/data/']) {
    const volume = await openVolume(parseVolume(`s3:${mappings}:${name}`))
    assert.equal(volume.deviceId, 'keepgw:s3://s3.amazonaws.com/mine/data/')
    await volume.close()
  }
  for (const text of [`s3:${mappings}:other`, `s3:${mappings}:mine/x/`, `file:${mappings}:/mine`]) {
    await assert.rejects(openVolume(parseVolume(text)), UsageError, text)
  }
})

test('a mapping out of reach is an error that says what to do', async () => {
  const open = openVolume(parseVolume(`s3:${join(scratch, 'nowhere')}:mine`))
  await assert.rejects(open, (error) => {
    return error instanceof KeepgwError && error.exitCode === 1 && error.hint !== undefined
  })
})

test('a volume is read-only where its spec or its settings say so', async () => {
  const cases = [
    [`unix:${scratch}`, undefined, true],
    [`unix:${scratch}`, true, false],
    [`unix:readonly:${scratch}`, false, false],
    ['keep:http://127.0.0.1:1', false, true],
    ['keep:http://127.0.0.1:1', true, false],
  ] as const
  for (const [text, readOnly, allowWrite] of cases) {
    const volume = await openVolume(parseVolume(text), { readOnly })
    assert.equal(volume.allowWrite, allowWrite, `${text} ${readOnly}`)
    await volume.close()
  }
})
