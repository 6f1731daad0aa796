/** What every HashEngine does, held against node:crypto. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import type { BlockHasher, HashEngine } from '../../src/hash/md5.ts'
import { runs } from '../fuzz.ts'

const MIB = 1024 * 1024

/** `skip` says why the engine cannot be had here. */
export function describeEngine(name: string, engine: HashEngine, skip: string | false): void {
  describe(name, { skip }, () => {
    it('hashes messages of all lengths around the end of a block', async () => {
      const messages = Array.from({ length: 260 }, (_, length) => bytes(length, length))
      assert.deepEqual(
        await Promise.all(messages.map((message) => hash(engine, message, [message.length]))),
        messages.map(md5),
      )
    })

    it('hashes any number of streams at once, however they come in pieces', async () => {
      const stream = fc.record({
        length: fc.oneof(fc.nat(300), fc.nat(20_000), fc.nat(700_000)),
        pieces: fc.array(fc.oneof(fc.nat(200), fc.nat(140_000)), { minLength: 1, maxLength: 9 }),
        startsAfter: fc.nat(5),
        isPatient: fc.boolean(),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(stream, { minLength: 1, maxLength: 40 }), async (streams) => {
          await Promise.all(
            streams.map(async ({ length, pieces, startsAfter, isPatient }, i) => {
              const message = bytes(length, i)
              for (let turn = 0; turn < startsAfter; turn++) await setImmediate()
              assert.equal(await hash(engine, message, pieces, isPatient), md5(message))
            }),
          )
        }),
        runs(60),
      )
    })

    it('hashes few streams side by side, however few', async () => {
      for (let count = 1; count <= 9; count++) {
        const messages = Array.from({ length: count }, (_, i) => bytes(400_000 + i, count + i))
        assert.deepEqual(
          await Promise.all(messages.map((message) => hash(engine, message, [100_000]))),
          messages.map(md5),
        )
      }
    })

    it('hashes 64 MiB of ten streams side by side', async () => {
      const message = bytes(64 * MIB, 1)
      const found = await Promise.all(
        Array.from({ length: 10 }, (_, i) => hash(engine, message, [(i + 1) * 30_000])),
      )
      assert.deepEqual(new Set(found), new Set([md5(message)]))
    })

    it('counts the bits of a message beyond 2^32', async () => {
      const piece = bytes(MIB, 2)
      const whole = createHash('md5')
      using hasher = engine.open()
      for (let i = 0; i < 513; i++) {
        whole.update(piece)
        await hasher.update(piece)
      }
      assert.equal((await hasher.digest()).toString('hex'), whole.digest('hex'))
    })

    it('is done with a piece when update returns, even where it asks to wait', async () => {
      const message = bytes(3 * MIB, 3)
      const reused = Buffer.alloc(100_000)
      using hasher = engine.open()
      for (let at = 0; at < message.length; at += reused.length) {
        const size = message.copy(reused, 0, at)
        void hasher.update(reused.subarray(0, size))
        reused.fill(0xff)
      }
      assert.equal((await hasher.digest()).toString('hex'), md5(message))
    })

    it('takes a piece of any size at once', async () => {
      const message = bytes(20 * MIB + 7, 4)
      assert.equal(await hash(engine, message, [message.length]), md5(message))
    })

    it('goes on unharmed when streams are given up half-way', async () => {
      const message = bytes(300_000, 5)
      const giveUp = async (size: number): Promise<void> => {
        using hasher = engine.open()
        await hasher.update(bytes(size, 6))
      }
      for (let round = 0; round < 5; round++) {
        const found = await Promise.all([
          hash(engine, message, [50_000]),
          giveUp(10),
          hash(engine, message, [131_072]),
          giveUp(200_000),
          hash(engine, message, [200_000, 1]),
        ])
        assert.deepEqual(found.filter(Boolean), Array(3).fill(md5(message)))
      }
    })

    it('lets nobody wait on for a stream that was given up', async () => {
      const hasher = engine.open()
      const waits = hasher.update(bytes(MIB, 7))
      const waitsToo = hasher.update(bytes(200_000, 7))
      hasher[Symbol.dispose]()
      await Promise.all([waits, waitsToo])
    })

    it('makes a digest that was asked for before the hasher was disposed of', async () => {
      const message = bytes(1000, 8)
      const hasher = engine.open()
      void hasher.update(message)
      const digest = hasher.digest()
      hasher[Symbol.dispose]()
      assert.equal((await digest).toString('hex'), md5(message))
      hasher[Symbol.dispose]()
      assert.equal(await hash(engine, message, [10]), md5(message))
    })

    it('refuses to go on after the digest', async () => {
      const hasher = engine.open()
      await hasher.digest()
      assert.throws(() => hasher.update(bytes(1, 9)))
      await assert.rejects(hasher.digest())
    })

    it('gives out digests that stay as they are', async () => {
      const first = engine.open()
      const digest = await first.digest()
      await Promise.all([bytes(1, 1), bytes(2, 2)].map((each) => hash(engine, each, [1])))
      assert.equal(digest.toString('hex'), md5(Buffer.alloc(0)))
    })
  })
}

/** Resolves to the digest in hex of a message that comes in pieces of these sizes, over and over. */
async function hash(
  engine: HashEngine,
  message: Buffer,
  pieces: number[],
  isPatient = true,
): Promise<string> {
  using hasher: BlockHasher = engine.open()
  for (let at = 0, i = 0; at < message.length; i++) {
    // A size of 0 must not be the only one.
    const size = Math.max(pieces[i % pieces.length]!, i % pieces.length === 0 ? 1000 : 0)
    const full = hasher.update(message.subarray(at, at + size))
    if (isPatient) await full
    at += size
  }
  return (await hasher.digest()).toString('hex')
}

function md5(message: Uint8Array): string {
  return createHash('md5').update(message).digest('hex')
}

/** Returns bytes that are the same for the same seed, and do not repeat within any power of two. */
function bytes(length: number, seed: number): Buffer {
  const piece = Buffer.alloc(Math.min(length, 65_521))
  let state = seed * 2 + 1
  for (let i = 0; i < piece.length; i++) {
    state = Math.imul(state, 0x9e3779b1) + 0x7f4a7c15
    piece[i] = state >>> 24
  }
  return Buffer.alloc(length, piece)
}
