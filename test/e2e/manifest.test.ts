/**
 * From a bucket to a researcher's file: indexed, written down as a manifest, served, and read by the
 * Arvados Python SDK.
 */
import assert from 'node:assert/strict'
import { type StdioOptions, spawnSync } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { parseLocator } from '../../src/keep/locator.ts'
import { checkSignature } from '../../src/keep/signature.ts'
import {
  type ArvadosSdk,
  deadPort,
  keepService,
  lacksArvadosSdk,
  startArvadosSdk,
} from '../clients/arvados-sdk.ts'
import { startFauxqs } from '../servers/fauxqs.ts'
import { makeBucket, NO_S3, type S3Server, sharedS3, type TestBucket } from '../servers/s3.ts'
import {
  CLI,
  contents,
  environment,
  keepgw,
  keepgwOk,
  md5,
  type Served,
  serve,
  start,
  temporary,
} from './keepgw.ts'

const MIB = 1024 * 1024
const GATEWAY = 'zzzzz-bi6l4-keepgw000000001'
const OBJECTS = new Map(
  Object.entries({
    'runs/big.bam': contents(70 * MIB, 'big'),
    'runs/copy of big.bam': contents(70 * MIB, 'big'),
    'runs/other end.bam': Buffer.concat([contents(64 * MIB, 'big'), Buffer.from('end')]),
    'runs/empty': Buffer.alloc(0),
    'a-b/x': Buffer.from('a-b/x'),
    'a/x': Buffer.from('a/x'),
    'a.x': Buffer.from('a.x'),
    '10:20:colons: and spaces ': Buffer.from('colons'),
    'back\\slash\\040': Buffer.from('back'),
    'line\nfeed/tab\tbed': Buffer.from('controls'),
    'é e\u0301 \u{1f9ec} \uffee': Buffer.from('unicode'),
    'only/deep/down/file': Buffer.from('deep'),
  }),
)
/** What no manifest can hold; the first two are a file that is a directory, too, and one in it. */
const LEFT_OUT = ['a', 'e//f', '/lead', 'up/../b', './x', 'wide\u00a0space']

const disk = (url: string | number) => keepService(url, 'disk', 'zzzzz-bi6l4-disk00000000001')

/** A bucket with its mapping. */
interface Indexed {
  bucket: TestBucket
  dir: string
  mapping: string
  env: NodeJS.ProcessEnv
  manifest(...args: string[]): ReturnType<typeof keepgw>
  destroy(): Promise<void>
}

async function indexed(server: S3Server, objects: Map<string, Buffer>): Promise<Indexed> {
  const bucket = await makeBucket(server)
  const { dir, remove } = await temporary()
  const env = environment(server, dir)
  for (const [key, data] of objects) await bucket.put(key, data)
  await keepgwOk(['index', bucket.name, '--quiet'], env)
  return {
    bucket,
    dir,
    mapping: join(dir, bucket.name),
    env,
    manifest: (...args) => keepgw(['manifest', bucket.name, ...args], env),
    async destroy() {
      await bucket.destroy()
      await remove()
    },
  }
}

