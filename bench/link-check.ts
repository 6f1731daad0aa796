/** Whether a shaped link lets through what it says, to a reader that costs next to nothing. */
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { S3Access } from '../test/servers/s3.ts'
import type { DataSet } from './data.ts'
import { signedHeaders } from './put.ts'

const CONNECTIONS = 32
const WARM_UP_MS = 1000
const MEASURED_MS = 3000

/** Returns the bytes a second that come through the link when 32 connections read at once. */
export async function linkRate(link: S3Access, data: DataSet): Promise<number> {
  const { hostname, port } = new URL(link.endpoint)
  const keys = [...data.objects.keys()]
  const stop = new AbortController()
  let received = 0
  let next = 0
  /** Reads one object after the other; the store ends the connection behind each. */
  const read = (): void => {
    if (stop.signal.aborted) return
    const onread = {
      buffer: Buffer.allocUnsafeSlow(256 << 10),
      callback: (bytes: number): boolean => {
        received += bytes
        return true
      },
    }
    const socket = connect({ host: hostname, port: Number(port), onread, signal: stop.signal })
    socket.on('error', () => {})
    socket.on('close', read)
    const path = `/${data.bucket.name}/${keys[next++ % keys.length]}`
    const headers = { ...signedHeaders(link, 'GET', path), connection: 'close' }
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
  }
  for (let i = 0; i < CONNECTIONS; i++) read()
  await delay(WARM_UP_MS)
  const [before, since] = [received, performance.now()]
  await delay(MEASURED_MS)
  const rate = (1000 * (received - before)) / (performance.now() - since)
  stop.abort()
  return rate
}
