/** Runs a cell of serving: a client asks for a block while a store fails, and again when it is mended. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import type { Served } from '../../e2e/keepgw.ts'
import { type Answer, readAnswer } from '../../server/harness.ts'
import { Bench, type Front, put, type Wire } from './bench.ts'
import type { Cell, CellOptions, Operation } from './cell.ts'
import { BLOCKS, type Lab } from './lab.ts'

/**
 * What a client gets. `whole`: 200 and the right bytes. `cut`: 200 and less than its Content-Length
 * says. Else: this status.
 */
export type Got = 'whole' | 'cut' | 404 | 502 | 503

export interface ServeCase extends CellOptions {
  fault: string
  moment: string
  /** The block that is asked for; `block` unless told. */
  block?: keyof typeof BLOCKS
  method?: 'GET' | 'HEAD'
  front?: Front
  /** Faults of the first place's store. */
  wires?: Wire[]
  /** Of the second one's, which is well unless told. */
  second?: Wire[]
  /** The fault comes after a first block that was served well. */
  later?: boolean
  /** What else makes the fault. Returns what then looks at what must hold, or undoes it. */
  arrange?(bench: Bench): Promise<() => unknown>
  got: Got
  /** What the log must say. */
  says?: RegExp
  /** What the next client gets, while the fault is still there. */
  next?: Got
}

const WORDS: Record<Got, string> = {
  whole: '200, whole and right',
  cut: 'cut short, so taken for whole by nobody',
  404: '404: proven gone or changed',
  502: '502: wrong bytes are held back',
  503: '503: out of reach, which is not gone',
}

/** Seconds of silence after which a place is left. */
const IDLE = 2
const FLAGS = [`--idle-timeout=${IDLE}`]
const LIMIT = 60_000

/** Returns the cells of a table. */
export function serveCells(operation: Operation, cases: readonly ServeCase[]): Cell[] {
  return cases.map((each) => ({
    operation,
    fault: each.method === 'HEAD' ? `${each.fault} (HEAD)` : each.fault,
    moment: each.moment,
    expected: wordsOf(each),
    quick: each.quick === true,
    safeguards: each.safeguards ?? [],
    run: (lab) => runCase(lab, operation, each),
  }))
}

function wordsOf({ got, next, method }: ServeCase): string {
  const first = method === 'HEAD' && got === 'whole' ? '200' : WORDS[got]
  return next === undefined ? first : `${first}; the next client: ${WORDS[next]}`
}

async function runCase(lab: Lab, operation: Operation, each: ServeCase): Promise<void> {
  await using bench = await Bench.open(lab, each.front ?? { kind: 'plain' })
  const mappings = [bench.mapping]
  await bench.copyMapping()
  if (operation === 'serve, two places') {
    const proxy = await bench.anotherProxy()
    mappings.push(`${bench.mapping}-2`)
    await bench.copyMapping(mappings[1], proxy.endpoint)
    for (const wire of each.second ?? []) put(proxy, wire)
  }
  const served = await bench.serve(mappings, FLAGS)
  const client = new Client(served, each)
  if (each.later) await client.gets('whole', 'before the fault')
  for (const wire of each.wires ?? []) put(bench.proxy, wire)
  const afterwards = await each.arrange?.(bench)
  await client.gets(each.got, 'with the fault')
  if (each.next !== undefined) await client.gets(each.next, 'the next time')
  await bench.mend()
  await afterwards?.()
  await client.gets('whole', 'after the fault')
  assert.equal(await served.stop(), 0, 'exit code')
  assertSays(served, each.says)
  assert.ok(!served.stderr().includes(lab.server.secretAccessKey), 'it shows its secret')
  for (const mapping of mappings) {
    const { lines } = await bench.honestState(mapping)
    assert.deepEqual(lines, lab.reference.lines, 'the mapping has changed')
  }
}

/** Throws unless a warning or an error in the log matches. */
function assertSays(served: Served, says: RegExp | undefined): void {
  if (says === undefined) return
  const lines = served.log().filter(({ level }) => level === 'warn' || level === 'error')
  const told = lines.map((line) => JSON.stringify(line))
  assert.ok(
    told.some((line) => says.test(line)),
    `the log does not say ${says}: ${told.join(' ')}`,
  )
}

/** Somebody who wants one block. */
class Client {
  readonly #served: Served
  readonly #method: string
  readonly #block: (typeof BLOCKS)[keyof typeof BLOCKS]

  constructor(served: Served, { method = 'GET', block = 'block' }: ServeCase) {
    this.#served = served
    this.#method = method
    this.#block = BLOCKS[block]
  }

  /** Asks for the block, and throws unless the answer is the expected one, and no wrong byte is in a whole one. */
  async gets(expected: Got, when: string): Promise<Answer> {
    const { data, hash } = this.#block
    const isHead = this.#method === 'HEAD'
    const answer = await ask(this.#served, `/${hash}+${data.length}`, this.#method)
    const isWhole = answer.status === 200 && answer.complete
    if (isWhole && !isHead) {
      assert.ok(answer.body.equals(data), `${when}: wrong bytes were delivered as right`)
    }
    if (isWhole) assert.equal(answer.headers['content-length'], String(data.length))
    const got = answer.status === 200 ? (isWhole ? 'whole' : 'cut') : answer.status
    assert.equal(got, expected, `${when}: the client got ${got}, not ${expected}`)
    return answer
  }
}

/** Returns the answer of a service, whole or not. Throws where it does not come to an end. */
export async function ask(served: Served, path: string, method = 'GET'): Promise<Answer> {
  const signal = AbortSignal.timeout(LIMIT)
  const req = request(`${served.url}${path}`, { method, agent: false, signal }).end()
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  const answer = await readAnswer(res)
  assert.ok(!signal.aborted, `no end within ${LIMIT / 1000} s`)
  return answer
}
