/** Several requests of one connection, sent without waiting for answers. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { BlockSource } from '../../src/volume/volume.ts'
import { deliver, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const blocks = Array.from({ length: 30 }, (_, at) => makeBlock(200_000 + at, at + 1))

/** A volume that notes how many of its blocks were read at once, at most; once the gate opens. */
function countingVolume(gate = Promise.resolve()) {
  const seen = { begun: 0, running: 0, most: 0 }
  const sources = blocks.map(({ data, hash }) => {
    const source = makeSource(hash, data, {
      async read(from, sink) {
        seen.begun += 1
        seen.running += 1
        seen.most = Math.max(seen.most, seen.running)
        await gate
        await turn()
        await deliver(data, from, data.length, sink).finally(() => {
          seen.running -= 1
        })
      },
    })
    return [hash, [source]] satisfies [string, BlockSource[]]
  })
  return { seen, volume: makeVolume({ blocks: Object.fromEntries(sources) }) }
}

const head = (hash: string, more = '') => `GET /${hash} HTTP/1.1\r\nHost: x\r\n${more}\r\n`

describe('requests that are sent at once on one connection', () => {
  test('are answered one after the other, in their order', async (t) => {
    const { seen, volume } = countingVolume()
    const h = await Harness.start(t, { volumes: [volume] })
    const heads = blocks.map(({ hash }) => head(hash))
    const [last = ''] = blocks.slice(-1).map(({ hash }) => head(hash, 'Connection: close\r\n'))
    let rest = await h.sendRaw(heads.slice(0, -1).join('') + last)
    for (const { data } of blocks) {
      assert.match(rest, /^HTTP\/1\.1 200 /)
      const begin = rest.indexOf('\r\n\r\n') + 4
      const body = Buffer.from(rest.slice(begin, begin + data.length), 'latin1')
      assert.ok(body.equals(data))
      rest = rest.slice(begin + data.length)
    }
    assert.equal(rest, '')
    assert.equal(seen.most, 1)
  })

  test('hold one block, however many they are, and too many end the connection', async (t) => {
    const { promise: opened, resolve: open } = Promise.withResolvers<void>()
    const { seen, volume } = countingVolume(opened)
    const h = await Harness.start(t, { volumes: [volume] })
    const socket = await h.connect()
    const closed = new Promise((resolve) => socket.on('error', () => {}).once('close', resolve))
    socket.resume()
    socket.write(head(blocks[0]!.hash).repeat(10_000))
    await closed
    open()
    assert.equal((await h.get(`/${blocks[0]!.hash}`)).status, 200)
    assert.equal(seen.begun, 2)
  })

  test('are forgotten when the client goes', async (t) => {
    const { promise: opened, resolve: open } = Promise.withResolvers<void>()
    const { seen, volume } = countingVolume(opened)
    const h = await Harness.start(t, { volumes: [volume] })
    const socket = await h.connect()
    socket.write(blocks.map(({ hash }) => head(hash)).join(''))
    await h.logLine(({ msg }) => msg === 'request')
    socket.destroy()
    await h.logLine(({ msg }) => msg === 'response')
    open()
    assert.equal((await h.get(`/${blocks[0]!.hash}`)).status, 200)
    assert.equal(seen.begun, 2)
  })
})
