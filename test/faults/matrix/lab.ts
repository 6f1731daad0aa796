/** What all cells share: a bucket that nobody changes, and the mapping that an index run makes of it. */
import assert from 'node:assert/strict'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect, type State } from '../../crashes/state.ts'
import { environment, keepgwOk, temporary } from '../../e2e/keepgw.ts'
import { type Certificate, makeCertificate } from '../../servers/certificate.ts'
import { type ListedObject, makeBucket, type S3Server, type TestBucket } from '../../servers/s3.ts'
import { makeBlock } from '../../volume/fakes.ts'
import { startFaultProxy } from '../proxy.ts'

/** Objects, each of one block: what is held back whole, what is not, and what is read in three pieces. */
export const BLOCKS = {
  small: makeBlock(20_000, 1),
  block: makeBlock(1 << 20, 2),
  pieces: makeBlock(9 << 20, 3),
}
/** Two objects of one block. */
export const TWIN = makeBlock(200_000, 4)
const NOTES = 12

const CERTIFICATES = {
  good: {},
  'of an unknown authority': {},
  'of another name': { name: 'DNS:elsewhere.test' },
  'that has expired': { days: -1 },
} as const

export type CertificateKind = keyof typeof CERTIFICATES

export class Lab implements AsyncDisposable {
  readonly server: S3Server
  readonly bucket: TestBucket
  readonly dir: string
  /** As the store lists them. */
  readonly objects: ListedObject[]
  /** Of the bucket's listing, as it goes over the wire. */
  readonly listingBytes: number
  /** What an undisturbed index run makes of the bucket. */
  readonly reference: State
  readonly certificates: Record<CertificateKind, Certificate>
  readonly #close: () => Promise<void>

  /** Fills a bucket and indexes it. The server stays the caller's. */
  static async open(server: S3Server): Promise<Lab> {
    const { dir, remove } = await temporary()
    const bucket = await makeBucket(server)
    for (const [key, { data }] of Object.entries(BLOCKS)) await bucket.put(key, data)
    for (const name of ['a', 'b']) await bucket.put(`twin/${name}`, TWIN.data)
    for (let i = 0; i < NOTES; i++) await bucket.put(`note/${String(i).padStart(2, '0')}`, `${i}`)
    const proxy = await startFaultProxy(server)
    let listingBytes = 0
    const edit = (text: string): string => {
      listingBytes = Buffer.byteLength(text)
      return text
    }
    proxy.on(({ path }) => path.includes('list-type'), { kind: 'edit', edit })
    const env = environment({ ...server, endpoint: proxy.endpoint }, dir)
    await keepgwOk(['index', bucket.name, '--mappings', join(dir, 'reference')], env)
    await proxy.stop()
    const made = Object.entries(CERTIFICATES).map(async ([kind, options]) => {
      return [kind, await makeCertificate(options)] as const
    })
    const certificates = Object.fromEntries(await Promise.all(made)) as Lab['certificates']
    const parts = { server, bucket, dir, listingBytes, certificates }
    const objects = await bucket.list()
    const reference = await inspect(join(dir, 'reference'))
    assert.equal(reference.records.size, objects.length)
    return new Lab({ ...parts, objects, reference }, async () => {
      for (const each of Object.values(certificates)) await each[Symbol.asyncDispose]()
      await bucket.destroy()
      await remove()
    })
  }

  private constructor(
    parts: Omit<Lab, 'copyMapping' | typeof Symbol.asyncDispose>,
    close: () => Promise<void>,
  ) {
    this.server = parts.server
    this.bucket = parts.bucket
    this.dir = parts.dir
    this.objects = parts.objects
    this.listingBytes = parts.listingBytes
    this.reference = parts.reference
    this.certificates = parts.certificates
    this.#close = close
  }

  /** Puts a mapping at `to` that knows the whole bucket, at the endpoint. */
  async copyMapping(to: string, endpoint: string): Promise<void> {
    await cp(join(this.dir, 'reference'), to, { recursive: true })
    const file = join(to, '.keepgw', 'remote.json')
    const description = JSON.parse(await readFile(file, 'utf8'))
    description.remote.endpoint = endpoint
    await writeFile(file, JSON.stringify(description))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close()
  }
}
