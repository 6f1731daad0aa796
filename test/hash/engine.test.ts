import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openEngine } from '../../src/hash/engine.ts'
import { loadKernel } from '../../src/hash/kernel.ts'
import { RIPE_BYTES, SLOT_BYTES } from '../../src/hash/lane-hasher.ts'
import { BRISK, LaneEngine, PATIENT } from '../../src/hash/lanes.ts'
import { nodeEngine } from '../../src/hash/md5.ts'
import { describeEngine } from '../suites/engine.ts'

const source = fileURLToPath(new URL('../../src', import.meta.url))
const kernel = loadKernel()
const skip = kernel === undefined ? 'this machine has no SIMD for WebAssembly' : false

describeEngine('node engine', nodeEngine, false)
describeEngine('lane engine', kernel ? new LaneEngine(kernel, 64) : nodeEngine, skip)

it('hashes in lanes where the machine can', { skip }, () => {
  assert.ok(openEngine(2) instanceof LaneEngine)
  assert.equal(openEngine(1), nodeEngine)
})

it('hashes with node crypto where the machine has no SIMD', {
  skip: process.arch !== 'x64' && 'V8 can be kept from using SIMD on x64 only',
}, async () => {
  const script = `
      import { openEngine } from '${source}/hash/engine.ts'
      import { nodeEngine } from '${source}/hash/md5.ts'
      console.log(openEngine(2) === nodeEngine)`
  const args = ['--no-enable-sse4-1', '--input-type=module', '--eval', script]
  assert.equal((await promisify(execFile)(process.execPath, args)).stdout, 'true\n')
})

it('hashes with node crypto where there is no address space for more', { skip }, (t) => {
  const { WebAssembly } = globalThis as unknown as { WebAssembly: { Instance(): object } }
  t.mock.method(WebAssembly, 'Instance', function refuse() {
    throw new RangeError('Out of memory')
  })
  assert.equal(openEngine(2), nodeEngine)
})

it('says what is to be done where the module was not built', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'keepgw-hash-'))
  try {
    await cp(source, join(directory, 'src'), { recursive: true })
    await writeFile(join(directory, 'package.json'), '{ "type": "module" }')
    const { openEngine } = await import(join(directory, 'src/hash/engine.ts'))
    assert.throws(() => openEngine(2), /dist\/src\/hash\/md5\.wasm is missing: npm run build/)
  } finally {
    await rm(directory, { recursive: true })
  }
})

it('asks a stream to wait before it holds more than its share', { skip }, async () => {
  const engine = new LaneEngine(kernel!, 8)
  using hasher = engine.open()
  const length = Math.floor(SLOT_BYTES / 16_384)
  const pieces = Array.from({ length }, () => hasher.update(Buffer.alloc(16_384)))
  const full = pieces.find((waits) => waits !== undefined)
  assert.ok(full, `never within ${SLOT_BYTES} bytes`)
  await full
  assert.equal(hasher.update(Buffer.alloc(16_384)), undefined)
})

it('uses the memory of streams that ended again, however they ended', { skip }, async () => {
  const kernel = loadKernel()!
  const engine = new LaneEngine(kernel, 32)
  const round = async (): Promise<void> => {
    const hashers = Array.from({ length: 20 }, () => engine.open())
    for (const hasher of hashers) void hasher.update(Buffer.alloc(100_000))
    await setImmediate()
    const digests = hashers.slice(10).map((hasher) => hasher.digest())
    for (const hasher of hashers) hasher[Symbol.dispose]()
    await Promise.all(digests)
  }
  await round()
  const size = kernel.bytes.length
  for (let i = 0; i < 20; i++) await round()
  assert.equal(kernel.bytes.length, size)
})

it('hashes streams that finish together side by side', { skip }, async (t) => {
  const kernel = loadKernel()!
  const run = t.mock.method(kernel, 'run')
  const engine = new LaneEngine(kernel, 32)
  const digests = Array.from({ length: 16 }, () => {
    const hasher = engine.open()
    void hasher.update(Buffer.alloc(16_384))
    return hasher.digest()
  })
  await Promise.all(digests)
  assert.deepEqual(
    run.mock.calls.map(({ arguments: [lanes, blocks] }) => [lanes.length, blocks]),
    [
      [8, 257],
      [8, 257],
    ],
  )
})

it('waits for a stream that stands still a few times, and then no more', { skip }, async (t) => {
  const run = t.mock.method(kernel!, 'run')
  const engine = new LaneEngine(kernel!, 8)
  using still = engine.open()
  void still.update(Buffer.alloc(1000))
  using fast = engine.open()
  for (let i = 0; i < 160; i++) await fast.update(Buffer.alloc(100_000))
  for (let turn = 0; turn < 5; turn++) {
    run.mock.resetCalls()
    void fast.update(Buffer.alloc(RIPE_BYTES))
    await setImmediate()
    assert.notEqual(run.mock.callCount(), 0)
  }
  run.mock.resetCalls()
  void still.update(Buffer.alloc(1000))
  void fast.update(Buffer.alloc(RIPE_BYTES))
  await setImmediate()
  assert.equal(run.mock.callCount(), 0, 'it moves again, and is waited for')
})

for (const [patience, again] of [
  [PATIENT, 'again'],
  [BRISK, 'no more'],
] as const) {
  const { most } = patience
  it(`an engine that has waited for a stream up to ${most} ms waits for it ${again}`, {
    skip,
  }, async (t) => {
    const kernel = loadKernel()!
    const run = t.mock.method(kernel, 'run')
    const engine = new LaneEngine(kernel, 8, patience)
    using still = engine.open()
    void still.update(Buffer.alloc(1000))
    using fast = engine.open()
    const pieces = Array.from({ length: 20 }, () => fast.update(Buffer.alloc(100_000)))
    await Promise.all(pieces)
    run.mock.resetCalls()
    void fast.update(Buffer.alloc(RIPE_BYTES))
    await setImmediate()
    assert.equal(run.mock.callCount() > 0, patience === BRISK)
  })
}

it('lets what nobody waits for gather until all lanes have something to do', {
  skip,
}, async (t) => {
  const kernel = loadKernel()!
  const run = t.mock.method(kernel, 'run')
  const engine = new LaneEngine(kernel, 32)
  const hashers = Array.from({ length: 12 }, () => engine.open())
  for (let turn = 0; turn < 8; turn++) {
    hashers[turn]!.update(Buffer.alloc(RIPE_BYTES))
    await setImmediate()
    assert.equal(run.mock.callCount(), turn < 7 ? 0 : 1)
  }
  for (const hasher of hashers) hasher[Symbol.dispose]()
})
