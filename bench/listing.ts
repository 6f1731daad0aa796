/** The cases in which the listing is all, or nearly all, that is asked for. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { startFaultProxy } from '../test/faults/proxy.ts'
import { type Case, type Contender, ofCommand } from './case.ts'
import { checkListing } from './check.ts'
import { startChild } from './child.ts'
import { keepgwIndex, s5cmdList } from './contenders.ts'
import type { DataSet } from './data.ts'
import type { Lab } from './lab.ts'

const TRUST = { flags: ['--etag=trust'] }

/** A bucket in which nothing has changed since it was indexed. */
export async function reindex(lab: Lab): Promise<Case> {
  const data = await lab.data('many')
  const home = lab.home()
  // The warm-up round is the first index, and reads all objects.
  const keepgw = { ...listingIndex(lab, data, home), isFirst: false }
  return {
    ...againstListing(lab, data, lab.keepgw(keepgw)),
    title: `nothing has changed: ${data.about}`,
    conclude: async () => [await proveListOnly(lab, data, home)],
  }
}

/** A first index that takes ETags for MD5 sums, and reads a sample only. */
export async function trust(lab: Lab): Promise<Case> {
  const data = await lab.data('many')
  const keepgw = { ...listingIndex(lab, data, lab.home()), isFirst: true, settings: TRUST }
  return {
    ...againstListing(lab, data, lab.keepgw(keepgw)),
    title: `first index with --etag=trust: ${data.about}`,
  }
}

/** Ten times the keys must not take more memory. */
export async function memory(lab: Lab): Promise<Case> {
  const server = await startChild('./listing-server.ts')
  const route = { ...lab.store.route, endpoint: server.endpoint }
  const [few, many] = [100_000, 1_000_000].map((usual) => {
    const count = Math.round(usual * lab.scale)
    const bucket = `keys-${count}`
    const run = { route, bucket, amount: count, listed: count, settings: TRUST, home: lab.home() }
    return {
      first: lab.keepgw({ ...run, name: `first index, ${count} keys`, isFirst: true }),
      again: lab.keepgw({ ...run, name: `re-index, ${count} keys`, isFirst: false }),
    }
  }) as [Record<'first' | 'again', Contender>, Record<'first' | 'again', Contender>]
  return {
    title: 'with --etag=trust, of a stand-in that makes its listing up (no SeaweedFS)',
    unit: 'key',
    contenders: [few.first, few.again, many.first, many.again],
    ratios: [
      [many.first, few.first],
      [many.again, few.again],
    ],
    storePid: server.pid,
    close: server.stop,
  }
}

function listingIndex(lab: Lab, { bucket, objects }: DataSet, home: string) {
  const { route } = lab.store
  const count = objects.size
  return { name: 'keepgw', route, bucket: bucket.name, amount: count, home, listed: count, objects }
}

function againstListing(lab: Lab, data: DataSet, keepgw: Contender): Omit<Case, 'title'> {
  const { store, peers } = lab
  const lists = peers.s5cmd && {
    name: 's5cmd ls',
    amount: data.objects.size,
    ...ofCommand(s5cmdList(peers.s5cmd, store.route, data.bucket.name)),
    check: (stdout: string) => checkListing(stdout, data.objects),
  }
  return {
    unit: 'key',
    contenders: lists ? [keepgw, lists] : [keepgw],
    ratios: lists ? [[keepgw, lists]] : [],
    storePid: store.pid,
  }
}

/**
 * Re-indexes once more through a proxy that sees all requests, so that keepgw's own count need not
 * be believed. Throws where one of them is not for the listing.
 */
async function proveListOnly(lab: Lab, { bucket }: DataSet, home: string): Promise<string> {
  const { route } = lab.store
  if (!route.endpoint.startsWith('http:')) return '- requests: not looked at, as they are encrypted'
  const proxy = await startFaultProxy(route)
  try {
    const file = join(home, bucket.name, '.keepgw', 'remote.json')
    const description = await readFile(file, 'utf8')
    // To keepgw, the store has moved.
    await writeFile(file, description.replaceAll(route.endpoint, proxy.endpoint))
    const through = { ...route, endpoint: proxy.endpoint }
    const { args, env } = keepgwIndex(through, bucket.name, home)
    await promisify(execFile)(args[0]!, args.slice(1), { env })
    for (const { method, path } of proxy.requests) {
      assert.match(`${method} ${path}`, /^GET \/[^/]+\/?\?.*list-type=2/, 'not a listing request')
    }
    assert(proxy.requests.length > 0, 'nothing was asked for')
    return `- requests of a re-index: ${proxy.requests.length} for the listing, none for an object`
  } finally {
    await proxy.stop()
  }
}
