/** A bucket whose objects come, change, are copied and go, and the ledger of what it has held since when. */
import { createHash } from 'node:crypto'
import { CopyObjectCommand } from '@aws-sdk/client-s3'
import { md5 } from '../../e2e/keepgw.ts'
import type { TestBucket } from '../../servers/s3.ts'

const BLOCK = 67_108_864
/** How many objects there are, about. */
const SMALL = 1500
const LARGE = 5
/** Milliseconds between two changes of large objects. */
const LARGE_EACH = 30_000

/** One block, and enough to know each of its bytes. */
export interface Block {
  hash: string
  size: number
  /** What the object is made of, again and again, and where in it the block begins. */
  pattern: Buffer
  offset: number
}

/** What an object was for a while. Times are those of performance.now(). */
interface Version {
  key: string
  blocks: Block[]
  isLarge: boolean
  /** When the store had it for certain. */
  since: number
  /** When the store was first asked for something else in its place. */
  until: number
}

export interface ChangeCounts {
  puts: number
  overwrites: number
  copies: number
  deletes: number
  large: number
}

/** One change at a time, while anybody may ask what is held. */
export class ChangingBucket {
  readonly counts: ChangeCounts = { puts: 0, overwrites: 0, copies: 0, deletes: 0, large: 0 }
  readonly #bucket: TestBucket
  readonly #held: Record<'small' | 'large', Version[]> = { small: [], large: [] }
  /** All versions that hold, or held, a block. */
  readonly #versions = new Map<string, Version[]>()
  #made = 0
  #largeAt = performance.now()

  constructor(bucket: TestBucket) {
    this.#bucket = bucket
  }

  /** Puts the first objects, without haste. */
  async fill(): Promise<void> {
    for (let at = 0; at < LARGE; at++) await this.#put(this.#newKey('large'), largeSize(), true)
    const hands = Array.from({ length: 8 }, async () => {
      while (this.#held.small.length < SMALL) {
        await this.#put(this.#newKey('small'), smallSize(), false)
      }
    })
    await Promise.all(hands)
  }

  /** Changes a small object: puts, overwrites, copies, moves or deletes; and now and then a large one. */
  async change(): Promise<void> {
    await this.#changeSmall()
    if (performance.now() - this.#largeAt < LARGE_EACH) return
    await this.#changeLarge()
    this.#largeAt = performance.now()
  }

  /** Returns a block of an object that has been there since before `time`, if one is found at once. */
  pickHeldSince(time: number, size: 'small' | 'large'): Block | undefined {
    for (let tries = 0; tries < 20; tries++) {
      const { since, until, blocks } = pick(this.#held[size])
      if (since < time && until === Infinity) return pick(blocks)
    }
    return undefined
  }

  /** True if some object has held the block without a break, from before `time` until now. */
  isHeldSince({ hash }: Block, time: number): boolean {
    const versions = this.#versions.get(hash) ?? []
    return versions.some(({ since, until }) => since < time && until === Infinity)
  }

  /** Returns each block that some object holds now. */
  allHeld(): Block[] {
    const versions = [...this.#held.small, ...this.#held.large]
    const blocks = versions.flatMap((version) => version.blocks)
    return [...new Map(blocks.map((block) => [block.hash, block])).values()]
  }

  async #changeSmall(): Promise<void> {
    const dice = Math.random()
    const some = pick(this.#held.small)
    if (dice < 0.3) await this.#put(this.#newKey('small'), smallSize(), false)
    else if (dice < 0.55) await this.#overwrite(some, smallSize())
    else if (dice < 0.7) await this.#copy(some, this.#newKey('small'))
    else if (dice < 0.75) await this.#copy(some, pick(this.#held.small).key)
    else if (dice < 0.8) {
      await this.#copy(some, this.#newKey('small'))
      await this.#delete(some)
    } else if (this.#held.small.length > SMALL) await this.#delete(some)
  }

  async #changeLarge(): Promise<void> {
    this.counts.large += 1
    const some = pick(this.#held.large)
    const dice = Math.random()
    if (this.#held.large.length > LARGE) await this.#delete(some)
    else if (dice < 0.4) await this.#put(this.#newKey('large'), largeSize(), true)
    else if (dice < 0.7) await this.#overwrite(some, largeSize())
    else await this.#copy(some, this.#newKey('large'))
  }

  /** A few directories, so that a listing has an order worth the name. */
  #newKey(size: 'small' | 'large'): string {
    this.#made += 1
    return `${size}/${this.#made % 17}/${this.#made}`
  }

  async #put(key: string, size: number, isLarge: boolean): Promise<void> {
    const pattern = createHash('shake256', { outputLength: 1009 })
      .update(`${key} ${Math.random()}`)
      .digest()
    const data = Buffer.alloc(size, pattern)
    const blocks: Block[] = []
    for (let at = 0; at < size; at += BLOCK) {
      const bytes = data.subarray(at, at + BLOCK)
      blocks.push({ hash: md5(bytes), size: bytes.length, pattern, offset: at })
    }
    if (isLarge) await this.#bucket.putLarge(key, data, 16 << 20)
    else await this.#bucket.put(key, data)
    this.counts.puts += 1
    this.#hold({ key, blocks, isLarge })
  }

  async #overwrite(version: Version, size: number): Promise<void> {
    this.#end(version)
    this.counts.overwrites += 1
    await this.#put(version.key, size, version.isLarge)
  }

  async #copy({ key: from, blocks, isLarge }: Version, key: string): Promise<void> {
    if (from === key) return
    const target = this.#list(isLarge).find((each) => each.key === key)
    if (target !== undefined) this.#end(target)
    const CopySource = `${this.#bucket.name}/${from}`
    await this.#bucket.client.send(
      new CopyObjectCommand({ Bucket: this.#bucket.name, Key: key, CopySource }),
    )
    this.counts.copies += 1
    this.#hold({ key, blocks, isLarge })
  }

  async #delete(version: Version): Promise<void> {
    this.#end(version)
    await this.#bucket.remove(version.key)
    this.counts.deletes += 1
  }

  #hold(parts: Pick<Version, 'key' | 'blocks' | 'isLarge'>): void {
    const version: Version = { ...parts, since: performance.now(), until: Infinity }
    this.#list(parts.isLarge).push(version)
    for (const { hash } of parts.blocks) {
      this.#versions.set(hash, [...(this.#versions.get(hash) ?? []), version])
    }
  }

  /** The store is about to be asked for something else in its place. */
  #end(version: Version): void {
    version.until = performance.now()
    const list = this.#list(version.isLarge)
    list.splice(list.indexOf(version), 1)
  }

  #list(isLarge: boolean): Version[] {
    return this.#held[isLarge ? 'large' : 'small']
  }
}

/** Bytes: mostly some kilobytes, now and then some megabytes. */
function smallSize(): number {
  return Math.ceil(Math.random() < 0.02 ? Math.random() * 4e6 : Math.random() ** 3 * 100_000)
}

/** Bytes of two blocks or three. */
function largeSize(): number {
  return BLOCK + 1 + Math.floor(Math.random() * 1.2 * BLOCK)
}

function pick<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)]!
}
