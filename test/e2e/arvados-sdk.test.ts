/** The service as the Arvados Python SDK sees it: signed reads, blocks that it puts, ways to get there. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type SigningKey, signLocator } from '../../src/keep/signature.ts'
import {
  type ArvadosSdk,
  deadPort,
  keepService,
  lacksArvadosSdk,
  startArvadosSdk,
} from '../clients/arvados-sdk.ts'
import { makeCertificate } from '../servers/certificate.ts'
import { contents, keepgwOk, md5, type Served, serve, temporary } from './keepgw.ts'

const MIB = 1024 * 1024
const GATEWAY = 'zzzzz-bi6l4-keepgw000000001'
const USER = 'v2/zzzzz-gj3su-000000000000002/usersecret'
const OTHER = 'v2/zzzzz-gj3su-000000000000003/othersecret'
const signing: SigningKey = { key: 'the cluster’s key', ttl: 7200 }

const now = () => Math.floor(Date.now() / 1000)
const locatorOf = (data: Buffer) => `${md5(data)}+${data.length}`

function forUser(locator: string, expiry = now() + 3600): string {
  return signLocator(locator, USER, expiry, signing)
}

const disk = (url: string | number) => keepService(url, 'disk', 'zzzzz-bi6l4-disk00000000001')
const other = (url: string | number) => keepService(url, 'disk', 'zzzzz-bi6l4-disk00000000002')
const gateway = (url: string) => keepService(url, 'gateway:keepgw', GATEWAY)

describe('the Arvados Python SDK', {
  skip: await lacksArvadosSdk(),
}, () => {
  let sdk: ArvadosSdk
  let lab: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  before(async () => {
    sdk = await startArvadosSdk()
    lab = await temporary()
    env = {
      PATH: process.env.PATH,
      HOME: lab.dir,
      KEEPGW_BLOB_SIGNING_KEY: signing.key,
      KEEPGW_BLOB_SIGNING_TTL: '2h',
      ARVADOS_API_TOKEN: USER,
    }
  })
  after(async () => {
    await lab?.remove()
    await sdk?.[Symbol.asyncDispose]()
  })

  describe('reading what was indexed', () => {
    const files = {
      'runs/big.bam': contents(66 * MIB, 'big'),
      'runs/empty': Buffer.alloc(0),
      'runs/a b:c': Buffer.from('a b:c'),
      'notes.txt': Buffer.from('notes'),
    }
    const whole = Object.fromEntries(
      Object.entries(files).map(([name, data]) => [`./${name}`, [md5(data), data.length]]),
    )
    const notes = locatorOf(files['notes.txt'])
    const unknown = locatorOf(Buffer.from('unknown'))
    let root: string
    let served: Served
    let dead: number
    before(async () => {
      root = join(lab.dir, 'lab')
      for (const [name, data] of Object.entries(files)) {
        await mkdir(dirname(join(root, name)), { recursive: true })
        await writeFile(join(root, name), data)
      }
      const mapping = join(lab.dir, 'mapping')
      await keepgwOk(['index', root, '--quiet', '--mappings', mapping], env)
      served = await serve([`file:${mapping}:${root}`], env)
      dead = await deadPort()
    })
    after(() => served?.stop())

    const manifest = async (...flags: string[]) => {
      const args = ['manifest', root, '--mappings', join(lab.dir, 'mapping'), ...flags]
      return (await keepgwOk(args, env)).stdout
    }

    it('reads a signed manifest file by file, with a hint and without', async () => {
      const plain = await manifest('--sign')
      const hinted = await manifest('--sign', '--hint', GATEWAY)
      assert.match(hinted, /\+K@\S+\+A\w{40}@\w{8} /)
      for (const [text, services] of [
        [plain, [disk(served.url)]],
        [plain, [disk(served.url), other(dead)]],
        [hinted, [disk(served.url)]],
        [hinted, [gateway(served.url), disk(dead)]],
      ] as const) {
        assert.deepEqual((await sdk.read(text, [...services], USER)).files, whole)
      }
    })

    it('may read no block of it with another token, nor where nothing is signed', async () => {
      const services = [disk(served.url)]
      await assert.rejects(
        sdk.read(await manifest('--sign'), services, OTHER),
        /KeepReadError.*400/,
      )
      await assert.rejects(sdk.read(await manifest(), services, USER), /KeepReadError.*400/)
    })

    it('gets and finds a block that is signed for its token, in whatever way it is led there', async () => {
      for (const [name, services] of [
        [forUser(notes), [disk(served.url)]],
        [forUser(notes), [disk(served.url), other(dead)]],
        [forUser(notes), [disk(dead), other(served.url)]],
        [forUser(`${notes}+K@${GATEWAY}`), [disk(served.url)]],
        [forUser(`${notes}+K@${GATEWAY}`), [gateway(served.url), disk(dead)]],
        [`${forUser(notes)}+K@${GATEWAY}`, [gateway(served.url), disk(dead)]],
      ] as const) {
        const found = await sdk.get(name, [...services], USER)
        assert.deepEqual(found, { md5: notes.slice(0, 32), size: 5 }, name)
        assert.deepEqual(await sdk.head(name, [...services], USER), { found: true })
      }
    })

    it('reads where ARVADOS_KEEP_SERVICES names the service', async () => {
      const text = await manifest('--sign')
      assert.deepEqual((await sdk.read(text, served.url, USER)).files, whole)
      await assert.rejects(sdk.read(text, served.url, OTHER), /KeepReadError.*400/)
      await assert.rejects(sdk.get(forUser(unknown), served.url, USER), /NotFoundError/)
    })

    it('reads over HTTPS', async () => {
      await using tls = await makeCertificate()
      const flags = [`--tls-certificate=${tls.certFile}`, `--tls-key=${tls.keyFile}`]
      const volume = `file:${join(lab.dir, 'mapping')}:${root}`
      const secure = await serve([volume], env, flags)
      const services = [{ ...disk(secure.url), service_ssl_flag: true }]
      assert.deepEqual((await sdk.read(await manifest('--sign'), services, USER)).files, whole)
      await secure.stop()
    })

    const refusals: [string, string, string, RegExp][] = [
      ['unsigned', notes, USER, /KeepReadError.*400/],
      ['unsigned, with a hint', `${notes}+K@${GATEWAY}`, USER, /KeepReadError.*400/],
      ['expired', forUser(notes, now() - 5), USER, /KeepReadError.*401/],
      ['signed for another token', forUser(notes), OTHER, /KeepReadError.*400/],
      [
        'signed by another cluster',
        signLocator(notes, USER, now() + 3600, { ...signing, key: 'another' }),
        USER,
        /KeepReadError.*400/,
      ],
      [
        'signed for another TTL',
        signLocator(notes, USER, now() + 3600, { ...signing, ttl: 3600 }),
        USER,
        /KeepReadError.*400/,
      ],
      ['signed, but not here', forUser(unknown), USER, /NotFoundError/],
    ]
    for (const [what, locator, token, error] of refusals) {
      it(`gets no block that is ${what}`, async () => {
        for (const services of [[disk(served.url)], [gateway(served.url), disk(served.url)]]) {
          await assert.rejects(sdk.get(locator, services, token), error)
          await assert.rejects(sdk.head(locator, services, token), error)
        }
      })
    }
  })

  describe('writing to directories', () => {
    /** A service of so many new directories, with what lies in them. */
    async function writable(
      directories: number,
      more: NodeJS.ProcessEnv = {},
      flags: string[] = [],
    ) {
      const dir = await mkdtemp(join(lab.dir, 'service-'))
      const roots = Array.from({ length: directories }, (_, at) => join(dir, `root${at}`))
      for (const root of roots) await mkdir(root)
      const volumes = roots.map((root) => `unix:${root}`)
      const served = await serve(volumes, { ...env, ...more }, flags)
      return {
        served,
        copies: async (data: Buffer) => {
          const hash = md5(data)
          const shards = roots.map((root) => readdir(join(root, hash.slice(0, 3))).catch(() => []))
          const names = (await Promise.all(shards)).flat()
          return names.filter((name) => name === hash).length
        },
        [Symbol.asyncDispose]: async () => {
          await served.stop()
        },
      }
    }
    const unsigned = { KEEPGW_BLOB_SIGNING_KEY: '' }
    const blocks = [
      contents(0, ''),
      contents(1, 'one'),
      contents(300_000, 'some'),
      contents(64 * MIB, 'all'),
    ]

    it('puts two copies on two volumes of a service, and gets them back', async () => {
      await using service = await writable(2, unsigned)
      const services = [disk(service.served.url)]
      for (const data of blocks) {
        const { locator } = await sdk.put(data, 2, services)
        assert.equal(locator, locatorOf(data))
        assert.equal(await service.copies(data), 2, `${data.length} bytes`)
        assert.deepEqual(await sdk.get(locator, services), { md5: md5(data), size: data.length })
        assert.deepEqual(await sdk.head(locator, services), { found: true })
      }
    })

    it('puts one copy each on two services with a volume each', async () => {
      await using one = await writable(1, unsigned)
      await using two = await writable(1, unsigned)
      const services = [disk(one.served.url), other(two.served.url)]
      const data = contents(100_000, 'two services')
      const { locator } = await sdk.put(data, 2, services)
      assert.deepEqual([await one.copies(data), await two.copies(data)], [1, 1])
      assert.deepEqual(await sdk.get(locator, [services[1]!]), { md5: md5(data), size: 100_000 })
    })

    it('is told where there are fewer volumes than copies', async () => {
      await using service = await writable(1, unsigned)
      const data = contents(10, 'too few')
      const put = sdk.put(data, 2, [disk(service.served.url)])
      await assert.rejects(put, /KeepWriteError.*wanted \(2/)
      assert.equal(await service.copies(data), 1)
    })

    it('is believed only what was stored in the storage classes that it asks for', async () => {
      await using archive = await writable(2, unsigned, ['--storage-class=archive'])
      await using ordinary = await writable(1, unsigned)
      const services = [disk(archive.served.url), other(ordinary.served.url)]
      const [data, more] = [contents(50_000, 'archive'), contents(50_000, 'both')]
      await assert.rejects(sdk.put(data, 2, services.slice(0, 1)), /KeepWriteError/)
      await sdk.put(data, 2, services, undefined, ['archive'])
      assert.equal(await archive.copies(data), 2)
      await sdk.put(more, 1, services, undefined, ['archive', 'default'])
      assert.deepEqual([await archive.copies(more), await ordinary.copies(more)], [1, 1])
    })

    it('goes past a gateway that takes no blocks', async () => {
      const empty = join(lab.dir, 'empty')
      await mkdir(empty)
      const mapping = join(lab.dir, 'empty-mapping')
      await keepgwOk(['index', empty, '--quiet', '--mappings', mapping], env)
      const readOnly = await serve([`file:${mapping}:${empty}`], { ...env, ...unsigned })
      await using service = await writable(2, unsigned)
      // Whichever of them comes first in a block's order.
      const services = [disk(readOnly.url), other(service.served.url)]
      for (let at = 0; at < 10; at++) {
        const data = contents(100_000, `past ${at}`)
        assert.equal((await sdk.put(data, 2, services)).locator, locatorOf(data))
        assert.equal(await service.copies(data), 2)
      }
      const refused = readOnly.log().filter(({ respStatusCode }) => respStatusCode === 405)
      assert.ok(refused.length > 0, 'the gateway was never asked')
      await readOnly.stop()
    })

    it('gets a locator signed for its token, which no other may read by', async () => {
      await using service = await writable(2)
      const services = [disk(service.served.url)]
      for (const data of blocks.slice(1)) {
        const { locator } = await sdk.put(data, 2, services, USER)
        assert.match(locator, new RegExp(`^${md5(data)}\\+${data.length}\\+A\\w{40}@\\w{8}$`))
        assert.equal(await service.copies(data), 2)
        const found = await sdk.get(locator, services, USER)
        assert.deepEqual(found, { md5: md5(data), size: data.length })
        await assert.rejects(sdk.get(locator, services, OTHER), /KeepReadError.*400/)
        await assert.rejects(sdk.get(locatorOf(data), services, USER), /KeepReadError.*400/)
      }
    })

    it('puts and gets through a service that lies before another one', async () => {
      await using back = await writable(2)
      const front = await serve([`keep:${back.served.url}`], env)
      const services = [disk(front.url)]
      for (const data of blocks.slice(1)) {
        const { locator } = await sdk.put(data, 2, services, USER)
        assert.equal(await back.copies(data), 2)
        const found = { md5: md5(data), size: data.length }
        assert.deepEqual(await sdk.get(locator, services, USER), found)
        assert.deepEqual(await sdk.get(locator, [disk(back.served.url)], USER), found)
        await assert.rejects(sdk.get(locator, services, OTHER), /KeepReadError.*400/)
      }
      await front.stop()
    })

    it('writes a collection, whose signed manifest it reads', async () => {
      await using service = await writable(2)
      const services = [disk(service.served.url)]
      const files = {
        'a/big': contents(70 * MIB, 'collection'),
        'a/small': Buffer.from('small'),
        'empty file': Buffer.alloc(0),
      }
      const { manifest } = await sdk.write(files, 2, services, USER)
      const read = await sdk.read(manifest, services, USER)
      assert.deepEqual(
        read.files,
        Object.fromEntries(
          Object.entries(files).map(([name, data]) => [`./${name}`, [md5(data), data.length]]),
        ),
      )
      await assert.rejects(sdk.read(manifest, services, OTHER), /KeepReadError.*400/)
    })
  })
})
