import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { UsageError } from '../../src/errors.ts'
import { clusterWarnings } from '../../src/server/check.ts'
import { type ServeFlags, serveSettings } from '../../src/server/settings.ts'
import { makeCertificate } from '../servers/certificate.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-settings-'))
after(() => rm(scratch, { recursive: true }))
const certificate = await makeCertificate()
after(() => certificate[Symbol.asyncDispose]())
const { certFile, keyFile } = certificate
const config = join(scratch, 'config.yml')
const volume = ['s3:/mappings:bucket']

/** The settings that the cluster's configuration, flags and variables make together. */
async function settings(
  cluster: string,
  flags: Partial<ServeFlags> = {},
  env: NodeJS.ProcessEnv = {},
) {
  await writeFile(config, cluster === '' ? '' : `Clusters: {xyzzy: {${cluster}}}`)
  const writing = { 'write-buffers': 8 }
  const reading = {
    'idle-timeout': 30,
    head: 'if-match',
    'read-ahead': '64M',
    'hedge-after': 'auto',
  }
  const defaults = { workers: 1, 'insecure-unsigned': false, ...reading, ...writing }
  return serveSettings({ config, volume, ...defaults, ...flags }, env)
}

const KEY = 'Collections: {BlobSigningKey: from-the-file, BlobSigningTTL: 1h}'
const URLS =
  'Services: {Keepstore: {InternalURLs: {"http://127.0.0.1:1001": {Rendezvous: 0123456789abcde}, "http://127.0.0.1:1002": {}}}}'

