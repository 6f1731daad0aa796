/** The cases in which blocks are served: `keepgw serve` beside a keepstore, to one client of ours. */
import { execFile } from 'node:child_process'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Case, Contender, Result } from './case.ts'
import { startChild } from './child.ts'
import { keepgwIndex } from './contenders.ts'
import type { DataSet } from './data.ts'
import type { Lab } from './lab.ts'
import { measureLoad, runClient } from './load.ts'
import { makeMapping } from './mapping.ts'
import { signedHeaders } from './put.ts'
import type { Job } from './reader.ts'
import { type Service, startKeepgw, startKeepstore } from './servers.ts'
import type { Route } from './store.ts'
import { median } from './table.ts'

const READERS = [1, 4, 8]
/** Of the distant store: milliseconds to the first byte, and bytes a second of one connection. */
const FIRST_BYTE_MS = 100
const RATE_EACH = 50e6

/** Whole blocks: the bytes are what costs. */
export async function serve(lab: Lab): Promise<Case> {
  const data = await lab.data('blocks')
  const services: Service[] = []
  const pairs: Contender[][] = []
  for (const readers of READERS) {
    // Each its own: what eight readers leave in the memory is not what one costs.
    const pair = await startBoth(lab, lab.store.route, data)
    services.push(...pair)
    pairs.push(pair.map((service) => reading(service, { readers, data, unit: 'GB' })))
  }
  return {
    ...against(lab, pairs, services),
    title: `blocks of 64 MiB, plain HTTP: ${data.about}`,
    unit: 'GB',
  }
}

/** Small blocks: the requests are what costs. */
export async function serveSmall(lab: Lab): Promise<Case> {
  const data = await lab.data('pieces')
  const services = await startBoth(lab, lab.store.route, data)
  const pair = services.map((service) => reading(service, { readers: 32, data, unit: 'request' }))
  return {
    ...against(lab, [pair], services),
    title: `blocks of 16 KiB, plain HTTP: ${data.about}`,
    unit: 'request',
  }
}

/** A store that takes its time before the first byte, and gives each connection little. */
export async function serveFar(lab: Lab): Promise<Case> {
  const data = await lab.data('someBlocks')
  const { hostname, port } = new URL(lab.store.route.endpoint)
  const numbers = [port, 0, FIRST_BYTE_MS, RATE_EACH, lab.linkRate].map(String)
  const link = await startChild('./shaped-link.ts', [hostname, ...numbers])
  const through = { ...lab.store.route, endpoint: link.endpoint }
  const services = await startBoth(lab, through, data)
  const pair = services.map((service) => reading(service, { readers: 1, data, unit: 'GB' }))
  const usual = against(lab, [pair], services)
  return {
    ...usual,
    title: `${FIRST_BYTE_MS} ms to the first byte, ${RATE_EACH / 1e6} MB/s a connection: ${data.about}`,
    unit: 'GB',
    conclude: async ([result]) => [await besideBare(result!, through, data)],
    close: async () => {
      await usual.close?.()
      await link.stop()
    },
  }
}

/** Each block lies in two places, of which one does not answer. */
export async function serveHang(lab: Lab): Promise<Case> {
  const { route, pid } = lab.store
  const sets = [await lab.data('here'), await lab.data('there')]
  const mapped = await Promise.all(sets.map((data) => indexed(lab, route, data)))
  const buckets = sets.map(({ bucket }) => bucket.name)
  const link = await startChild('./hanging-link.ts', [route.endpoint, ...buckets])
  // The same way, on which nothing ever hangs: what the way itself costs must not count.
  const sound = await startChild('./hanging-link.ts', [route.endpoint, ...buckets])
  // To keepgw, the store has moved.
  const movedTo = ({ endpoint }: { endpoint: string }) =>
    Promise.all(mapped.map((home, i) => moveMapping(lab, home, buckets[i]!, endpoint)))
  const open = (homes: string[]): Promise<Service> => {
    const volumes = homes.map((home, i) => `s3:${join(home, buckets[i]!)}:${buckets[i]}`)
    return startKeepgw(route, { home: homes[0]!, volumes })
  }
  const services = [await open(await movedTo(link)), await open(await movedTo(sound))]
  const how = { readers: 4, data: sets[0]!, unit: 'request' } as const
  const [hanging, healthy] = services.map((service) => reading(service, how)) as [
    Contender,
    Contender,
  ]
  hanging.name = 'one of two places hangs'
  // What it has always been like is known of a store that begins to hang.
  for (const service of services) {
    await runClient('./reader.ts', jobOf(service, how), new AbortController().signal)
  }
  // What failed lately comes last: so those hang now that come first.
  hanging.prepare = async () => void process.kill(link.pid, 'SIGUSR2')
  healthy.name = 'both answer'
  return {
    title: `each block in two places, of which one hangs: ${sets[0]!.about}`,
    unit: 'request',
    contenders: [hanging, healthy],
    ratios: [[hanging, healthy]],
    storePid: pid,
    close: async () => {
      await Promise.all([...services, link, sound].map((each) => each.stop()))
    },
  }
}

