/**
 * Looks at the pages of a catalog's file before lmdb does, which believes every number in them: of a
 * flipped bit it makes a SIGSEGV, a SIGBUS, an abort(), or a table that ends too early. Each table is a
 * tree of pages (lmdb's mdb.c: MDB_page, MDB_node, MDB_db); read here by read(2), never mapped.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { RootDatabase } from 'lmdb'
import { messageOf } from '../errors.ts'
import { CatalogDamaged, META } from './catalog-disk.ts'

/** Where a page has what (MDB_page_header), bytes. */
const PAGE = {
  number: 0,
  transaction: 8,
  flags: 18,
  lower: 20,
  upper: 22,
  overflowPages: 20,
  head: 24,
}
/** Where a node has what (MDB_node). */
const NODE = { low: 0, high: 2, flags: 4, keySize: 6, head: 8 }
/** Where the root of a table has what (MDB_db). */
const TABLE = {
  flags: 4,
  depth: 6,
  branchPages: 8,
  leafPages: 16,
  overflowPages: 24,
  entries: 32,
  root: 40,
  size: 48,
}
const BRANCH = 1
const LEAF = 2
const OVERFLOW = 4
/** The data lies in pages of their own. */
const BIG_DATA = 1
/** The data is the root of a table. */
const SUB_TABLE = 2
/** MDB_ovpage: number, transaction, count. */
const OVERFLOW_REFERENCE = 24
const NO_ROOT = 0xffff_ffff_ffff_ffffn
const MAX_DEPTH = 32
/** The table of free pages has numbers for keys (MDB_INTEGERKEY); no other has a flag. */
const NUMBERS = 8

/** Looks at the pages of a catalog that is written to meanwhile, at most. */
const PAGE_ATTEMPTS = 20

/** Throws CatalogDamaged for pages that lmdb would stumble over. No table may have been opened yet. */
export function refuseBadPages(dir: string, root: RootDatabase): void {
  // While it lasts, no writer uses the pages of this snapshot, or of a later one, again.
  const transaction = root.useReadTransaction()
  try {
    for (let attempt = 1; ; attempt++) {
      const before = lastTransactionOf(root)
      try {
        checkPages(join(dir, 'data.mdb'))
        return
      } catch (error) {
        // Who may not write to the lock file holds no writer back: then it may have been the pages' next use.
        const isStill = lastTransactionOf(root) === before
        if (isStill || attempt === PAGE_ATTEMPTS) {
          throw new CatalogDamaged(dir, messageOf(error), { cause: error })
        }
      }
    }
  } finally {
    transaction.done()
  }
}

/** Returns a number that each write to the catalog raises, by any process. */
export function lastTransactionOf(root: RootDatabase): number {
  return (root.getStats() as { lastTxnId: number }).lastTxnId
}

/**
 * Throws an Error that names the first page that is not as lmdb writes it, in the newest snapshot of
 * the file. The snapshot must not be overwritten meanwhile: hold a transaction of it, or of an older one.
 * Takes 0.3 s for the catalog of a million objects, and memory for a bit a page.
 */
export function checkPages(file: string): void {
  const fd = openSync(file, 'r')
  try {
    new Snapshot(fd).check()
  } finally {
    closeSync(fd)
  }
}

/** What is expected of the keys in a page: they ascend, from `low` on and below `high`. */
interface Bounds {
  low: Buffer | undefined
  high: Buffer | undefined
}

/** A table under way. */
interface Walk {
  /** How its keys are ordered: by their bytes, or as numbers (of transactions). */
  order: (a: Buffer, b: Buffer) => number
  onData?: (data: Buffer) => void
  /** A page for each depth: a page's keys are compared while its children are read. */
  buffers: Buffer[]
  counts: { branchPages: number; leafPages: number; overflowPages: number; entries: number }
}

interface Node {
  low: number
  high: number
  flags: number
  key: Buffer
  /** Where its data begins in the page. */
  keyEnd: number
}

class Snapshot {
  readonly #fd: number
  /** Bytes of the file. */
  readonly #size: number
  readonly #pageSize: number
  readonly #pages: number
  readonly #meta: Buffer
  readonly #transaction: bigint
  /** A bit for each page that has been met. */
  readonly #met: Uint8Array
  readonly #freeLists: Buffer[] = []