const shared = sharedS3()
const lacksSdk = await lacksArvadosSdk()
describe('a bucket on a real server', { skip: shared ? lacksSdk : NO_S3 }, () => {
  let sdk: ArvadosSdk
  let lab: Indexed
  let served: Served
  before(async () => {
    sdk = await startArvadosSdk()
    // This server keeps no key with a backslash as it is; fauxqs does, below.
    const kept = [...OBJECTS].filter(([key]) => !key.includes('\\'))
    lab = await indexed(shared!, new Map(kept))
    served = await serve([`s3:${lab.mapping}:${lab.bucket.name}`], lab.env)
  })
  after(async () => {
    await served?.stop()
    await lab?.destroy()
    await sdk?.[Symbol.asyncDispose]()
  })

  it('is read through its manifest, file by file and byte for byte', async () => {
    const { code, stdout, stderr } = await lab.manifest()
    assert.equal(code, 0, stderr)
    const listed = await lab.bucket.list()
    const { files } = await sdk.read(stdout, [disk(served.url)])
    assert.deepEqual(
      files,
      Object.fromEntries(
        listed.map(({ key, size }) => [`./${key}`, [md5(OBJECTS.get(key)!), size]]),
      ),
    )
    assert.equal(listed.length, OBJECTS.size - 1)
    const theirs = await sdk.normalize(stdout)
    assert.equal(theirs.text, stdout)
    const hash = await lab.manifest('--portable-data-hash')
    assert.deepEqual([hash.code, hash.stdout], [0, `${theirs.portableDataHash}\n`])
  })

  it('is read by a hint to the gateway, past an ordinary service that is dead', async () => {
    const services = [keepService(served.url, 'gateway:keepgw', GATEWAY), disk(await deadPort())]
    const { code, stdout } = await lab.manifest('--hint', GATEWAY)
    assert.equal(code, 0)
    const { files } = await sdk.read(stdout, services)
    assert.deepEqual(files['./a/x'], [md5(Buffer.from('a/x')), 3])
    assert.deepEqual(files['./runs/big.bam']?.[1], 70 * MIB)
    // The same services without the hint: nothing leads to the gateway.
    const plain = await lab.manifest()
    await assert.rejects(sdk.read(plain.stdout, services), /KeepReadError/)
  })

  it('has its blocks got and looked for by the SDK, one by one', async () => {
    const data = Buffer.from('a/x')
    const locator = `${md5(data)}+${data.length}`
    const unknown = `${md5(Buffer.from('unknown'))}+7`
    const dead = disk(await deadPort())
    const gateway = [keepService(served.url, 'gateway:keepgw', GATEWAY), dead]
    for (const [name, services] of [
      [locator, [disk(served.url)]],
      [locator, [disk(served.url), { ...dead, uuid: 'zzzzz-bi6l4-disk00000000002' }]],
      [`${locator}+K@${GATEWAY}`, gateway],
      [`${locator}+K@${GATEWAY}`, [disk(served.url)]],
    ] as const) {
      assert.deepEqual(await sdk.get(name, [...services]), { md5: md5(data), size: data.length })
      assert.deepEqual(await sdk.head(name, [...services]), { found: true })
    }
    await assert.rejects(sdk.get(unknown, [disk(served.url)]), /NotFoundError/)
    await assert.rejects(sdk.head(unknown, [disk(served.url)]), /NotFoundError/)
    const big = OBJECTS.get('runs/big.bam')!.subarray(0, 64 * MIB)
    const block = await sdk.get(`${md5(big)}+${big.length}+K@${GATEWAY}`, gateway)
    assert.equal(block.md5, md5(big))
  })
})

