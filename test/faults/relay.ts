/**
 * Hands a store's answer to the client, with a fault on the way.
 */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Fault } from './fault.ts'

/**
 * Resolves when the answer is through, or broken off as the fault wants it, or the client is gone.
 * Throws where the store breaks off. `released` ends a stall.
 */
export async function relay(
  answer: IncomingMessage,
  res: ServerResponse,
  fault: Fault | undefined,
  released: Promise<void> | undefined,
): Promise<void> {
  if (fault?.kind === 'edit' || fault?.kind === 'length') return replaceBody(answer, res, fault)
  const at = fault && 'at' in fault ? fault.at : undefined
  const strike = async () => {
    if (fault?.kind === 'reset') {
      await delay(fault.milliseconds ?? 0)
      res.req.socket.resetAndDestroy()
    } else if (fault?.kind === 'cut') res.req.socket.end()
    else if (fault?.kind === 'stall') {
      const over = fault.milliseconds === undefined ? [] : [delay(fault.milliseconds)]
      await Promise.race([released, once(res, 'close'), ...over])
    }
  }
  if (at === undefined) await strike()
  if (!isOpen(res)) return
  writeHead(answer, res, fault)
  let sent = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    let rest = chunk
    if (at !== undefined && at >= sent && at < sent + chunk.length) {
      const here = at - sent
      if (fault?.kind === 'flip') chunk[here] = ~chunk[here]!
      await write(res, chunk.subarray(0, here))
      await strike()
      rest = chunk.subarray(here)
    }
    if (fault?.kind === 'slow') await trickle(res, rest, fault.bytesPerSecond)
    else await write(res, rest)
    if (!isOpen(res)) return
    sent += chunk.length
  }
  res.end()
}

/** Waits for the whole body, and sends another one. */
async function replaceBody(
  answer: IncomingMessage,
  res: ServerResponse,
  fault: Extract<Fault, { kind: 'edit' | 'length' }>,
): Promise<void> {
  const body = Buffer.concat(await Array.fromAsync(answer))
  const other =
    fault.kind === 'edit'
      ? Buffer.from(fault.edit(String(body)))
      : Buffer.concat([body, Buffer.alloc(Math.max(0, fault.bytes - body.length))], fault.bytes)
  if (!isOpen(res)) return
  writeHead(answer, res, fault, other.length)
  res.end(other)
}

function isOpen(res: ServerResponse): boolean {
  // Not res.socket: that is missing while the answer before this one is not quite through.
  return !res.destroyed && res.req.socket.writable
}

function writeHead(
  answer: IncomingMessage,
  res: ServerResponse,
  fault: Fault | undefined,
  length?: number,
): void {
  const { rawHeaders } = answer
  const headers: string[] = []
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name, value] = rawHeaders.slice(i, i + 2) as [string, string]
    const isReplaced = length !== undefined && /^(content-length|transfer-encoding)$/i.test(name)
    // What the store says of its own connection is not for the client's.
    if (isReplaced || /^(connection|keep-alive)$/i.test(name)) continue
    const isEtag = name.toLowerCase() === 'etag' && fault?.kind === 'etag'
    headers.push(name, isEtag ? `"${fault.etag}"` : value)
  }
  if (length !== undefined) headers.push('Content-Length', String(length))
  res.sendDate = false
  res.writeHead(answer.statusCode ?? 0, answer.statusMessage, headers)
  res.flushHeaders()
}

/** Resolves when the bytes are with the kernel, or the client is gone. */
async function write(res: ServerResponse, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0 || !isOpen(res)) return
  await new Promise<void>((resolve) => {
    res.once('close', resolve)
    res.write(bytes, () => {
      res.off('close', resolve)
      resolve()
    })
  })
}

async function trickle(res: ServerResponse, bytes: Uint8Array, bytesPerSecond: number) {
  const pieceLength = Math.max(1, Math.round(bytesPerSecond / 20))
  for (let at = 0; at < bytes.length && isOpen(res); at += pieceLength) {
    const piece = bytes.subarray(at, at + pieceLength)
    await write(res, piece)
    await delay((1000 * piece.length) / bytesPerSecond)
  }
}