/** Ten times the hashes must not take more memory, nor longer to the first byte. */
export async function serveIndex(lab: Lab): Promise<Case> {
  const { route } = lab.store
  const services: Service[] = []
  const contenders: Contender[] = []
  for (const usual of [1_000_000, 100_000]) {
    const blocks = Math.round(usual * lab.scale)
    const home = lab.home()
    makeMapping(join(home, 'bucket'), route, blocks)
    const volumes = [`s3:${join(home, 'bucket')}:bucket`]
    const service = await startKeepgw(route, { home, volumes })
    services.push(service)
    contenders.push({
      name: `${blocks} blocks`,
      shown: `GET /index of ${service.shown}`,
      amount: blocks,
      run: (_, signal) =>
        measureLoad(service.pid, './index-reader.ts', { port: service.port, blocks }, signal),
    })
  }
  return {
    title: 'GET /index of a mapping',
    unit: 'block',
    contenders,
    ratios: [[contenders[0]!, contenders[1]!]],
    storePid: undefined,
    close: async () => {
      await Promise.all(services.map((service) => service.stop()))
    },
  }
}

/** Starts keepgw and, where there is one, keepstore, both on the objects of the data set. */
async function startBoth(lab: Lab, route: Route, data: DataSet): Promise<Service[]> {
  const bucket = data.bucket.name
  const home = await indexed(lab, route, data)
  const volumes = [`s3:${join(home, bucket)}:${bucket}`]
  const keepgw = await startKeepgw(route, { home, volumes })
  const { keepstore } = lab.peers
  if (keepstore === undefined) return [keepgw]
  return [keepgw, await startKeepstore(keepstore, route, { dir: home, bucket })]
}

/** Indexes the bucket. Returns the directory in which the mapping lies, under the bucket's name. */
async function indexed(lab: Lab, route: Route, { bucket }: DataSet): Promise<string> {
  const home = lab.home()
  const { args, env } = keepgwIndex(route, bucket.name, home)
  await promisify(execFile)(args[0]!, args.slice(1), { env })
  return home
}

async function moveMapping(
  lab: Lab,
  home: string,
  bucket: string,
  endpoint: string,
): Promise<string> {
  const moved = lab.home()
  await cp(home, moved, { recursive: true })
  const file = join(moved, bucket, '.keepgw', 'remote.json')
  const description = JSON.parse(await readFile(file, 'utf8'))
  description.remote.endpoint = endpoint
  await writeFile(file, JSON.stringify(description))
  return moved
}

interface Reading {
  /** Connections. */
  readers: number
  data: DataSet
  unit: 'GB' | 'request'
}

/** Reads each block of the data set once. */
function reading(service: Service, how: Reading): Contender {
  const { readers, data, unit } = how
  const job = jobOf(service, how)
  return {
    name: `${service.name}, ${readers} ${readers === 1 ? 'reader' : 'readers'}`,
    shown: service.shown,
    amount: unit === 'GB' ? data.bytes / 1e9 : data.objects.size,
    run: (_, signal) => measureLoad(service.pid, './reader.ts', job, signal),
  }
}

function jobOf({ port }: Service, { readers, data }: Reading): Job {
  const blocks = [...data.objects.values()]
  const wanted = blocks.map(({ md5, size }) => ({ path: `/${md5}+${size}`, size, md5 }))
  return { port, readers, wanted }
}

/** Each pair is keepgw and keepstore, or keepgw alone. */
function against(
  lab: Lab,
  pairs: Contender[][],
  services: Service[],
): Omit<Case, 'title' | 'unit'> {
  return {
    contenders: pairs.flat(),
    ratios: pairs.filter((pair): pair is [Contender, Contender] => pair.length === 2),
    storePid: lab.store.pid,
    close: async () => {
      await Promise.all(services.map((service) => service.stop()))
    },
  }
}

/** Reads the objects themselves over one connection, as often as the result has runs. */
async function besideBare({ runs }: Result, link: Route, data: DataSet): Promise<string> {
  const rates: number[] = []
  for (const _ of runs) {
    const wanted = [...data.objects].map(([key, { md5, size }]) => {
      const path = `/${data.bucket.name}/${key}`
      return { path, headers: signedHeaders(link, 'GET', path), size, md5 }
    })
    const job = { port: Number(new URL(link.endpoint).port), readers: 1, wanted }
    const { wall } = await runClient('./reader.ts', job, new AbortController().signal)
    rates.push(data.bytes / wall)
  }
  const bare = median(rates)
  const keepgw = data.bytes / median(runs.map(({ wall }) => wall))
  const [shown, bareShown] = [keepgw, bare].map((rate) => `${(rate / 1e6).toFixed(1)} MB/s`)
  return `- keepgw: ${shown}, ${(keepgw / bare).toFixed(2)} times a single bare connection to the store (${bareShown})`
}
