/**
 * A bucket in memory, which a run of the index lists and "reads" in this very thread. Its objects are
 * named by what they hold, so that one of 200 MiB costs no more than an empty one.
 */
import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { HashPool } from '../../src/indexer/hash-pool.ts'
import type { Connect } from '../../src/indexer/index-run.ts'
import { MAX_BLOCK } from '../../src/mapping/place-line.ts'
import { type CatalogRecord, segmentCount } from '../../src/mapping/record.ts'
import { compareKeys } from '../../src/remote/key.ts'
import {
  type ListOptions,
  type ListPage,
  type RangeSupport,
  type ReadRequest,
  RemoteError,
  type RemoteObject,
} from '../../src/remote/remote.ts'

/** What an object holds: whole blocks by their numbers, and bytes behind them that say their number. */
export interface Content {
  full: number[]
  tail: number
  /** `md5`: what a store makes of one part. `parts`: of several. `false`: as under SSE-KMS. */
  etag: 'md5' | 'parts' | 'false'
}

/** How the bucket behaves during one run. */
export interface Behaviour {
  /** Keys that are answered with 503. */
  unreadable: string[]
  /** Objects of a page. */
  pageSize: number
  /** Whether `a/1` comes before `a-b`, as in SeaweedFS. */
  order: 'bytes' | 'directories first'
  ranges: RangeSupport
  /** The listing fails after so many pages. */
  failsAfter: number | undefined
  /** What happens when so many segments were read. */
  meanwhile: { reads: number; change(): void } | undefined
}

export class MemoryBucket {
  readonly objects = new Map<string, Content>()

  /** Returns what a plain index should hold of each object. */
  records(): Map<string, CatalogRecord> {
    return new Map(Array.from(this.objects, ([key, content]) => [key, recordOf(content)]))
  }

  /** Returns how a run reaches the bucket while it behaves so. */
  connect(behaviour: Behaviour): Connect {
    let reads = 0
    const pool = {
      room: () => undefined,
      hash: async (request: ReadRequest): Promise<Buffer> => {
        await setImmediate()
        const hash = this.#read(request, behaviour.unreadable)
        reads += 1
        if (reads === behaviour.meanwhile?.reads) behaviour.meanwhile.change()
        return hash
      },
    } as unknown as HashPool
    const remote = {
      store: {
        list: (options: ListOptions) => this.#list(options, behaviour),
        ranges: async () => behaviour.ranges,
        stat: async (key: string) => this.#object(key),
      },
      openPool: () => pool,
      closePools: async () => {},
      close: async () => ({ list: 0, get: reads, head: 0 }),
    }
    return () => remote as unknown as ReturnType<Connect>
  }

  #read({ key, etag, offset, length }: ReadRequest, unreadable: string[]): Buffer {
    if (unreadable.includes(key)) throw new RemoteError('unreachable', `injected: ${key}`)
    const object = this.#object(key)
    if (object.etag !== etag) throw new RemoteError('changed', `${key} has another ETag`)
    const { full, tail } = this.objects.get(key)!
    const segment = offset / MAX_BLOCK
    return length === MAX_BLOCK ? hashOfFull(full[segment]!) : hashOfTail(tail)
  }

  #object(key: string): RemoteObject {
    const content = this.objects.get(key)
    if (content === undefined) throw new RemoteError('gone', `no ${key}`)
    const { etag, size, lastModified } = recordOf(content)
    return { key, etag, size, lastModified, archived: false }
  }

  async *#list(
    { prefix = '', after }: ListOptions,
    { pageSize, order, failsAfter }: Behaviour,
  ): AsyncGenerator<ListPage> {
    const compare = order === 'bytes' ? compareKeys : compareDirectoriesFirst
    const keys = [...this.objects.keys()]
      .filter((key) => key.startsWith(prefix) && (!after || compareKeys(key, after) > 0))
      .sort(compare)
    for (let page = 0; page * pageSize < keys.length || page === failsAfter; page++) {
      if (page === failsAfter) throw new RemoteError('unreachable', 'injected: no listing')
      const there = keys.slice(page * pageSize, (page + 1) * pageSize)
      const objects = there.filter((key) => this.objects.has(key)).map((key) => this.#object(key))
      yield { objects, unlisted: [] }
    }
  }
}

function recordOf({ full, tail, etag }: Content): CatalogRecord {
  const parts = [...full.map(hashOfFull), ...(tail > 0 ? [hashOfTail(tail)] : [])]
  const hashes = Buffer.concat(parts)
  const size = full.length * MAX_BLOCK + tail
  // The same for the same content: a plain index would not see that it was put once more.
  return { etag: etagOf(hashes, size, etag), size, lastModified: size, hashes }
}

function etagOf(hashes: Buffer, size: number, kind: Content['etag']): string {
  if (kind === 'md5' && segmentCount(size) === 1) return hashes.toString('hex')
  if (kind === 'false') return md5(`not ${hashes.toString('hex')}`).toString('hex')
  return `${md5(hashes).toString('hex')}-2`
}

function hashOfFull(number: number): Buffer {
  return md5(`block ${number}`)
}

function hashOfTail(number: number): Buffer {
  return md5(`tail ${number}`)
}

function md5(data: string | Buffer): Buffer {
  return createHash('md5').update(data).digest()
}

function compareDirectoriesFirst(a: string, b: string): number {
  return compareKeys(a.replaceAll('/', '\0'), b.replaceAll('/', '\0'))
}
