/** Blocks read from a real S3 server in pieces and in races, with faults on the wire. */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openEngine } from '../../src/hash/engine.ts'
import type { MappingDescription } from '../../src/mapping/description.ts'
import type { Place } from '../../src/mapping/mapping.ts'
import { openS3 } from '../../src/remote/s3/s3.ts'
import { FailureMemory } from '../../src/volume/failure-memory.ts'
import { Hedging } from '../../src/volume/hedging.ts'
import { MappedVolume } from '../../src/volume/mapped.ts'
import type { Hedge } from '../../src/volume/race.ts'
import { ReadAhead } from '../../src/volume/read-ahead.ts'
import { type BlockOutput, readBlock } from '../../src/volume/read-block.ts'
import type { BlockQuery } from '../../src/volume/source-walk.ts'
import { type FaultProxy, type SeenRequest, startFaultProxy } from '../faults/proxy.ts'
import { startStub } from '../remote/s3/stub.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { makeBlock } from './fakes.ts'

const KIB = 1024
const PIECE = 128 * KIB
const { data, hash } = makeBlock(16 * PIECE - 7)
const server = sharedS3()

let bucket: TestBucket
let proxy: FaultProxy
let volume: MappedVolume
/** Keys that hold the block, each object with some bytes before it. */
const OFFSETS = { one: 0, two: 1000 }
let etags: Record<string, string>

function volumeOf(endpoint: string, name: string, places: () => Iterable<Place>): MappedVolume {
  const remote = { kind: 's3', bucket: name, endpoint, region: 'us-east-1' } as const
  const description: MappingDescription = { version: 1, remote, ifMatch: true }
  return new MappedVolume({
    mapping: {
      toString: () => '/mappings',
      async *places() {
        yield* places()
      },
      async *blocks() {},
    },
    description,
    readDescription: async () => description,
    openRemote: (options) => openS3(remote, options),
  })
}

function* places(): Iterable<Place> {
  for (const [key, offset] of Object.entries(OFFSETS)) {
    yield { offset, length: data.length, key, etag: etags[key]! }
  }
}

const isGet = ({ method }: SeenRequest) => method === 'GET'

/** True for a request for the piece of an object that has byte `at` of the block. */
const isPiece = (key: keyof typeof OFFSETS, at: number) => (request: SeenRequest) => {
  const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(String(request.headers.range)) ?? []
  const byte = OFFSETS[key] + at
  return isOf(key)(request) && Number(start) <= byte && byte <= Number(end)
}

const isOf = (key: keyof typeof OFFSETS) => (request: SeenRequest) =>
  isGet(request) && request.path.includes(`/${key}`)

/** Reads the block in pieces. */
async function read(options: Partial<BlockQuery> = {}, output: Partial<BlockOutput> = {}) {
  const chunks: Buffer[] = []
  const failovers: string[] = []
  const hedges: Hedge[] = []
  const error = await readBlock(
    {
      volumes: [volume],
      hash,
      signal: new AbortController().signal,
      failures: new FailureMemory(),
      idleLimit: 30_000,
      engine: openEngine(4),
      readAhead: new ReadAhead({ bytes: 6 * PIECE, pieceBytes: PIECE }),
      onFailover: ({ cause, resumed }) => failovers.push(resumed ? 'resumed' : cause),
      onHedge: (hedge) => hedges.push(hedge),
      ...options,
    },
    { begin() {}, write: (chunk) => void chunks.push(Buffer.from(chunk)), ...output },
  ).then(
    () => undefined,
    (thrown) => thrown,
  )
  return { bytes: Buffer.concat(chunks), error, failovers, hedges }
}

