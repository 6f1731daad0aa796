/** For the crash tests: a bucket that changes, ways to kill a run, and what is left of it then. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, type FSWatcher, mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { chmod, mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Catalog, type Intent } from '../../src/mapping/catalog.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import {
  type CatalogRecord,
  segmentCount,
  segmentHash,
  segmentPlace,
} from '../../src/mapping/record.ts'
import type { FaultProxy } from '../faults/proxy.ts'
import type { TestBucket } from '../servers/s3.ts'
import { start } from './keepgw.ts'

const BLOCK = 67_108_864

/** Returns numbers from 0 up to (not including) 1, always the same for a seed. */
export function seededRandom(seed: number): () => number {
  let drawn = 0
  return () => {
    const digest = createHash('sha256').update(`${seed} ${drawn++}`).digest()
    return digest.readUIntBE(0, 6) / 2 ** 48
  }
}

/** What lies in a bucket: key to content. */
export type Content = ReadonlyMap<string, string>

/** Contents that many objects share; the first one has more lines than fit into 4 KiB. */
const SHARED = Array.from({ length: 8 }, (_, i) => `shared by many: ${i}`)

/** Returns `count` small objects, a third of them repeating another, and one of two blocks. */
export function firstContent(count: number, random: () => number): Content {
  const content = new Map<string, string>()
  for (let i = 0; i < count; i++) content.set(keyOf('first', i), text(`first ${i}`, random))
  content.set('empty', '')
  content.set('odd/a b:c 100%41 é', 'an odd key')
  content.set('large', `${'\0'.repeat(BLOCK)}${SHARED[1]}`)
  return content
}

/**
 * Returns the content later on: of a hundred objects 5 are deleted and 25 changed (some to what
 * another object was), 20 are added and 5 copied.
 */
export function laterContent(name: string, content: Content, random: () => number): Content {
  const later = new Map(content)
  let i = 0
  for (const [key, old] of content) {
    const dice = random()
    if (key === 'large') continue
    if (dice < 0.05) later.delete(key)
    else if (dice < 0.3) later.set(key, text(`${name} ${i}`, random))
    else if (dice < 0.5) later.set(keyOf(name, i), text(`${name} new ${i}`, random))
    else if (dice < 0.55) later.set(keyOf(`${name}-copy`, i), old)
    i += 1
  }
  // Two objects change places.
  const [a, b] = [...later.keys()].filter((key) => later.get(key) === content.get(key))
  later.set(a!, content.get(b!)!).set(b!, content.get(a!)!)
  return later
}

function keyOf(name: string, i: number): string {
  return `d${i % 7}/${name}-${String(i).padStart(5, '0')}`
}

function text(unique: string, random: () => number): string {
  const dice = random()
  if (dice < 0.15) return SHARED[0]!
  return dice < 0.33 ? SHARED[Math.floor(random() * SHARED.length)]! : unique
}

/** Makes the bucket, which holds `from`, hold `to`. */
export async function store(bucket: TestBucket, from: Content, to: Content): Promise<void> {
  const work = [
    ...[...from.keys()].filter((key) => !to.has(key)).map((key) => () => bucket.remove(key)),
    ...[...to]
      .filter(([key, data]) => from.get(key) !== data)
      .map(([key, data]) => () => {
        return data.length > BLOCK ? bucket.putLarge(key, Buffer.from(data)) : bucket.put(key, data)
      }),
  ]
  const hands = Array.from({ length: 16 }, async () => {
    for (let next = work.pop(); next !== undefined; next = work.pop()) await next()
  })
  await Promise.all(hands)
}

/**
 * Returns the environment of a run whose batches are due after 0.3 s, not 5 s: many batches from few
 * objects. Only the clock of that one timer is changed, from outside.
 */
