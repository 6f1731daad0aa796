/** A client that reads an index, which standard input names, and prints how long it took. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { IndexJob } from './load.ts'
import type { Timings } from './reader.ts'

const LF = 0x0a

async function readIndex({ port, blocks }: IndexJob): Promise<Timings> {
  const start = performance.now()
  const since = () => (performance.now() - start) / 1000
  const asked = request({ port, host: '127.0.0.1', path: '/index', agent: false }).end()
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  let firstByte = 0
  let lines = 0
  let end = Buffer.alloc(0)
  for await (const piece of answer as AsyncIterable<Buffer>) {
    firstByte ||= since()
    for (let at = piece.indexOf(LF); at >= 0; at = piece.indexOf(LF, at + 1)) lines += 1
    end = Buffer.concat([end, piece]).subarray(-2)
  }
  const wall = since()
  // The empty line at its end is one more.
  if (lines !== blocks + 1 || end.toString() !== '\n\n') {
    throw new Error(`the index has ${lines} lines`)
  }
  return { wall, firstBytes: [firstByte], ends: [wall] }
}

process.stdout.write(JSON.stringify(await readIndex(JSON.parse(await text(process.stdin)))))