  constructor(fd: number) {
    this.#fd = fd
    this.#size = fstatSync(fd).size
    const first = this.#bytes(0, META.end)
    this.#pageSize = first.readUInt32LE(META.pageSize)
    const second = this.#bytes(this.#pageSize, META.end)
    const transaction = (meta: Buffer): bigint => meta.readBigUInt64LE(META.transaction)
    this.#meta = transaction(first) > transaction(second) ? first : second
    this.#transaction = transaction(this.#meta)
    this.#pages = Number(this.#meta.readBigUInt64LE(META.lastPage)) + 1
    this.#met = new Uint8Array(Math.ceil(this.#pages / 8))
  }

  check(): void {
    this.#meet(0)
    this.#meet(1)
    const [main, free] = [META.mainTable, META.freeTable].map((at) => {
      return this.#meta.subarray(at, at + TABLE.size)
    })
    this.#table(main!, byBytes)
    this.#table(free!, byNumber, (list) => this.#freeLists.push(Buffer.from(list)))
    for (const list of this.#freeLists) this.#freePages(list)
  }

  #table(table: Buffer, order: Walk['order'], onData?: Walk['onData']): void {
    const counts = { branchPages: 0, leafPages: 0, overflowPages: 0, entries: 0 }
    const walk: Walk = { order, buffers: [], counts, ...(onData === undefined ? {} : { onData }) }
    const root = table.readBigUInt64LE(TABLE.root)
    const depth = table.readUInt16LE(TABLE.depth)
    const flags = table.readUInt16LE(TABLE.flags)
    const isRight = flags === (order === byNumber ? NUMBERS : 0) && depth <= MAX_DEPTH
    if (!isRight || (root === NO_ROOT) !== (depth === 0))
      throw new Error('the head of a table is bad')
    if (depth > 0) this.#page(Number(root), depth, { low: undefined, high: undefined }, walk)
    for (const what of Object.keys(counts) as (keyof Walk['counts'])[]) {
      const said = table.readBigUInt64LE(TABLE[what])
      if (said !== BigInt(counts[what])) {
        throw new Error(`a table has ${counts[what]} ${what}, and not ${said}`)
      }
    }
  }