describe('settings', () => {
  test('without anything: this machine alone, nothing signed', async () => {
    const found = await settings('')
    assert.deepEqual(found.listen, { host: '127.0.0.1', port: 25_107 })
    assert.deepEqual([found.signing, found.clusterId], [undefined, 'zzzzz'])
    assert.deepEqual(found.volumes, [
      { volume: volume[0], storageClasses: undefined, readOnly: false },
    ])
    assert.deepEqual([found.maxRequests, found.maxBlocks], [0, 0])
  })

  test('come from variables before the file, and from flags before both', async () => {
    const tokens = 'SystemRootToken: file-root, ManagementToken: file-management'
    const found = await settings(
      `${KEY}, ${tokens}, API: {MaxConcurrentRequests: 5, MaxKeepBlobBuffers: 6}`,
      { 'blob-signing-ttl': '2h', 'max-keep-blob-buffers': 0 },
      { KEEPGW_BLOB_SIGNING_KEY: 'from-a-variable', KEEPGW_SYSTEM_ROOT_TOKEN: 'variable-root' },
    )
    assert.deepEqual(found.signing, { key: 'from-a-variable', ttl: 7200 })
    assert.deepEqual(found.tokens, { systemRoot: 'variable-root', management: 'file-management' })
    assert.deepEqual([found.maxRequests, found.maxBlocks], [5, 0])
    assert.equal(found.clusterId, 'xyzzy')
  })

  test('let a server listen anywhere only where it signs, or is told to', async () => {
    const listen = '0.0.0.0:25107'
    assert.equal((await settings(KEY, { listen })).listen.host, '0.0.0.0')
    await assert.rejects(settings('', { listen }), /without signatures/)
    const off = 'Collections: {BlobSigning: false, BlobSigningKey: x}'
    await assert.rejects(settings(off, { listen }), /without signatures/)
    const told = await settings(off, { listen, 'insecure-unsigned': true })
    assert.equal(told.signing, undefined)
    assert.ok((await settings(KEY, { 'insecure-unsigned': true })).signing)
  })

  const everywhere = ['0.0.0.0:1', ':1', '[::]:1', '[::ffff:10.0.0.1]:1', '10.0.0.5:1', 'gw:1']
  const lookalikes = ['127.0.0.1.example.org:1', 'localhost.example.org:1', '128.0.0.1:1']
  const kinds: [what: string, flags: Partial<ServeFlags>][] = [
    ['a bucket', {}],
    ['a directory', { volume: ['file:/mappings:/data'] }],
    ['a directory of a keepstore', { volume: ['unix:/keep'] }],
    ['directories of a keepstore', { volume: undefined, volumes: '/keep,/other' }],
    ['one that is only read', { volume: ['unix:readonly:/keep'] }],
    ['other services', { volume: ['keep:http://a:1'] }],
    ['several processes', { workers: 4 }],
    ['HTTPS', { 'tls-certificate': certFile, 'tls-key': keyFile }],
  ]
  for (const [what, flags] of kinds) {
    test(`never let ${what} be read from elsewhere unsigned and unasked`, async () => {
      for (const listen of [...everywhere, ...lookalikes]) {
        await assert.rejects(settings('', { ...flags, listen }), /without signatures/, listen)
      }
      const off = 'Collections: {BlobSigning: false}'
      for (const url of ['http://0.0.0.0:1', 'https://gw.example:1', 'http://10.0.0.5']) {
        const tls = `TLS: {Certificate: "file://${certFile}", Key: "file://${keyFile}"}`
        const named = `${off}, ${tls}, Services: {Keepstore: {InternalURLs: {"${url}": {}}}}`
        await assert.rejects(settings(named, flags), /without signatures/, url)
        const listening = `${off}, ${tls}, Services: {Keepstore: {InternalURLs: {"http://127.0.0.1:1": {ListenURL: "${url}"}}}}`
        await assert.rejects(settings(listening, flags), /without signatures/, url)
      }
      assert.ok(await settings('', { ...flags, listen: '127.0.0.1:1' }))
      assert.ok(await settings('', { ...flags, listen: '0.0.0.0:1', 'insecure-unsigned': true }))
    })
  }

  test('throw blocks away as the cluster does', async () => {
    const { writing: alone } = await settings('')
    assert.deepEqual(alone, {
      buffers: 8,
      trash: true,
      trashLifetime: 1_209_600,
      trashConcurrency: 4,
      trashInterval: 86_400,
    })
    const trash = 'Collections: {BlobSigningKey: x, BlobTrash: false, BlobTrashLifetime: 2h}'
    const { writing } = await settings(trash)
    assert.deepEqual(writing, { ...alone, trash: false, trashLifetime: 7200 })
    const flagged = await settings(trash, { 'trash-lifetime': '0s' })
    assert.equal(flagged.writing.trashLifetime, 0)
  })

  test('leave out of that what the cluster sets to 0', async () => {
    const found = async (...lines: string[]) => {
      const cluster = `Collections: {BlobSigningKey: x, ${lines.join(', ')}}`
      const { trash, trashConcurrency, trashInterval } = (await settings(cluster)).writing
      return trash ? [trashConcurrency, trashInterval] : 'keeps all'
    }
    const numbers = ['BlobTrashConcurrency: 7', 'BlobTrashCheckInterval: 1h']
    assert.deepEqual(await found(...numbers, 'BlobDeleteConcurrency: 2'), [7, 3600])
    assert.deepEqual(await found('BlobTrashConcurrency: 0'), [0, 86_400])
    assert.deepEqual(await found('BlobTrashCheckInterval: 0'), [4, 0])
    assert.deepEqual(await found('BlobDeleteConcurrency: 0'), [4, 0])
    // What is thrown away would be deleted at once.
    assert.equal(await found('BlobDeleteConcurrency: 0', 'BlobTrashLifetime: 0'), 'keeps all')
    assert.deepEqual(await found('BlobTrashCheckInterval: 0', 'BlobTrashLifetime: 0'), [4, 0])
  })

  test('do not turn signing off for a key that is missing', async () => {
    await assert.rejects(settings('ManagementToken: x'), /Collections\.BlobSigningKey is missing/)
  })

  test('take the address from the cluster’s list', async () => {
    const env = { ARVADOS_SERVICE_INTERNAL_URL: 'http://127.0.0.1:1001/' }
    const found = await settings(`${KEY}, ${URLS}`, {}, env)
    assert.deepEqual(found.listen, { host: '127.0.0.1', port: 1001 })
    assert.equal(found.serviceUuid, 'xyzzy-bi6l4-0123456789abcde')
    await assert.rejects(settings(`${KEY}, ${URLS}`), /has 2 URLs/)
    const other = { ARVADOS_SERVICE_INTERNAL_URL: 'http://127.0.0.1:1003/' }
    await assert.rejects(settings(`${KEY}, ${URLS}`, {}, other), UsageError)
    const flagged = await settings(`${KEY}, ${URLS}`, { listen: '127.0.0.1:7' })
    assert.equal(flagged.listen.port, 7)
  })

  test('speak HTTPS where the URL says so, or where an address has a certificate', async () => {
    const urls = (url: string) => `${KEY}, Services: {Keepstore: {InternalURLs: {"${url}": {}}}}`
    const tls = `TLS: {Certificate: "file://${certFile}", Key: "file://${keyFile}"}`
    assert.ok((await settings(`${urls('https://127.0.0.1')}, ${tls}`)).tls)
    assert.equal((await settings(`${urls('http://127.0.0.1')}, ${tls}`)).tls, undefined)
    await assert.rejects(settings(urls('https://127.0.0.1')), /no certificate/)
    assert.ok((await settings('', { 'tls-certificate': certFile, 'tls-key': keyFile })).tls)
    await assert.rejects(settings('', { 'tls-certificate': certFile }), /belong together/)
    await assert.rejects(
      settings('', { 'tls-certificate': certFile, 'tls-key': '/no' }),
      UsageError,
    )
  })

  test('name the files that are no certificate, or not its key', async () => {
    await using another = await makeCertificate()
    for (const [cert, key] of [
      [certFile, another.keyFile],
      [config, keyFile],
      [certFile, config],
    ]) {
      const why = {
        name: 'UsageError',
        message: new RegExp(`${cert} and ${key} are no certificate`),
      }
      await assert.rejects(settings('', { 'tls-certificate': cert, 'tls-key': key }), why)
    }
  })

  test('say how much is read ahead, and when a slow place is raced', async () => {
    const { readAhead, hedgeAfter } = await settings('')
    assert.deepEqual([readAhead, hedgeAfter], [67_108_864, 'auto'])
    for (const [text, value] of [
      ['250', 250],
      ['0', 0],
      ['off', 0],
      ['auto', 'auto'],
    ] as const) {
      assert.equal((await settings('', { 'hedge-after': text })).hedgeAfter, value)
    }
    for (const text of ['', 'soon', '-1', '1.5', '2s']) {
      await assert.rejects(settings('', { 'hedge-after': text }), UsageError)
    }
    assert.equal((await settings('', { 'read-ahead': '0' })).readAhead, 0)
    await assert.rejects(settings('', { 'read-ahead': 'much' }), UsageError)
  })

  test('take volumes of the driver keepgw that are this server’s', async () => {
    const entry = (name: string, host: string) =>
      `${name}: {Driver: keepgw, DriverParameters: {Volume: "s3:/m:${name}"}, AccessViaHosts: {"${host}": {}}}`
    const own = entry('own', 'http://127.0.0.1:1001')
    const volumes = `Volumes: {${own}, ${entry('else', 'http://127.0.0.1:1002')}, s3: {Driver: S3}}`
    const env = { ARVADOS_SERVICE_INTERNAL_URL: 'http://127.0.0.1:1001/' }
    const cluster = `${KEY}, ${URLS}, ${volumes}`
    const found = await settings(cluster, { volume: undefined }, env)
    assert.deepEqual(found.volumes, [
      { volume: 's3:/m:own', storageClasses: undefined, readOnly: false },
    ])
    const flags = { volume: undefined, 'storage-class': ['a', 'b'] }
    assert.deepEqual((await settings(cluster, flags, env)).volumes[0]?.storageClasses, ['a', 'b'])
    await assert.rejects(settings(KEY, { volume: undefined }), /there is no volume/)
  })

  test('write to no volume that the configuration has as read-only', async () => {
    const env = { ARVADOS_SERVICE_INTERNAL_URL: 'http://127.0.0.1:1001/' }
    const readOnly = async (rest: string) => {
      const volumes = `Volumes: {v: {Driver: keepgw, DriverParameters: {Volume: "unix:/d"}, ${rest}}}`
      const found = await settings(`${KEY}, ${URLS}, ${volumes}`, { volume: undefined }, env)
      return found.volumes[0]?.readOnly
    }
    const host = (more: string) => `AccessViaHosts: {"http://127.0.0.1:1001": {${more}}}`
    assert.equal(await readOnly(''), false)
    assert.equal(await readOnly('ReadOnly: true'), true)
    assert.equal(await readOnly(host('')), false)
    assert.equal(await readOnly(host('ReadOnly: true')), true)
    assert.equal(await readOnly(`ReadOnly: true, ${host('')}`), true)
  })
})

