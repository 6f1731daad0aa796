import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { readClusterConfig } from '../../src/cluster/cluster-config.ts'
import { UsageError } from '../../src/errors.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-config-'))
after(() => rm(scratch, { recursive: true }))
const file = join(scratch, 'config.yml')

async function read(text: string, clusterId?: string) {
  await writeFile(file, text)
  return readClusterConfig(file, clusterId)
}

const FULL = `
Clusters:
  xyzzy:
    SystemRootToken: the-system-root-token
    ManagementToken: the-management-token
    SomethingElse: {of: [Arvados]}
    API: {MaxConcurrentRequests: 64, MaxKeepBlobBuffers: 128}
    Collections: {BlobSigning: yes, BlobSigningKey: the-key, BlobSigningTTL: 336h}
    SystemLogs: {LogLevel: warning, Format: text}
    TLS: {Certificate: "file:///etc/cert.pem", Key: "file:///etc/key.pem"}
    Services:
      Keepstore:
        InternalURLs:
          "http://gw.example:25107": {Rendezvous: 0123456789abcde, ListenURL: "http://0.0.0.0:25107"}
    Containers: {LocalKeepBlobBuffersPerVCPU: 1}
    Volumes:
      xyzzy-nyw5e-000000000000000: {Driver: S3, DriverParameters: {Bucket: x}}
      xyzzy-nyw5e-000000000000001:
        Driver: keepgw
        DriverParameters: {Volume: "s3:/mappings:bucket"}
        StorageClasses: {archive: true, other: false}
`

describe('a cluster’s configuration', () => {
  test('gives what is keepgw’s in it', async () => {
    const found = await read(FULL)
    const { services, ...rest } = found!
    assert.deepEqual(rest, {
      file,
      clusterId: 'xyzzy',
      systemRootToken: 'the-system-root-token',
      managementToken: 'the-management-token',
      blobSigning: true,
      blobSigningKey: 'the-key',
      blobSigningTtl: 1_209_600,
      blobTrash: true,
      blobTrashLifetime: undefined,
      maxConcurrentRequests: 64,
      maxKeepBlobBuffers: 128,
      certificate: '/etc/cert.pem',
      certificateKey: '/etc/key.pem',
      logLevel: 'warn',
      logFormat: 'text',
      volumes: [
        {
          volume: 's3:/mappings:bucket',
          storageClasses: ['archive'],
          readOnly: false,
          accessViaHosts: [],
        },
      ],
      otherVolumes: 1,
      containersHaveKeepstore: false,
    })
    assert.equal(services[0]?.url.href, 'http://gw.example:25107/')
    assert.equal(services[0]?.listen?.href, 'http://0.0.0.0:25107/')
    assert.equal(services[0]?.rendezvous, '0123456789abcde')
  })

  test('has Arvados’ defaults: signing is on, for two weeks', async () => {
    const found = await read('Clusters: {xyzzy: {}}')
    assert.deepEqual([found?.blobSigning, found?.blobSigningTtl], [true, 1_209_600])
    assert.equal(found?.containersHaveKeepstore, true)
  })

  test('without any setting is none', async () => {
    assert.equal(await read('# nothing\n'), undefined)
  })

  test('of several clusters: one has to be named', async () => {
    const two = 'Clusters: {aaaaa: {ManagementToken: a}, bbbbb: {ManagementToken: b}}'
    assert.equal((await read(two, 'bbbbb'))?.managementToken, 'b')
    await assert.rejects(read(two), /2 clusters/)
    await assert.rejects(read(two, 'ccccc'), /Clusters\.ccccc/)
  })

  // As crunch-run decides it.
  const containers: [string, string, string, boolean][] = [
    ['a volume with too few copies', 'Driver: S3', '', false],
    ['volumes with enough copies', 'Driver: S3, Replication: 2', '', true],
    ['fewer copies wanted', 'Driver: S3', 'Collections: {DefaultReplication: 1}', true],
    ['a read-only volume', 'Driver: S3, ReadOnly: true', '', true],
    ['AccessViaHosts', 'Replication: 2, AccessViaHosts: {"http://k:1": {}}', '', false],
    ['no buffers', 'Replication: 2', 'Containers: {LocalKeepBlobBuffersPerVCPU: 0}', false],
  ]
  for (const [what, volume, more, expected] of containers) {
    test(`with ${what}: containers have ${expected ? 'a' : 'no'} keepstore of their own`, async () => {
      const text = `Clusters: {xyzzy: {Volumes: {v: {${volume}}}, ${more}}}`
      assert.equal((await read(text))?.containersHaveKeepstore, expected)
    })
  }

  const broken: [string, string, string][] = [
    ['a TTL without a unit', 'Collections: {BlobSigningTTL: 336}', 'Collections.BlobSigningTTL'],
    ['a TTL of nothing', 'Collections: {BlobSigningTTL: 0s}', 'Collections.BlobSigningTTL'],
    ['a limit in words', 'API: {MaxConcurrentRequests: many}', 'API.MaxConcurrentRequests'],
    ['a number for a token', 'SystemRootToken: 12345678', 'SystemRootToken'],
    ['a setting in other letters', 'Collections: {blobSigning: false}', 'Collections.blobSigning'],
    ['a list for a section', 'Collections: [BlobSigning]', 'Collections'],
    ['a certificate that is no URL', 'TLS: {Certificate: /etc/cert.pem}', 'TLS.Certificate'],
    ['a level that is none', 'SystemLogs: {LogLevel: loud}', 'SystemLogs.LogLevel'],
    ['a URL that is none', 'Services: {Keepstore: {InternalURLs: {"gw:1": {}}}}', 'gw:1'],
    [
      'an unknown parameter',
      'Volumes: {v: {Driver: keepgw, DriverParameters: {Bucket: b}}}',
      'Volumes.v.DriverParameters.Bucket',
    ],
    ['no volume', 'Volumes: {v: {Driver: keepgw}}', 'Volumes.v.DriverParameters.Volume'],
  ]
  for (const [name, text, setting] of broken) {
    test(`${name} ends in a line that names the file and the setting`, async () => {
      await assert.rejects(read(`Clusters: {xyzzy: {${text}}}`), (error) => {
        assert.ok(error instanceof UsageError)
        assert.ok(error.message.startsWith(`${file}: `), error.message)
        assert.ok(error.message.includes(setting), error.message)
        assert.ok(!error.message.includes('\n'))
        return true
      })
    })
  }

  test('that is no YAML, or not there, is an error without its contents', async () => {
    for (const text of [
      'Clusters: {xyzzy: {SystemRootToken: secret',
      'a: "secret\n\tb: [',
      'x: *secret',
    ]) {
      await assert.rejects(read(text), (error: Error) => {
        assert.ok(error instanceof UsageError && !error.message.includes('secret'), error.message)
        assert.ok(error.message.includes(file))
        return true
      })
    }
    await assert.rejects(readClusterConfig(join(scratch, 'none.yml')), UsageError)
    await assert.rejects(read('Cluster: {}'), /Cluster is an unknown setting/)
  })
})