describe('keepgw manifest', () => {
  let server: S3Server
  let lab: Indexed
  before(async () => {
    server = await startFauxqs()
    const small = [...OBJECTS].filter(([, data]) => data.length < MIB)
    const odd = LEFT_OUT.map((key) => [key, Buffer.from(key)] as const)
    lab = await indexed(server, new Map([...small, ...odd]))
  })
  after(async () => {
    await lab?.destroy()
    await server?.stop()
  })

  it('names what it leaves out, ends with 3, and has all the rest', {
    skip: lacksSdk,
  }, async () => {
    const { code, stdout, stderr } = await lab.manifest()
    assert.equal(code, 3, stderr)
    const said = stderr.match(/^keepgw: left out: .*$/gm) ?? []
    assert.deepEqual(said.map((line) => line.split(': ')[2]).sort(), LEFT_OUT.toSorted())
    assert.match(stderr, /6 objects left out/)
    await using sdk = await startArvadosSdk()
    const { files } = await sdk.normalize(stdout)
    const small = [...OBJECTS].filter(([, data]) => data.length < MIB)
    assert.deepEqual(Object.keys(files).sort(), small.map(([key]) => `./${key}`).sort())
    await using served = await serveFor(lab)
    const read = await sdk.read(stdout, [disk(served.url)])
    for (const [key, data] of small) {
      assert.deepEqual(read.files[`./${key}`], [md5(data), data.length], key)
    }
  })

  it('writes a part with shorter names', async () => {
    const name = `${lab.bucket.name}/only/deep/`
    const part = await keepgw(['manifest', name, '--strip-prefix', 'only/deep/'], lab.env)
    const locator = `${md5(Buffer.from('deep'))}+4`
    assert.deepEqual([part.code, part.stdout], [0, `./down ${locator} 0:4:file\n`])
    const url = `s3://${lab.bucket.name}/only/deep/d`
    const whole = await keepgw(['manifest', url], lab.env)
    assert.equal(whole.stdout, `./only/deep/down ${locator} 0:4:file\n`)
  })

  it('writes a manifest for each directory', async () => {
    const output = join(lab.dir, 'out')
    const { code, stdout } = await lab.manifest('--split', '--output', output, '--json')
    assert.equal(code, 3)
    const said = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const written = said.filter(({ type }) => type === 'manifest')
    const names = ['manifest', 'a-b.manifest', 'a.manifest', 'line\nfeed.manifest', 'only.manifest']
    for (const name of names) {
      const text = await readFile(join(output, name))
      const found = written.find(({ file }) => file === join(output, name).replace('\n', '%0A'))
      assert.equal(found.portableDataHash, `${md5(text)}+${text.length}`)
    }
    const left = said.filter(({ type }) => type === 'left-out').map(({ key }) => key)
    // A file beside a directory of its name is in another manifest.
    assert.deepEqual(left.sort(), LEFT_OUT.filter((key) => key !== 'a').sort())
    assert.match(await readFile(join(output, 'manifest'), 'utf8'), / \d+:1:a /)
    const only = await readFile(join(output, 'only.manifest'), 'utf8')
    assert.match(only, /^\.\/deep\/down \S+ 0:4:file\n$/)
    assert.deepEqual(
      (await readdir(output)).filter((name) => name.startsWith('.manifest.')),
      [],
    )
  })

  it('refuses hashes that are only trusted, and says how many', async () => {
    const { dir, remove } = await temporary()
    const env = { ...lab.env, KEEPGW_MAPPINGS: dir }
    const many = await makeBucket(server)
    for (let i = 0; i < 40; i++) await many.put(`k${i}`, `content ${i}`)
    await keepgwOk(['index', many.name, '--quiet', '--etag=trust'], env)
    const refused = await keepgw(['manifest', many.name], env)
    assert.deepEqual([refused.code, refused.stdout], [1, ''])
    assert.match(refused.stderr, /^keepgw: of \d+ objects nobody has read .*--allow-trusted/)
    const allowed = await keepgwOk(['manifest', many.name, '--allow-trusted'], env)
    await keepgwOk(['index', many.name, '--quiet'], env)
    assert.equal((await keepgwOk(['manifest', many.name], env)).stdout, allowed.stdout)
    await many.destroy()
    await remove()
  })

  it('signs for the token at hand, and only for that', async () => {
    const key = 'a signing key of the cluster'
    const env = {
      ...lab.env,
      ARVADOS_API_TOKEN: 'v2/zzzzz-gj3su-000000000000000/secret',
      KEEPGW_BLOB_SIGNING_KEY: key,
      KEEPGW_BLOB_SIGNING_TTL: '2h',
    }
    const name = `${lab.bucket.name}/a/`
    const hinted = ['manifest', name, '--sign', '--hint', GATEWAY]
    const { stdout, stderr } = await keepgwOk(hinted, env)
    const found = /^\.\/a (\w{32})\+3\+K@(\S+)\+A(\w{40})@(\w{8}) 0:3:x\n$/.exec(stdout)
    assert.ok(found, stdout)
    const [, hash, service, signature, expiry = ''] = found
    assert.equal(service, GATEWAY)
    const seconds = Number.parseInt(expiry, 16) - Date.now() / 1000
    assert.ok(seconds > 7000 && seconds <= 7200, `${seconds}`)
    const message = `${hash}@${env.ARVADOS_API_TOKEN}@${expiry}@1c20`
    assert.equal(signature, createHmac('sha1', key).update(message).digest('hex'))
    assert.ok(!(stdout + stderr).includes('secret') && !(stdout + stderr).includes(key))
    const without = await keepgw(hinted, { ...env, KEEPGW_BLOB_SIGNING_KEY: '' })
    assert.deepEqual([without.code, without.stdout], [2, ''])
  })

  it('signs by the cluster’s configuration, as serve checks by it', async () => {
    const config = join(lab.dir, 'config.yml')
    const [own, other] = ['BlobSigningKey: k1, BlobSigningTTL: 1h30m', 'BlobSigning: false']
    const clusters = `aaaaa: {Collections: {${own}}}, bbbbb: {Collections: {${other}}}`
    await writeFile(config, `Clusters: {${clusters}}`)
    const token = 'v2/zzzzz-gj3su-000000000000000/secret'
    const env = { ...lab.env, ARVADOS_API_TOKEN: token, ARVADOS_CONFIG: config }
    const args = ['manifest', `${lab.bucket.name}/a/`, '--sign', '--cluster-id']
    const verify = (text: string, key: string, ttl: number) => {
      const [, locator = ''] = text.split(' ')
      assert.equal(
        checkSignature(parseLocator(locator), token, Date.now() / 1000, { key, ttl }),
        'valid',
      )
    }
    verify((await keepgwOk([...args, 'aaaaa'], env)).stdout, 'k1', 5400)
    const variables = { KEEPGW_BLOB_SIGNING_KEY: 'k2', KEEPGW_BLOB_SIGNING_TTL: '4.1h' }
    verify((await keepgwOk([...args, 'aaaaa'], { ...env, ...variables })).stdout, 'k2', 14_760)
    for (const [id, says] of [
      ['bbbbb', /BlobSigning is false/],
      ['ccccc', /Clusters\.ccccc is not there/],
    ] as const) {
      const refused = await keepgw([...args, id], env)
      assert.deepEqual([refused.code, refused.stdout], [2, ''])
      assert.match(refused.stderr, says)
    }
    const none = await keepgw([...args, 'aaaaa', '--config=/dev/null'], env)
    assert.equal(none.code, 2)
    assert.match(none.stderr, /no key to sign with.*--config/)
  })

  it('says that objects may be missing until a run about all of them was complete', async () => {
    const { dir, remove } = await temporary()
    const root = join(dir, 'root')
    await mkdir(join(root, 'a'), { recursive: true })
    for (const name of ['a/1', 'a/2', 'b', 'c']) await writeFile(join(root, name), name)
    const env = { PATH: process.env.PATH, HOME: dir, KEEPGW_MAPPINGS: join(dir, 'all') }
    const index = (...flags: string[]) => keepgwOk(['index', root, ...flags], env)
    const isOpen = async () => {
      const { code, stderr } = await keepgw(['manifest', root], env)
      assert.equal(code, /may be missing/.test(stderr) ? 3 : 0)
      return code === 3
    }
    await index('--max-objects', '1')
    assert.equal(await isOpen(), true)
    await index('--prefix', 'a/')
    await index('--exclude', 'b')
    assert.equal(await isOpen(), true)
    const full = openSync('/dev/full', 'w')
    const args = [CLI, 'manifest', root]
    const stdio: StdioOptions = ['ignore', full, 'pipe']
    const lost = spawnSync(process.execPath, args, { env, stdio, encoding: 'utf8' })
    assert.match(lost.stderr, /cannot write the output/)
    assert.equal(lost.status, 1)
    closeSync(full)
    await index()
    assert.equal(await isOpen(), false)
    // A part that is cut into nights.
    await writeFile(join(root, 'a/3'), 'a/3')
    await writeFile(join(root, 'a/4'), 'a/4')
    await index('--prefix', 'a/', '--max-objects', '1')
    assert.equal(await isOpen(), true)
    // Another part has not looked at what is open.
    await index('--prefix', 'b')
    assert.equal(await isOpen(), true)
    assert.match(
      (await keepgwOk(['status', root], env)).stdout,
      /still open +incomplete with --prefix "a\/"/,
    )
    await index('--prefix', 'a/')
    assert.equal(await isOpen(), false)
    await remove()
  })

  it('says to index first what never was, and tells that from what is empty', async () => {
    const { dir, remove } = await temporary()
    const env = { ...lab.env, KEEPGW_MAPPINGS: dir }
    const empty = await makeBucket(server)
    const failing = async () => {
      const { code, stdout, stderr } = await keepgw(['manifest', empty.name], env)
      assert.deepEqual([code, stdout], [1, ''])
      return stderr
    }
    assert.match(await failing(), /is not indexed: there is no mapping .*Run keepgw index first/)
    // A run that reaches nothing leaves a mapping without an object behind.
    const nowhere = ['index', empty.name, '--quiet', '--endpoint-url=http://127.0.0.1:1']
    assert.equal((await keepgw(nowhere, { ...env, AWS_MAX_ATTEMPTS: '1' })).code, 1)
    assert.match(await failing(), /nothing is indexed yet in the mapping .*Run keepgw index first/)
    await keepgwOk(['index', empty.name, '--quiet'], env)
    assert.equal(await failing(), 'keepgw: no object is indexed (See: keepgw status)\n')
    await empty.destroy()
    await remove()
  })

  for (const [what, args, code, says] of [
    [
      'a prefix that no key has',
      ['nothing/'],
      1,
      /no object is indexed whose key starts with "nothing\/"/,
    ],
    [
      'a prefix to strip that not every key has',
      ['', '--strip-prefix', 'a/'],
      2,
      /cannot be taken off/,
    ],
    ['a service of 16 characters', ['', '--hint', 'zzzzz-bi6l4-0123456789abcdef'], 2, /Rendezvous/],
    ['a hint that is none', ['', '--hint', 'K@zzzzz'], 2, /no UUID/],
    ['--split to nowhere', ['', '--split'], 2, /--output/],
    [
      '--split into what is not there',
      ['', '--split', '--output', '/nonexistent/x'],
      1,
      /cannot make the directory \/nonexistent\/x: ENOENT/,
    ],
    ['--json for a manifest', ['', '--json'], 2, /JSON/],
  ] as const) {
    it(`says what is wrong with ${what}`, async () => {
      const [prefix, ...flags] = args
      const name = `${lab.bucket.name}/${prefix}`
      const outcome = await keepgw(['manifest', name, ...flags], lab.env)
      assert.deepEqual([outcome.code, outcome.stdout === ''], [code, flags[0] !== '--json'])
      assert.match(outcome.stderr, says)
    })
  }

  it('ends when nobody reads on', async () => {
    const child = start(['manifest', lab.bucket.name], lab.env)
    child.stdout!.destroy()
    const [code, signal] = await once(child, 'close')
    assert.deepEqual([code, signal], [3, null])
  })

  it('says that objects may be missing where no run has come to its end', async () => {
    const { dir, remove } = await temporary()
    const env = { ...lab.env, KEEPGW_MAPPINGS: dir }
    await keepgwOk(['index', lab.bucket.name, '--quiet', '--max-objects=2'], env)
    const { code, stderr } = await keepgw(['manifest', lab.bucket.name], env)
    assert.equal(code, 3)
    assert.match(stderr, /the last index run was incomplete: objects may be missing/)
    await remove()
  })
})