test('the check warns of what would hide the gateway', async () => {
  const [containers, uuid] = clusterWarnings(await settings(KEY))
  assert.match(containers ?? '', /LocalKeepBlobBuffersPerVCPU/)
  assert.match(uuid ?? '', /Rendezvous of 15/)
  const good = URLS.replace(', "http://127.0.0.1:1002": {}', '')
  const cluster = `${KEY}, ${good}, Containers: {LocalKeepBlobBuffersPerVCPU: 0}`
  assert.deepEqual(clusterWarnings(await settings(cluster)), [])
})

describe('the cache', () => {
  const cache = '/var/cache/keepgw'

  test('is none unless there is a directory, and 10 GiB large unless told', async () => {
    assert.equal((await settings('')).cache, undefined)
    assert.deepEqual((await settings('', { cache })).cache, { dir: cache, limit: 10 * 2 ** 30 })
    const sized = await settings('', { cache: 'here', 'cache-size': '1.5G' })
    assert.deepEqual(sized.cache, { dir: join(process.cwd(), 'here'), limit: 1.5 * 2 ** 30 })
  })

  test('is refused where it could hold nothing, or is a size alone', async () => {
    const refused = [
      { cache, 'cache-size': '64M' },
      { cache, 'cache-size': 'much' },
    ]
    for (const flags of refused) await assert.rejects(settings('', flags), UsageError)
    await assert.rejects(settings('', { 'cache-size': '1G' }), UsageError)
  })

  test('does not answer for other services, unless signatures are checked here', async () => {
    const keep = { cache, volume: ['keep:http://127.0.0.1:1'] }
    await assert.rejects(settings('', keep), /BlobSigningKey|whoever asks/)
    assert.equal((await settings(KEY, keep)).cache?.dir, cache)
  })
})

describe('several processes', () => {
  test('serve what is only read', async () => {
    const good = [...volume, 'unix:readonly:/data', 'keep:readonly:http://127.0.0.1:1']
    assert.equal((await settings('', { workers: 4, volume: good })).workers, 4)
  })

  test('are refused for volumes that one process has to look after', async () => {
    const single = [
      'unix:/data',
      '/data',
      'keep:http://127.0.0.1:1',
      'unix:readonly:serialize:/data',
    ]
    for (const each of single) {
      const flags = { workers: 2, volume: [...volume, each] }
      await assert.rejects(settings('', flags), /--workers 2 does not go with/)
      assert.equal((await settings('', { ...flags, workers: 1 })).workers, 1)
    }
  })
})
