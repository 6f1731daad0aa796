import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'yaml'
import { readClusterConfig } from '../../src/cluster/cluster-config.ts'
import { UsageError } from '../../src/errors.ts'
import { runs } from '../fuzz.ts'

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
      blobTrashConcurrency: undefined,
      blobTrashCheckInterval: undefined,
      blobDeleteConcurrency: undefined,
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

  test('may be written as Arvados takes it, too', async () => {
    const found = await read(`Clusters: {xyzzy: {
      Collections: {BlobTrashLifetime: 0},
      SystemLogs: {LogLevel: Trace, Format: JSON},
      TLS: {Certificate: /etc/cert.pem, Key: /etc/key.pem}}}`)
    assert.deepEqual([found?.blobTrashLifetime, found?.logLevel], [0, 'debug'])
    assert.deepEqual([found?.certificate, found?.certificateKey], ['/etc/cert.pem', '/etc/key.pem'])
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
    ['a certificate that is no URL', 'TLS: {Certificate: cert.pem}', 'TLS.Certificate'],
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

describe('whatever stands in a configuration', () => {
  const SECRET = 'a-secret-that-no-message-holds'
  const odd = fc.oneof(
    fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 2 ** 60, '', SECRET, [], {}, [SECRET]),
    fc.constantFrom<unknown>({ a: { b: [{ c: SECRET }] } }, '-1h', '\n', '336'),
  )
  const paths = fc.array(fc.nat({ max: 30 }), { minLength: 1, maxLength: 8 })

  /** Puts a value somewhere into a tree of mappings. */
  function replaced(tree: unknown, [pick = 0, ...more]: number[], value: unknown): unknown {
    if (typeof tree !== 'object' || tree === null || Array.isArray(tree)) return value
    const names = Object.keys(tree)
    const name = names[pick % (names.length + 1)]
    if (name === undefined) return value
    const there = (tree as Record<string, unknown>)[name]
    return { ...tree, [name]: more.length === 0 ? value : replaced(there, more, value) }
  }

  async function readsOrSays(text: string): Promise<void> {
    try {
      await read(text)
    } catch (error) {
      assert.ok(error instanceof UsageError, String(error))
      assert.ok(error.message.startsWith(file), error.message)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      assert.doesNotMatch(error.message, /[\0-\x1f]/)
      assert.ok(!error.message.includes(SECRET), error.message)
    }
  }

  test('a value of another kind is taken or named, anywhere', async () => {
    const whole: unknown = parse(FULL, { version: '1.1' })
    await fc.assert(
      fc.asyncProperty(paths, odd, (path, value) => {
        return readsOrSays(JSON.stringify(replaced(whole, path, value)))
      }),
      runs(300),
    )
  })

  test('what only YAML knows is none of its settings', async () => {
    const values = ['2020-01-01', '!!set {a, b}', '!!omap [a: b]', '!!binary c2VjcmV0']
    for (const value of [...values, '.nan', '.inf', '0x10', '1_000', '12:30:45']) {
      for (const name of ['Collections', 'API', 'Services', 'Volumes', 'TLS', 'SystemRootToken']) {
        await assert.rejects(read(`Clusters: {xyzzy: {${name}: ${value}}}`), UsageError, value)
      }
    }
  })

  test('any text is a configuration or an error in one line', async () => {
    const part = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        'Clusters:',
        '\n',
        '  ',
        'xyzzy: ',
        '{',
        '}',
        '[',
        '- ',
        '&a ',
        '*a',
        '<<: ',
        '? ',
      ),
      fc.constantFrom('!!', '|', '>', '"', "'", '#', ': ', '%YAML 1.2', '---', '...', '\t'),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(part), (parts) => readsOrSays(parts.join(''))),
      runs(300),
    )
    for (const deep of ['['.repeat(100_000), '{a: '.repeat(20_000), '- '.repeat(50_000)]) {
      await readsOrSays(deep)
    }
  })

  test('an alias that stands for more and more ends in an error', async () => {
    const bomb = Array.from({ length: 30 }, (_, i) => {
      const before = i === 0 ? 'x' : `*a${i - 1}`
      return `a${i}: &a${i} [${Array(9).fill(before).join(', ')}]`
    })
    await assert.rejects(read(bomb.join('\n')), UsageError)
  })
})
