/** What one cell has to itself: a store that can be broken, a mapping, and the keepgws that it starts. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { assertHonest, assertSameLines, inspect, type State } from '../../crashes/state.ts'
import { environment, type Outcome, type Served, serve, start } from '../../e2e/keepgw.ts'
import type { Fault } from '../fault.ts'
import { type FaultProxy, type Rule, type SeenRequest, startFaultProxy } from '../proxy.ts'
import type { CertificateKind, Lab } from './lab.ts'

/** How a store can be met, before any request. */
export type Front =
  | { kind: 'plain' }
  | { kind: 'down' }
  | { kind: 'certificate'; certificate: CertificateKind }
  /** Its name is not found for so many lookups. */
  | { kind: 'name'; failures: number }

/** A fault on the wire. */
export interface Wire {
  fault: Fault
  match(request: SeenRequest): boolean
  /** Only so many requests, if it is said. */
  times?: number | undefined
  /** Requests that match, and are let through before. */
  after?: number | undefined
}

/** Milliseconds that anything may take, with several cells at once on a busy machine. */
const LIMIT = 60_000

/** Has a module of preload/ run first in whatever is started with the environment. */
export function preload(env: NodeJS.ProcessEnv, name: string): void {
  const url = new URL(`./preload/${name}.ts`, import.meta.url).href
  env.NODE_OPTIONS = `${env.NODE_OPTIONS ?? ''} --import=${url}`
}

export class Bench implements AsyncDisposable {
  readonly lab: Lab
  /** A directory of the cell's own. */
  readonly dir: string
  /** The store as keepgw meets it. */
  readonly proxy: FaultProxy
  readonly endpoint: string
  /** Of the keepgws that are started. */
  readonly env: NodeJS.ProcessEnv
  /** The same, and time goes by as it does elsewhere. */
  readonly calmEnv: NodeJS.ProcessEnv = {}
  readonly #front: Front
  readonly #children: { kill(signal: NodeJS.Signals): boolean }[] = []
  readonly #others: FaultProxy[] = []

  /** `fast`: for keepgw, time goes by faster (preload/clock.ts). */
  static async open(lab: Lab, front: Front, { fast = false } = {}): Promise<Bench> {
    const dir = await mkdtemp(join(lab.dir, 'cell-'))
    const isSecure = front.kind === 'certificate'
    const tls = isSecure ? lab.certificates[front.certificate] : undefined
    const proxy = await startFaultProxy(lab.server, tls)
    const bench = new Bench(lab, dir, proxy, front)
    if (front.kind === 'down') await proxy.down()
    if (front.kind === 'name') {
      preload(bench.env, 'names')
      const file = join(dir, 'lookups')
      await writeFile(file, `${front.failures}`)
      bench.env.KEEPGW_TEST_LOOKUPS = file
    }
    if (isSecure) {
      const { good, [front.certificate]: shown } = lab.certificates
      // An unknown authority is in nobody's bundle.
      const known = front.certificate === 'of an unknown authority' ? [good] : [good, shown]
      bench.env.AWS_CA_BUNDLE = join(dir, 'known.pem')
      await writeFile(bench.env.AWS_CA_BUNDLE, known.map(({ cert }) => cert).join(''))
    }
    Object.assign(bench.calmEnv, bench.env)
    if (fast) preload(bench.env, 'clock')
    return bench
  }

  private constructor(lab: Lab, dir: string, proxy: FaultProxy, front: Front) {
    this.lab = lab
    this.dir = dir
    this.proxy = proxy
    this.#front = front
    this.endpoint =
      front.kind === 'name' ? proxy.endpoint.replace('127.0.0.1', 'store.test') : proxy.endpoint
    // The lab's directory is everybody's HOME: code is compiled once.
    this.env = environment({ ...lab.server, endpoint: this.endpoint }, lab.dir)
  }

  /** Where the cell's mapping lies. */
  get mapping(): string {
    return join(this.dir, 'mapping')
  }

  /** Makes a mapping that knows the whole bucket, for the endpoint of this bench unless told. */
  async copyMapping(to = this.mapping, endpoint = this.endpoint): Promise<void> {
    await this.lab.copyMapping(to, endpoint)
  }

  /** Starts another proxy to the store. */
  async anotherProxy(): Promise<FaultProxy> {
    const proxy = await startFaultProxy(this.lab.server)
    this.#others.push(proxy)
    return proxy
  }

  /** Ends the fault: the store is again as it should be. */
  async mend(): Promise<void> {
    const front = this.#front
    this.proxy.clear()
    for (const other of this.#others) other.clear()
    if (!this.proxy.isUp) await this.proxy.up()
    if (front.kind === 'certificate') this.proxy.renew(this.lab.certificates.good)
    if (front.kind === 'name') await writeFile(this.env.KEEPGW_TEST_LOOKUPS!, '0')
  }

  /** Runs keepgw to its end. Throws where it has not come to it in time. */
  async run(args: string[], env = this.env): Promise<Outcome> {
    return await this.ended(this.start(args, env))
  }

  start(args: string[], env = this.env): ReturnType<typeof start> {
    const child = start(args, env)
    this.#children.push(child)
    return child
  }

  /** Resolves when the child has ended. Throws where that takes too long. */
  async ended(child: ReturnType<typeof start>): Promise<Outcome> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    child.once('close', resolve)
    const late = setTimeout(() => {
      reject(new Error(`it has not ended within ${LIMIT / 1000} s: ${child.output.stderr}`))
    }, LIMIT)
    try {
      await promise
    } finally {
      clearTimeout(late)
    }
    const { secretAccessKey } = this.lab.server
    assert.ok(!child.output.stderr.includes(secretAccessKey), 'it has shown its secret')
    return { ...child.output, code: child.exitCode }
  }

  /** Starts `keepgw serve` of these mappings of a bucket: the lab's unless told. */
  async serve(mappings: string[], flags: string[], bucket = this.lab.bucket.name): Promise<Served> {
    const volumes = mappings.map((mapping) => `s3:${mapping}:${bucket}`)
    const served = await serve(volumes, this.env, flags)
    this.#children.push(served.process)
    return served
  }

  /** Returns what lies in the mapping. Throws unless it is whole, and the catalog says the same. */
  async honestState(mapping = this.mapping): Promise<State> {
    const state = await inspect(mapping)
    assertHonest(state)
    return state
  }

  /** Throws unless the mapping has just what an undisturbed run makes of the bucket, but for some keys. */
  async assertKnows(keys: (key: string) => boolean = () => true): Promise<void> {
    const state = await this.honestState()
    assert.equal(state.intent, undefined, 'a batch is half done')
    const { lines } = this.lab.reference
    const expected = lines.filter((line) => keys(keyOfLine(line)))
    assertSameLines(state.lines, expected, 'lines of the mapping')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL')
    for (const proxy of [this.proxy, ...this.#others]) await proxy.stop()
    await rm(this.dir, { recursive: true, force: true })
  }
}

/** Puts a fault on the wire. */
export function put(proxy: FaultProxy, { fault, match, times, after = 0 }: Wire): Rule {
  let seen = 0
  const matches = (request: SeenRequest): boolean => match(request) && ++seen > after
  return proxy.on(matches, fault, times === undefined ? {} : { times })
}

/** Returns the key that a line of a mapping, `HASH OFFSET:LENGTH:KEY…`, is about. */
export function keyOfLine(line: string): string {
  return /^\w+ \d+:\d+:([^\t]*)/.exec(line)![1]!
}

/** Returns the mapping's description. */
export async function descriptionOf(mapping: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(mapping, '.keepgw', 'remote.json'), 'utf8'))
}
