import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { KeepgwError, UsageError } from '../../src/errors.ts'
import { writeDescription } from '../../src/mapping/description.ts'
import { openVolume, parseVolume } from '../../src/volume/spec.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-spec-'))
after(() => rm(scratch, { recursive: true }))

test('volumes as they are written', () => {
  const s3 = { mappings: '/m', remote: { kind: 's3', bucket: 'bucket' } }
  assert.deepEqual(parseVolume('s3:/m:bucket'), s3)
  assert.deepEqual(parseVolume('s3:/m/:bucket:reader'), { ...s3, profile: 'reader' })
  assert.deepEqual(parseVolume('s3:/m:bucket:/etc/creds'), { ...s3, credentialsFile: '/etc/creds' })
  assert.deepEqual(parseVolume('s3:/m:bucket/data/'), {
    mappings: '/m',
    remote: { kind: 's3', bucket: 'bucket', prefix: 'data/' },
  })
  assert.deepEqual(parseVolume('file:/m:/data/a:b'), {
    mappings: '/m',
    remote: { kind: 'directory', root: '/data/a:b' },
  })
  assert.equal(parseVolume('s3:maps:bucket').mappings, join(process.cwd(), 'maps'))
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
  for (const text of [...bad, 'unix:/dir', '/dir', './dir', 'keep:zzzzz']) {
    assert.throws(
      () => parseVolume(text),
      (error) => error instanceof UsageError && error.hint !== undefined,
      text,
    )
  }
  assert.throws(() => parseVolume('unix:/dir'), /not there yet/)
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
