/** Ways to kill a run of `keepgw index`. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, type FSWatcher, mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { chmod, mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { start } from '../e2e/keepgw.ts'
import type { FaultProxy } from '../faults/proxy.ts'

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

/** Puts a `sync` first in the PATH that kills keepgw, whose helper starts it, when its `n`th call meets the condition. */
async function fakeSync(victim: Victim, condition: string, when: 'before' | 'after') {
  const dir = await mkdtemp(join(victim.scratch, 'bin-'))
  const log = join(dir, 'calls')
  const real = `PATH='${victim.env.PATH}' sync "$@"`
  const script = `#!/bin/sh
    echo call >> '${log}'
    n=$(wc -l < '${log}')
    if ${condition}; then
      ${when === 'after' ? real : ':'}
      kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat)
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

/** Kills when the journal of proofs is taken away from those who write to it. */
export const killAtProofs: Kill = (victim) => {
  return killAtEvent(victim, join(victim.mapping, '.keepgw'), 1, (name) => name === 'proofs.taken')
}

/** Kills as the catalog is made. */
export const killAtNewCatalog: Kill = (victim) => {
  return killAtEvent(victim, join(victim.mapping, '.keepgw'), 1, isNewCatalog)
}

/** Kills at the `nth` write to the catalog: within one of its transactions, or just behind it. */
export function killAtCatalogWrite(nth: number): Kill {
  const isData = (name: string) => name === 'data.mdb'
  return (victim) => {
    const own = join(victim.mapping, '.keepgw')
    const catalog = join(own, 'catalog')
    if (existsSync(catalog)) return killAtEvent(victim, catalog, nth, isData)
    return killAtEvent(victim, own, nth, isData, isNewCatalog)
  }
}

/** A catalog is made beside its place, and then renamed. */
function isNewCatalog(name: string): boolean {
  return name.startsWith('catalog')
}

/** Kills at the `nth` event that counts, in the directory or in the first one in it that is `within`. */
async function killAtEvent(
  victim: Victim,
  dir: string,
  nth: number,
  counts: (name: string) => boolean,
  within?: (name: string) => boolean,
): Promise<boolean> {
  mkdirSync(dir, { recursive: true })
  let seen = 0
  let child: ChildProcess | undefined
  const watchers: FSWatcher[] = []
  const look = (path: string): void => {
    const watcher = watch(path, (_event, name) => {
      if (counts(name ?? '') && ++seen === nth) child?.kill('SIGKILL')
      if (watchers.length > 1 || !within?.(name ?? '')) return
      const inner = readdirSync(dir).find(within)
      if (inner !== undefined) look(join(dir, inner))
    })
    watchers.push(watcher)
  }
  look(dir)
  try {
    child = start(victim.args, victim.env)
    return await end(child)
  } finally {
    for (const watcher of watchers) watcher.close()
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
