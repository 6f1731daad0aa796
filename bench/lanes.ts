/**
 * Guards the eight lanes: `node bench/lanes.ts`, after `npm run build`. Prints what hashing costs
 * on one core, by each kernel and by the engine with all that is around it; ends with 1 where eight
 * lanes are not as much faster than the others as they have to be. Nothing else should be running:
 * what another thread of the same core uses, the lanes lack.
 */
import { createHash, randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import {
  BLOCK_BYTES,
  instantiate,
  type KernelExports,
  loadKernel,
  readModule,
} from '../src/hash/kernel.ts'
import { LaneEngine } from '../src/hash/lanes.ts'
import { type HashEngine, nodeEngine } from '../src/hash/md5.ts'

/** One way to hash. */
interface Contender {
  name: string
  /** Hashes so many bytes. */
  bytes: number
  run(): void | Promise<void>
  /** Seconds per 10^9 bytes, one for each round. */
  costs: number[]
}

const ROUNDS = 41
const PIECE_BYTES = 64 * 1024
const PIECES = 32
const SMALL_BYTES = 16 * 1024
const STREAMS = 16
const FLOOR_OVER_FOUR = 1.4
const FLOOR_OVER_NODE = 2.5

const data = randomBytes(PIECE_BYTES)
const kernel = loadKernel()
if (kernel === undefined) throw new Error('this machine has no SIMD for WebAssembly')

const module = instantiate(readModule())
const eight = lanesContender('8 lanes', 8, module, module.md5x8)
const four = lanesContender('4 lanes', 4, module, module.md5x4)
const alone = lanesContender('1 stream', 1, module, (blocks) => {
  const [state, address] = new Uint32Array(module.memory.buffer, module.lanes())
  module.md5x1(state!, address!, blocks)
})
const crypto = contender('node crypto', PIECES * PIECE_BYTES, () => {
  const hash = createHash('md5')
  for (let i = 0; i < PIECES; i++) hash.update(data)
  hash.digest()
})
const engine = new LaneEngine(kernel, STREAMS)
const all = [
  eight,
  four,
  alone,
  crypto,
  engineContender('engine, 16 streams', engine),
  engineContender('node engine, 16 streams', nodeEngine),
  smallContender('engine, 16 KiB objects', engine),
  smallContender('node engine, 16 KiB objects', nodeEngine),
]

await warmUp()
for (let round = 0; round < ROUNDS; round++) for (const each of all) await measure(each)
for (const each of all) console.log(`${each.name.padEnd(28)} ${best(each).toFixed(3)} s/GB`)
const overFour = best(four) / best(eight)
const overNode = best(crypto) / best(eight)
console.log(`8 lanes are ${overFour.toFixed(2)} times 4 lanes (at least ${FLOOR_OVER_FOUR}),`)
console.log(`and ${overNode.toFixed(2)} times node crypto (at least ${FLOOR_OVER_NODE})`)
if (overFour < FLOOR_OVER_FOUR || overNode < FLOOR_OVER_NODE) process.exitCode = 1

function contender(name: string, bytes: number, run: Contender['run']): Contender {
  return { name, bytes, run, costs: [] }
}

/** `run` takes one piece of each of the `count` streams that are in the module's table. */
function lanesContender(
  name: string,
  count: number,
  module: KernelExports,
  run: (blocks: number) => void,
): Contender {
  const stream = BLOCK_BYTES + PIECE_BYTES
  module.memory.grow(Math.ceil((count * stream) / 65_536))
  const states = Array.from({ length: count }, (_, i) => module.heap() + i * stream)
  const memory = new Uint8Array(module.memory.buffer)
  for (const state of states) memory.set(data, state + BLOCK_BYTES)
  const table = states.flatMap((state) => [state, state + BLOCK_BYTES])
  return contender(name, PIECES * count * PIECE_BYTES, () => {
    new Uint32Array(module.memory.buffer, module.lanes()).set(table)
    for (let i = 0; i < PIECES; i++) run(PIECE_BYTES / BLOCK_BYTES)
  })
}

/** Streams whose pieces all come in each turn of the event loop. */
function engineContender(name: string, engine: HashEngine): Contender {
  return contender(name, STREAMS * PIECES * PIECE_BYTES, async () => {
    const hashers = Array.from({ length: STREAMS }, () => engine.open())
    for (let i = 0; i < PIECES; i++) {
      await Promise.all(hashers.map((hasher) => hasher.update(data)))
      await setImmediate()
    }
    await Promise.all(hashers.map((hasher) => hasher.digest()))
  })
}

function smallContender(name: string, engine: HashEngine): Contender {
  const object = data.subarray(0, SMALL_BYTES)
  const objects = 50
  return contender(name, STREAMS * objects * SMALL_BYTES, async () => {
    const stream = async (): Promise<void> => {
      for (let i = 0; i < objects; i++) {
        using hasher = engine.open()
        await hasher.update(object)
        await hasher.digest()
      }
    }
    await Promise.all(Array.from({ length: STREAMS }, stream))
  })
}

/** Until V8 has compiled everything with its better compiler, which it does beside. */
async function warmUp(): Promise<void> {
  const end = performance.now() + 2000
  while (performance.now() < end) for (const { run } of all) await run()
}

async function measure(contender: Contender): Promise<void> {
  const start = performance.now()
  await contender.run()
  contender.costs.push(((performance.now() - start) * 1e6) / contender.bytes)
}

/** The cost of the round that was least disturbed: others can only add to it. */
function best({ costs }: Contender): number {
  return Math.min(...costs)
}
