/** Volumes made of closures, so that a test injects a failure in a line or two. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { RemoteError, type RemoteFailure, type Sink } from '../../src/remote/remote.ts'
import type { BlockSource, IndexedBlock, Volume } from '../../src/volume/volume.ts'

/** Data that does not repeat within a chunk, and its name. */
export function makeBlock(size: number, seed = 1): { data: Buffer; hash: string } {
  const data = Buffer.alloc(size)
  let state = seed
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    data[at] = state >>> 24
  }
  return { data, hash: createHash('md5').update(data).digest('hex') }
}

/** Returns a copy with one byte that is wrong. */
export function corrupted(data: Buffer, at: number): Buffer {
  const copy = Buffer.from(data)
  copy[at] = ~copy[at]! & 0xff
  return copy
}

/**
 * Delivers data[from, to) as a remote does: in memory that is used again, and spoilt, as soon as the
 * sink is done with a chunk.
 */
export async function deliver(data: Uint8Array, from: number, to: number, sink: Sink) {
  const slab = Buffer.alloc(10_000)
  for (let at = from; at < to; at += slab.length) {
    const length = data.subarray(at, to).subarray(0, slab.length).length
    slab.set(data.subarray(at, at + length))
    await sink(slab.subarray(0, length))
    slab.fill(0xee)
  }
}

/** As deliver, into the sink's own memory where it offers any, as a socket does. */
export async function deliverInto(data: Uint8Array, from: number, to: number, sink: Sink) {
  for (let at = from; at < to; ) {
    const room = sink.room?.() ?? Buffer.alloc(10_000)
    const chunk = room.subarray(0, Math.min(room.length, to - at, 100_000))
    chunk.set(data.subarray(at, at + chunk.length))
    await sink(chunk)
    at += chunk.length
  }
}

export function failure(kind: RemoteFailure, delivered = 0): RemoteError {
  return new RemoteError(kind, `injected: ${kind}`, { delivered })
}

export interface FakeSource extends BlockSource {
  /** How often it was told that it holds the block. */
  proofs: number
  /** The offset of each read that was asked for. */
  readonly reads: number[]
}

type Read = BlockSource['read']

/** A good place, unless `overrides` say otherwise. */
export function makeSource(
  name: string,
  data: Uint8Array,
  overrides: Partial<
    Pick<BlockSource, 'unchanged' | 'length' | 'trusted' | 'measured' | 'store' | 'inParts'>
  > & { read?: Read } = {},
): FakeSource {
  const reads: number[] = []
  const read: Read =
    overrides.read ?? ((from, sink, _signal, to = data.length) => deliver(data, from, to, sink))
  return {
    store: overrides.store ?? 'fake',
    inParts: overrides.inParts ?? false,
    length: overrides.length ?? data.length,
    reads,
    toString: () => name,
    read(from, sink, signal, to) {
      reads.push(from)
      return read(from, sink, signal, to)
    },
    unchanged: overrides.unchanged ?? (async () => true),
    trusted: overrides.trusted ?? false,
    measured: overrides.measured ?? false,
    proofs: 0,
    proven() {
      this.proofs += 1
    },
  }
}

/** A place that always fails so, both when read and when asked. */
export function failing(name: string, data: Uint8Array, kind: RemoteFailure): FakeSource {
  const fail = async () => {
    throw failure(kind)
  }
  return makeSource(name, data, { read: fail, unchanged: fail })
}

/** A place whose every body ends with a reset at byte `at`, or with no byte at all behind it. */
export function breaking(name: string, data: Uint8Array, at: number): FakeSource {
  return makeSource(name, data, {
    async read(from, sink) {
      await deliver(data, from, at, sink)
      throw failure('unreachable', Math.max(0, at - from))
    },
  })
}

/** A place that delivers up to byte `at` and then nothing, until it is told to end. */
export function stalling(name: string, data: Uint8Array, at: number): FakeSource {
  return makeSource(name, data, {
    async read(from, sink, signal) {
      await deliver(data, from, at, sink)
      await aborted(signal)
      throw signal.reason
    },
  })
}

/** Settles when the signal aborts. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
}

export interface FakeVolumeParts {
  name?: string
  /** The places of each hash. */
  blocks?: Record<string, BlockSource[]>
  sources?: Volume['sources']
  index?: Volume['blocks']
}

export function makeVolume({ name = 'fake', blocks = {}, ...parts }: FakeVolumeParts): Volume {
  async function* listed(prefix: string): AsyncGenerator<IndexedBlock> {
    for (const hash of Object.keys(blocks).filter((each) => each.startsWith(prefix))) {
      yield { hash, length: blocks[hash]![0]!.length, mtimeNs: 1_700_000_000_123_456_789n }
    }
  }
  return {
    deviceId: `keepgw:${name}`,
    allowWrite: false,
    allowTrash: false,
    replication: 1,
    storageClasses: ['keepgw'],
    toString: () => name,
    sources:
      parts.sources ??
      async function* (hash) {
        yield* blocks[hash] ?? []
      },
    blocks: parts.index ?? listed,
    async close() {},
  }
}