describe('a block in a bucket', { skip: server === undefined && NO_S3 }, () => {
  before(async () => {
    process.env.AWS_ACCESS_KEY_ID = server!.accessKeyId
    process.env.AWS_SECRET_ACCESS_KEY = server!.secretAccessKey
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    volume = volumeOf(proxy.endpoint, bucket.name, places)
    etags = { one: await putBlock('one'), two: await putBlock('two') }
  })
  afterEach(() => {
    proxy.clear()
    proxy.requests.length = 0
  })
  after(async () => {
    await volume?.close()
    await proxy?.stop()
    await bucket?.destroy()
  })

  const putBlock = async (key: keyof typeof OFFSETS) => {
    return (await bucket.put(key, Buffer.concat([Buffer.alloc(OFFSETS[key]), data]))).etag
  }

  test('is read by several requests, which have each byte once', async () => {
    const { bytes, error } = await read()
    assert.equal(error, undefined)
    assert.ok(bytes.equals(data))
    const ranges = proxy.requests.map(({ headers }) => headers.range)
    assert.equal(ranges.length, 16)
    assert.equal(new Set(ranges).size, 16)
  })

  test('is read over few connections, which are used again and again', async () => {
    const write = () => setImmediate()
    for (let i = 0; i < 3; i++) assert.equal((await read({}, { write })).error, undefined)
    const connections = new Set(proxy.requests.map(({ port }) => port))
    assert.equal(proxy.requests.length, 3 * 16)
    assert.ok(connections.size <= 8, `${connections.size} connections`)
  })

  for (const fault of [
    { kind: 'reset', at: 50_000 },
    { kind: 'cut', at: 50_000 },
  ] as const) {
    test(`is read on where a piece ends with a ${fault.kind}`, async () => {
      proxy.on(isPiece('one', 5 * PIECE), fault, { times: 1 })
      const { bytes, error, failovers } = await read()
      assert.equal(error, undefined)
      assert.ok(bytes.equals(data))
      assert.deepEqual(failovers, ['resumed'])
    })
  }

  test('is read on elsewhere where the object was overwritten half-way', async () => {
    proxy.on(
      isPiece('one', 9 * PIECE),
      { kind: 'before', run: () => bucket.put('one', Buffer.concat([data, data])) },
      { times: 1 },
    )
    const { bytes, error, failovers } = await read()
    assert.equal(error, undefined)
    assert.ok(bytes.equals(data))
    assert.deepEqual(failovers, ['changed'])
    assert.ok(proxy.requests.some(isOf('two')))
    etags.one = await putBlock('one')
  })

  test('is cut before its end where one byte of one piece is wrong', async () => {
    proxy.on(isPiece('one', 3 * PIECE), { kind: 'flip', at: 77 }, { times: 1 })
    const { bytes, error } = await read()
    assert.equal(error.failure, 'corrupt')
    assert.equal(bytes.length, data.length - 64 * KIB)
  })

  test('is not asked for further where its client does not take it', async () => {
    const { promise: stalled, resolve: take } = Promise.withResolvers<void>()
    const chunks: Buffer[] = []
    const reading = read(
      {},
      {
        async write(chunk) {
          await stalled
          chunks.push(Buffer.from(chunk))
        },
      },
    )
    // Another client gets all of the block meanwhile: time enough to ask for more.
    while (proxy.requests.length < 7) await setImmediate()
    await read()
    assert.equal(proxy.requests.length, 7 + 16)
    take()
    await reading
    assert.ok(Buffer.concat(chunks).equals(data))
  })

  test('comes from another place where the first one is silent', async () => {
    proxy.on(isOf('one'), { kind: 'stall' })
    const { bytes, failovers, hedges } = await read({ hedging: new Hedging(20) })
    assert.ok(bytes.equals(data))
    assert.deepEqual([failovers, hedges.map(({ won }) => won)], [[], [true]])
  })

  test('comes by another request where there is no other place', async () => {
    const only = volumeOf(proxy.endpoint, bucket.name, () => [...places()].slice(0, 1))
    proxy.on(isOf('one'), { kind: 'stall' }, { times: 1 })
    const readAhead = new ReadAhead({ bytes: 0 })
    const { bytes, hedges } = await read({ volumes: [only], hedging: new Hedging(20), readAhead })
    assert.ok(bytes.equals(data))
    assert.deepEqual(
      hedges.map(({ source, rival, won }) => [source === rival, won]),
      [[true, true]],
    )
    await only.close()
  })

  test('is not there only where every place that was raced is gone', async () => {
    proxy.on(isOf('one'), { kind: 'stall' })
    etags.two = 'another'
    const { error } = await read({ hedging: new Hedging(20), idleLimit: 300 })
    etags.two = await putBlock('two')
    assert.equal(error.failure, 'unreachable')
  })
})

test('nothing of a block is asked for any more when its client has gone', async (t) => {
  const store = await startStub(t, () => undefined)
  process.env.AWS_ACCESS_KEY_ID ??= 'AKIDEXAMPLE'
  process.env.AWS_SECRET_ACCESS_KEY ??= 'the-secret-key'
  const place = { offset: 0, length: data.length, key: 'key', etag: 'etag' }
  const silent = volumeOf(store.endpoint, 'bucket', () => [place])
  t.after(() => silent.close())
  const controller = new AbortController()
  const reading = read({ volumes: [silent], signal: controller.signal, hedging: new Hedging(20) })
  // The piece whose turn it is and six more; and as many again, for the place is silent.
  while (store.requests.length < 8) await setImmediate()
  controller.abort(new Error('gone'))
  assert.equal((await reading).error.message, 'gone')
  while (store.connections.size > 0) await setImmediate()
})