export function hasty(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const script = `globalThis.setTimeout = new Proxy(setTimeout, {
    apply: (timer, self, [run, ms, ...rest]) => timer(run, ms === 5000 ? 300 : ms, ...rest)
  })`
  return { ...env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` }
}

/** A run that is to be killed. */
export interface Victim {
  args: string[]
  env: NodeJS.ProcessEnv
  /** Its mapping's directory, which need not exist. */
  mapping: string
  /** A directory for what a way to kill needs. */
  scratch: string
}

/** Runs the victim to its end; resolves to whether it was killed before it came to its own. */
export type Kill = (victim: Victim) => Promise<boolean>

/**
 * Kills at the `nth` sync of the file system, which is between a batch's lines and its commit: with
 * the lines on disk (`after`), or only in the page cache.
 */
export function killAtSync(nth: number, when: 'before' | 'after'): Kill {
  return async (victim) => {
    const { env, calls } = await fakeSync(victim, `[ $n -eq ${nth} ]`, when)
    const killed = await end(start(victim.args, env))
    assert.equal(killed, calls() >= nth)
    return killed
  }
}

/** Runs the victim to its end and returns how often it has synced the file system. */
export async function countSyncs(victim: Victim): Promise<number> {
  const { env, calls } = await fakeSync(victim, 'false', 'before')
  const child = start(victim.args, env)
  assert.equal(await end(child), false)
  assert.equal(child.exitCode, 0, child.output.stderr)
  return calls()
}

/** Puts a `sync` first in the PATH that kills its parent when its `n`th call meets the condition. */
async function fakeSync(victim: Victim, condition: string, when: 'before' | 'after') {
  const dir = await mkdtemp(join(victim.scratch, 'bin-'))
  const log = join(dir, 'calls')
  const real = `PATH='${victim.env.PATH}' sync "$@"`
  const script = `#!/bin/sh
    echo call >> '${log}'
    n=$(wc -l < '${log}')
    if ${condition}; then
      ${when === 'after' ? real : ':'}
      kill -9 $PPID
    else
      ${real}
    fi`
  await writeFile(join(dir, 'sync'), script)
  await chmod(join(dir, 'sync'), 0o755)
  return {
    env: { ...victim.env, PATH: `${dir}:${victim.env.PATH}` },
    calls: () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0),
  }
}

/** Kills when the tree gets its `nth` new directory: within the lines of a batch. */
export function killAtNewShard(nth: number): Kill {
  return (victim) => killAtEvent(victim, victim.mapping, nth, (name) => /^[0-9a-f]{3}$/.test(name))
}

/** Kills when the file of the content is about to be replaced: the new one lies beside it. */
export function killAtRewrite(content: string): Kill {
  const hash = createHash('md5').update(content).digest('hex')
  return (victim) => {
    const shard = join(victim.mapping, hash.slice(0, 3))
    return killAtEvent(victim, shard, 1, (name) => name.endsWith(`${hash}.new`))
  }
}

/** Kills at the `nth` write to the catalog: within one of its transactions, or just behind it. */
export function killAtCatalogWrite(nth: number): Kill {
  return (victim) => {
    const dir = join(victim.mapping, '.keepgw', 'catalog')
    return killAtEvent(victim, dir, nth, (name) => name === 'data.mdb')
  }
}

async function killAtEvent(
  victim: Victim,
  dir: string,
  nth: number,
  counts: (name: string) => boolean,
): Promise<boolean> {
  mkdirSync(dir, { recursive: true })
  let seen = 0
  let child: ChildProcess | undefined
  const watcher: FSWatcher = watch(dir, (_event, name) => {
    if (counts(name ?? '') && ++seen === nth) child?.kill('SIGKILL')
  })
  try {
    child = start(victim.args, victim.env)
    return await end(child)
  } finally {
    watcher.close()
  }
}

/** Kills so long after the start, wherever the run is by then. */
export function killAfter(milliseconds: number): Kill {
  return async (victim) => {
    const child = start(victim.args, victim.env)
    const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds)
    const killed = await end(child)
    clearTimeout(timer)
    return killed
  }
}

/** Kills when the `nth` request reaches the store; the victim's environment leads to the proxy. */
export function killAtRequest(nth: number, proxy: FaultProxy): Kill {
  return async (victim) => {
    let child: ChildProcess | undefined
    let seen = 0
    const run = () => {
      if (++seen === nth) child?.kill('SIGKILL')
    }
    proxy.on(() => true, { kind: 'before', run })
    child = start(victim.args, victim.env)
    const killed = await end(child)
    proxy.clear()
    return killed
  }
}

async function end(child: ChildProcess): Promise<boolean> {
  await once(child, 'close')
  return child.signalCode === 'SIGKILL'
}

/** What lies on disk, crashed or not. */
export interface State {
  /** Complete lines as `HASH LINE`, sorted. */
  lines: string[]
  /** Names in the tree that are no hash. */
  strangers: string[]
  records: Map<string, CatalogRecord>
  intent: Intent | undefined
  lost: string[]
}

/** Returns what lies on disk; where a run was killed before it had made its catalog, an empty one. */
export async function inspect(mapping: string): Promise<State> {
  const state: State = {
    lines: [],
    strangers: [],
    records: new Map(),
    intent: undefined,
    lost: [],
  }
  // Nothing at all, where the kill came first.
  const names = existsSync(mapping) ? readdirSync(mapping) : []
  const shards = names.filter((name) => name !== '.keepgw')
  for (const shard of shards) {
    for (const name of readdirSync(join(mapping, shard))) {
      if (!/^[0-9a-f]{32}$/.test(name)) state.strangers.push(`${shard}/${name}`)
      const lines = readFileSync(join(mapping, shard, name), 'utf8')
        .split('\n')
        .slice(0, -1)
      if (name.length === 32) state.lines.push(...lines.map((line) => `${name} ${line}`))
    }
  }
  state.lines.sort()
  const catalog = openIfMade(mapping)
  if (catalog === undefined) return state
  try {
    for (const { key, record } of catalog.entries()) state.records.set(key, record)
    state.intent = catalog.intent()
    state.lost = Array.from(catalog.lostBlocks(), ({ hash }) => hash)
  } finally {
    await catalog.close()
  }
  return state
}

function openIfMade(mapping: string): Catalog | undefined {
  try {
    return Catalog.open(mapping, { readOnly: true })
  } catch (error) {
    assert.match(String(error), /cut short|no catalog|ENOENT/)
    return undefined
  }
}

/** Returns the lines that a record has in the tree, as `HASH LINE`: none for a segment to be read anew. */
export function linesOf(key: string, record: CatalogRecord | null): string[] {
  const lines: string[] = []
  for (let segment = 0; segment < segmentCount(record?.size ?? 0); segment++) {
    const hash = segmentHash(record!, segment)
    if (hash !== undefined)
      lines.push(`${hash} ${formatPlace(segmentPlace(key, record!, segment))}`)
  }
  return lines
}

/** Returns what the catalog will say of each object once the intent is carried out. */
export function recordsAfter({ records, intent }: State): Map<string, CatalogRecord> {
  const after = new Map(records)
  for (const change of intent?.changes ?? []) {
    if (change.after === null) after.delete(change.key)
    else after.set(change.key, change.after)
  }
  return after
}

/** Returns how many lines of the pending intent are in the tree already. */
export function linesAhead({ lines, intent }: State): number {
  const there = new Set(lines)
  const ahead = (intent?.changes ?? []).flatMap(({ key, before, after }) => {
    const old = new Set(linesOf(key, before))
    return linesOf(key, after).filter((line) => !old.has(line) && there.has(line))
  })
  return ahead.length
}

/** Asserts that tree and catalog say the same of every hash that no intent names. */
export function assertHonest({ lines, records, intent }: State): void {
  const hashOf = (line: string) => line.slice(0, 32)
  const open = new Set(
    (intent?.changes ?? []).flatMap(({ key, before, after }) =>
      [...linesOf(key, before), ...linesOf(key, after)].map(hashOf),
    ),
  )
  const claimed = Array.from(records, ([key, record]) => linesOf(key, record)).flat()
  const settled = (all: string[]) => all.filter((line) => !open.has(hashOf(line)))
  assertSameLines(settled(lines), settled(claimed).sort(), 'lines beside those of the catalog')
}

/** Asserts that two sorted lists are the same; says where they part, not all that they hold. */
export function assertSameLines(actual: string[], expected: string[], what: string): void {
  const at = expected.findIndex((line, i) => actual[i] !== line)
  if (at < 0 && actual.length === expected.length) return
  const first = at < 0 ? expected.length : at
  assert.fail(
    `${what}: ${actual.length}, not ${expected.length}; the first that differs is ` +
      `${JSON.stringify(actual[first])}, not ${JSON.stringify(expected[first])}`,
  )
}
