/** Readers that ask a server for blocks all the time, and compare each byte with what was put. */
import { Agent, get, type IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Block, ChangingBucket } from './changing-bucket.ts'

const READERS = 6
/** Of a hundred reads, so many are of large objects. */
const LARGE_PERCENT = 1
/** Of a hundred, so many end their connection: the next one goes to the next worker. */
const CLOSE_PERCENT = 5
/** As an SDK would: what is refused for now is asked for again. */
const TRIES = 8

/** What came of one request. */
type Verdict = 'right' | 'wrong' | 'missing' | 'again'

export class Readers {
  /** Blocks that came whole. */
  blocks = 0
  bytes = 0
  /** Answers that looked whole, and were not what was put. */
  wrong = 0
  /** Blocks that an object has held since before the last whole index run began, and were not to be had. */
  lost = 0
  /** Answers of 503 or 502, and broken connections, after which another request was made. */
  again = 0
  /** Milliseconds: the longest that a block of a small object took. */
  slowest = 0
  /** What was wrong or lost, a line each. */
  readonly complaints: string[] = []
  readonly #url: string
  readonly #bucket: ChangingBucket
  /** When the last index run began that came to its end. */
  readonly #indexed: () => number
  readonly #agent = new Agent({ keepAlive: true })
  #isOver = false

  constructor(url: string, bucket: ChangingBucket, indexed: () => number) {
    this.#url = url
    this.#bucket = bucket
    this.#indexed = indexed
  }

  /** Reads blocks at random until stop() is called. */
  async run(): Promise<void> {
    const readers = Array.from({ length: READERS }, async () => {
      while (!this.#isOver) {
        const size = Math.random() * 100 < LARGE_PERCENT ? 'large' : 'small'
        const block = this.#bucket.pickHeldSince(this.#indexed(), size)
        if (block !== undefined) await this.read(block)
        await delay(Math.random() * 10)
      }
    })
    await Promise.all(readers)
  }

  stop(): void {
    this.#isOver = true
  }

  close(): void {
    this.#agent.destroy()
  }

  /** Reads one block, which an object has held since before the last index began, and takes down what came. */
  async read(block: Block): Promise<void> {
    const indexed = this.#indexed()
    const began = performance.now()
    for (let tries = 1; ; tries++) {
      const { verdict, reason } = await this.#ask(block)
      if (verdict === 'right') {
        this.blocks += 1
        this.bytes += block.size
        if (block.offset === 0 && block.size < 67_108_864) {
          this.slowest = Math.max(this.slowest, performance.now() - began)
        }
        return
      }
      if (verdict === 'wrong') {
        this.wrong += 1
        this.#complain('wrong', block, reason)
        return
      }
      // Its object was changed or deleted meanwhile: then it may be gone.
      if (!this.#bucket.isHeldSince(block, indexed)) return
      if (verdict === 'missing' || tries === TRIES) {
        this.lost += 1
        this.#complain('lost', block, reason)
        return
      }
      this.again += 1
      await delay(250)
    }
  }

  #complain(what: string, { hash, size }: Block, reason: string): void {
    this.complaints.push(`${new Date().toISOString()} ${what}: ${hash}+${size}: ${reason}`)
  }

  async #ask(block: Block): Promise<{ verdict: Verdict; reason: string }> {
    try {
      const answer = await this.#request(`/${block.hash}+${block.size}`)
      const { statusCode = 0 } = answer
      if (statusCode !== 200) {
        answer.resume()
        return { verdict: statusCode === 404 ? 'missing' : 'again', reason: `status ${statusCode}` }
      }
      let at = 0
      let isRight = true
      for await (const chunk of answer) {
        isRight &&= isPartOf(block, at, chunk)
        at += chunk.length
      }
      isRight &&= at === block.size
      return { verdict: isRight ? 'right' : 'wrong', reason: `${at} bytes` }
    } catch (error) {
      return { verdict: 'again', reason: String(error) }
    }
  }

  #request(path: string): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = Math.random() * 100 < CLOSE_PERCENT ? { Connection: 'close' } : {}
      const options = { agent: this.#agent, timeout: 60_000, headers }
      const request = get(this.#url + path, options, resolve)
      request.on('timeout', () => request.destroy(new Error('no byte for a minute')))
      request.on('error', reject)
    })
  }
}

/** True if these are the bytes of the block from `at` on. */
function isPartOf({ pattern, offset }: Block, at: number, chunk: Buffer): boolean {
  const start = (offset + at) % pattern.length
  const expected = Buffer.alloc(
    chunk.length,
    Buffer.concat([pattern.subarray(start), pattern.subarray(0, start)]),
  )
  return expected.equals(chunk)
}
