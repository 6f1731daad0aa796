/** Hundreds of readers at once: good ones, slow ones, and such as leave half-way. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Served } from '../e2e/keepgw.ts'
import { NO_S3, sharedS3 } from '../servers/s3.ts'
import { holdingOfAll, NO_PROC } from './processes.ts'
import { descriptorsAreBack, IndexedBucket, MemoryWatch, open } from './service.ts'

const MIB = 2 ** 20
const server = sharedS3()
const skip = NO_PROC ?? (server === undefined && NO_S3)

/**
 * What a process may take, whatever its readers do: itself, what is read ahead (64 MiB), and hashed side by
 * side (32 MiB); and for each reader of a large block what is under way to it.
 */
const OWN = 230 * MIB
const EACH = 0.4 * MIB

describe('serve with hundreds of readers', { skip, concurrency: true, timeout: 240_000 }, () => {
  let bucket: IndexedBucket

  before(async () => {
    bucket = await IndexedBucket.make(server!)
  })
  after(() => bucket?.destroy())

  /** Asks for the large block, and returns once the answer has begun. */
  async function begin(served: Served, method = 'GET'): Promise<Socket> {
    const socket = await open(served)
    socket.write(`${method} /${bucket.large.hash} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await once(socket, 'readable')
    return socket
  }
  const several = <T>(count: number, make: (at: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: count }, (_, at) => make(at)))

  const ways: [name: string, processes: number, flags: () => string[]][] = [
    ['one process', 1, () => []],
    ['--workers', 2, () => ['--workers=2']],
    ['--cache', 1, () => ['--cache', join(bucket.dir, 'cache')]],
  ]
  for (const [name, processes, flags] of ways) {
    it(`gives good ones every byte in the midst of slow ones and leaving ones (${name})`, async (t) => {
      const served = await bucket.serve(t, flags())
      const before = holdingOfAll(served)
      await bucket.readAll(served)
      using memory = new MemoryWatch(served)

      const slow = await several(100, () => begin(served))
      // A few bytes, again and again.
      const sips = setInterval(() => {
        for (const socket of slow) socket.read(3)
      }, 500)
      t.after(() => clearInterval(sips))
      const leaving = several(100, async (at) => {
        const socket = await begin(served)
        await delay(at * 10)
        const closed = new Promise((resolve) => socket.once('close', resolve))
        if (at % 2 === 0) socket.resetAndDestroy()
        // Says that it will send no more, and would still read: to a server that is a client that left.
        else socket.end().resume()
        await closed
      })
      const hashes = [...bucket.small.keys()]
      await several(300, (at) => bucket.read(served, hashes[at % hashes.length]!))
      await several(4, () => bucket.read(served, bucket.large.hash))
      await leaving

      for (const socket of slow) assert.equal(socket.closed, false)
      for (const socket of slow) socket.destroy()
      await descriptorsAreBack(served, before)
      const most = processes * OWN + 500 * EACH
      t.diagnostic(`${name}: ${Math.round(memory.most / MIB)} MiB at most`)
      assert.ok(memory.most < most, `${Math.round(memory.most / MIB)} MiB`)
      await bucket.readAll(served)
      assert.equal(await served.stop(), 0)
    })
  }

  it('takes 500 connections at once', async (t) => {
    const served = await bucket.serve(t)
    const before = holdingOfAll(served)
    await bucket.readAll(served)
    const sockets = await several(500, () => open(served))
    const hashes = [...bucket.small.keys()]
    await several(500, (at) => bucket.read(served, hashes[at % hashes.length]!))
    for (const socket of sockets) socket.destroy()
    await descriptorsAreBack(served, before)
    assert.equal(await served.stop(), 0)
  })

  it('outlives a lack of descriptors', async (t) => {
    const served = await bucket.serve(t)
    await bucket.readAll(served)
    const before = holdingOfAll(served)
    try {
      execFileSync('prlimit', ['--pid', String(served.process.pid), '--nofile=100:100'])
    } catch {
      return t.skip('needs prlimit (util-linux)')
    }
    const sockets = await several(200, () => open(served))
    const asked = [...bucket.small.keys()].map((hash) => bucket.read(served, hash))
    // Whoever gets through may be told that the store cannot be reached.
    await Promise.race([Promise.allSettled(asked), delay(2000)])
    for (const socket of sockets) socket.destroy()
    await Promise.allSettled(asked)
    // It may yet have to see that they are gone; until then it turns away whoever comes.
    await descriptorsAreBack(served, before)
    for (const hash of bucket.small.keys()) await bucket.read(served, hash)
    assert.equal(await served.stop(), 0)
  })
})