  #page(number: number, depth: number, bounds: Bounds, walk: Walk): void {
    const isLeaf = depth === 1
    const page = this.#read(number, depth, walk)
    const lower = page.readUInt16LE(PAGE.lower)
    const upper = page.readUInt16LE(PAGE.upper)
    const isRight =
      page.readUInt16LE(PAGE.flags) === (isLeaf ? LEAF : BRANCH) &&
      lower % 2 === 0 &&
      lower >= (isLeaf ? 2 : 4) &&
      lower <= upper &&
      upper <= this.#pageSize - PAGE.head
    if (!isRight) throw bad(number, 'its head')
    walk.counts[isLeaf ? 'leafPages' : 'branchPages'] += 1
    const count = lower / 2
    let { low } = bounds
    for (let i = 0; i < count; i++) {
      const node = this.#node(page, number, i)
      // The first key of a branch stands for all that is smaller.
      if (isLeaf || i > 0) {
        const { key } = node
        const order = low === undefined ? -1 : walk.order(low, key)
        // A leaf may begin with the very key that its branch has for it.
        const isBehind = order < 0 || (order === 0 && isLeaf && i === 0)
        const isBefore = bounds.high === undefined || walk.order(key, bounds.high) < 0
        if (key.length === 0 || !isBehind || !isBefore) throw bad(number, `the order of key ${i}`)
        low = key
      }
      if (isLeaf) this.#data(page, number, node, walk)
      else {
        const child = node.low + node.high * 0x1_0000 + node.flags * 0x1_0000_0000
        const high = i + 1 < count ? this.#node(page, number, i + 1).key : bounds.high
        this.#page(child, depth - 1, { low, high }, walk)
      }
    }
  }

  #node(page: Buffer, number: number, i: number): Node {
    const at = PAGE.head + page.readUInt16LE(PAGE.head + 2 * i)
    const upper = PAGE.head + page.readUInt16LE(PAGE.upper)
    const isHere = at >= upper && at + NODE.head <= this.#pageSize
    const keyEnd = isHere ? at + NODE.head + page.readUInt16LE(at + NODE.keySize) : Infinity
    if (keyEnd > this.#pageSize) throw bad(number, `node ${i}`)
    return {
      low: page.readUInt16LE(at + NODE.low),
      high: page.readUInt16LE(at + NODE.high),
      flags: page.readUInt16LE(at + NODE.flags),
      key: page.subarray(at + NODE.head, keyEnd),
      keyEnd,
    }
  }

  #data(page: Buffer, number: number, { low, high, flags, keyEnd }: Node, walk: Walk): void {
    walk.counts.entries += 1
    const size = low + high * 0x1_0000
    const end = keyEnd + (flags === BIG_DATA ? OVERFLOW_REFERENCE : size)
    if (end > this.#pageSize) throw bad(number, 'the size of its data')
    const data = page.subarray(keyEnd, end)
    if (flags === BIG_DATA) this.#overflow(data, size, walk)
    else if (flags === SUB_TABLE && size === TABLE.size) this.#table(data, byBytes)
    else if (flags === 0) walk.onData?.(data)
    else throw bad(number, 'the flags of its data')
  }

  #overflow(reference: Buffer, size: number, { counts, onData }: Walk): void {
    const first = Number(reference.readBigUInt64LE(0))
    const count = Number(reference.readBigUInt64LE(16))
    const isThere = (first + count) * this.#pageSize <= this.#size
    if (!isThere || count * this.#pageSize < PAGE.head + size) throw bad(first, 'its size')
    for (let i = 0; i < count; i++) this.#meet(first + i)
    const head = this.#bytes(first * this.#pageSize, PAGE.head)
    const isRight =
      this.#isHeadOf(head, first) &&
      head.readUInt16LE(PAGE.flags) === OVERFLOW &&
      head.readUInt32LE(PAGE.overflowPages) === count
    if (!isRight) throw bad(first, 'its head')
    counts.overflowPages += count
    onData?.(this.#bytes(first * this.#pageSize + PAGE.head, size))
  }

  /** Lists are a count, and then numbers of pages; a negative one says how many follow from the next on. */
  #freePages(list: Buffer): void {
    const count = list.length < 8 ? 0n : list.readBigInt64LE(0)
    if (count < 0n || (Number(count) + 1) * 8 > list.length)
      throw new Error('a list of free pages is bad')
    for (let i = 1; i <= Number(count); i++) {
      const entry = Number(list.readBigInt64LE(8 * i))
      if (entry === 0) continue
      if (entry > 0) this.#meet(entry)
      else if (i === Number(count)) throw new Error('a list of free pages is bad')
      else {
        const first = Number(list.readBigInt64LE(8 * ++i))
        for (let page = 0; page < -entry; page++) this.#meet(first + page)
      }
    }
  }

  #meet(number: number): void {
    if (!(number >= 0 && number < this.#pages)) throw new Error(`there is no page ${number}`)
    const bit = 1 << (number & 7)
    if (this.#met[number >>> 3]! & bit) throw bad(number, 'it is used twice')
    this.#met[number >>> 3]! |= bit
  }

  #read(number: number, depth: number, { buffers }: Walk): Buffer {
    this.#meet(number)
    buffers[depth] ??= Buffer.alloc(this.#pageSize)
    const page = buffers[depth]
    const length = readSync(this.#fd, page, 0, this.#pageSize, number * this.#pageSize)
    if (length < this.#pageSize || !this.#isHeadOf(page, number)) throw bad(number, 'its head')
    return page
  }

  #bytes(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length)
    readSync(this.#fd, bytes, 0, length, at)
    return bytes
  }

  /** A page of a later transaction would be taken for one in memory, to be written to. */
  #isHeadOf(page: Buffer, number: number): boolean {
    return (
      page.readBigUInt64LE(PAGE.number) === BigInt(number) &&
      page.readBigUInt64LE(PAGE.transaction) <= this.#transaction
    )
  }
}

function bad(number: number, what: string): Error {
  return new Error(`page ${number} is bad: ${what}`)
}

function byBytes(a: Buffer, b: Buffer): number {
  return Buffer.compare(a, b)
}

function byNumber(a: Buffer, b: Buffer): number {
  if (a.length !== 8 || b.length !== 8) return 1
  const [x, y] = [a.readBigUInt64LE(0), b.readBigUInt64LE(0)]
  return x < y ? -1 : x > y ? 1 : 0
}