it('a directory’s manifest is that of its part, too, but for names that are not UTF-8', async () => {
  const { dir, remove } = await temporary()
  const root = join(dir, 'tree')
  await mkdir(join(root, 'sub/x'), { recursive: true })
  await writeFile(join(root, 'sub/x/file'), 'data')
  await writeFile(Buffer.concat([Buffer.from(`${root}/sub/`), Buffer.from([0xff])]), 'odd')
  const env = { PATH: process.env.PATH, HOME: dir }
  await keepgwOk(['index', root, '--quiet'], env)
  const line = `./sub/x ${md5(Buffer.from('data'))}+4 0:4:file\n`
  const whole = await keepgw(['manifest', root], env)
  assert.deepEqual([whole.code, whole.stdout], [3, line])
  assert.match(whole.stderr, /left out: sub\/%FF: its name is not UTF-8/)
  const part = await keepgw(['manifest', join(root, 'sub/x')], env)
  assert.deepEqual([part.code, part.stdout], [0, line])
  const outside = await keepgw(['manifest', dir, '--mappings', join(dir, '.local')], env)
  assert.equal(outside.code, 1)
  await remove()
})

async function serveFor(lab: Indexed): Promise<Served & AsyncDisposable> {
  const served = await serve([`s3:${lab.mapping}:${lab.bucket.name}`], lab.env)
  return Object.assign(served, {
    [Symbol.asyncDispose]: async () => {
      await served.stop()
    },
  })
}
