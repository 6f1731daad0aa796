/** The cases in which objects are read. */
import { join } from 'node:path'
import { type Case, type Contender, ofCommand, type Result } from './case.ts'
import { checkMd5Sums, checkSame } from './check.ts'
import { startChild } from './child.ts'
import { rcloneMd5Sum } from './contenders.ts'
import type { DataSet } from './data.ts'
import type { Lab } from './lab.ts'
import { linkRate } from './link-check.ts'
import type { Route } from './store.ts'
import { median } from './table.ts'

/** Of the shaped link: milliseconds, and bytes a second of one connection. */
const LATENCY = 40
const RATE_EACH = 25e6

/** Big objects: the bytes are what costs. */
export async function big(lab: Lab): Promise<Case> {
  return await bigBy(lab, lab.store.route, 'plain HTTP')
}

/** The same objects, encrypted on their way. */
export async function tls(lab: Lab): Promise<Case> {
  if (lab.store.https === undefined) {
    throw new Error('the store has no HTTPS: install openssl, or name an endpoint that has it')
  }
  return await bigBy(lab, lab.store.https, 'HTTPS')
}

async function bigBy(lab: Lab, route: Route, what: string): Promise<Case> {
  const data = await lab.data('big')
  const keepgw = readingIndex(lab, route, data, data.bytes / 1e9)
  return against(lab, keepgw, {
    title: `${what}: ${data.about}`,
    unit: 'GB',
    peers: rclones(lab, route, data, keepgw.amount, [8]),
  })
}

/** Small objects: the requests are what costs. */
export async function small(lab: Lab): Promise<Case> {
  const data = await lab.data('small')
  const keepgw = readingIndex(lab, lab.store.route, data, data.objects.size)
  return against(lab, keepgw, {
    title: `plain HTTP: ${data.about}`,
    unit: 'object',
    peers: rclones(lab, lab.store.route, data, keepgw.amount, [8, 32]),
  })
}

/** A link that is long and gives each connection little: only many connections fill it. */
export async function shaped(lab: Lab): Promise<Case> {
  const { route, pid } = lab.store
  const { protocol, hostname, port } = new URL(route.endpoint)
  if (protocol !== 'http:') throw new Error('only plain HTTP goes through the shaped link')
  const data = await lab.data('long')
  const numbers = [port || 80, LATENCY, LATENCY, RATE_EACH, lab.linkRate].map(String)
  const link = await startChild('./shaped-link.ts', [hostname, ...numbers])
  const through = { ...route, endpoint: link.endpoint }
  const keepgw = readingIndex(lab, through, data, data.bytes / 1e9)
  const share = (rate: number): string =>
    `${Math.round(rate / 1e6)} MB/s, ${(rate / lab.linkRate).toFixed(2)} of the link’s ${lab.linkRate / 1e6} MB/s`
  return {
    title: `${LATENCY} ms and ${RATE_EACH / 1e6} MB/s a connection: ${data.about}`,
    unit: 'GB',
    contenders: [keepgw],
    ratios: [],
    storePid: pid,
    conclude: async ([result]) => {
      const bare = await linkRate(through, data)
      const advice = ' (this machine cannot fill the link: try a smaller --link)'
      return [
        `- keepgw, from its start to its end: ${share(data.bytes / wall(result!))}`,
        `- a bare reader, for comparison: ${share(bare)}${bare < 0.97 * lab.linkRate ? advice : ''}`,
      ]
    },
    close: link.stop,
  }
}

/** All cores and lanes against one worker with node crypto: what they make must be the same. */
export async function agree(lab: Lab): Promise<Case> {
  const [bigs, smalls] = [await lab.data('big'), await lab.data('small')]
  const pairs = [bigs, smalls].map((data) => {
    const home = lab.home()
    const usual = { ...index(lab, data, 'as usual'), home }
    const plainHome = lab.home()
    // A thread with a single stream hashes it with node crypto.
    const settings = { flags: ['--workers=1', '--concurrency=1'] }
    const plain = { ...index(lab, data, 'one worker, node crypto'), settings, home: plainHome }
    const mappings = [home, plainHome].map((each) => join(each, data.bucket.name))
    return { pair: [lab.keepgw(usual), lab.keepgw(plain)] as [Contender, Contender], mappings }
  })
  return {
    title: `${bigs.about}; ${smalls.about}`,
    unit: 'GB',
    contenders: pairs.flatMap(({ pair }) => pair),
    ratios: pairs.map(({ pair }) => pair),
    storePid: lab.store.pid,
    conclude: async () => {
      for (const { mappings } of pairs) await checkSame(mappings[0]!, mappings[1]!)
      return ['- tree and catalog are the same: line by line, after sorting']
    },
  }
}

function index(lab: Lab, data: DataSet, how: string) {
  return {
    name: `keepgw, ${how}, ${data.about}`,
    route: lab.store.route,
    bucket: data.bucket.name,
    amount: data.bytes / 1e9,
    isFirst: true,
    listed: data.objects.size,
    objects: data.objects,
  }
}

/** A first index of the whole data set with the defaults. */
function readingIndex(lab: Lab, route: Route, data: DataSet, amount: number): Contender {
  return lab.keepgw({ ...index(lab, data, ''), name: 'keepgw', route, amount })
}

function rclones(
  { peers: { rclone } }: Lab,
  route: Route,
  { bucket, objects }: DataSet,
  amount: number,
  checkers: number[],
): Contender[] {
  if (rclone === undefined) return []
  return checkers.map((count) => ({
    name: `rclone --checkers ${count}`,
    amount,
    ...ofCommand(rcloneMd5Sum(rclone, route, bucket.name, ['--checkers', String(count)])),
    check: (stdout) => checkMd5Sums(stdout, objects),
  }))
}

function against(
  lab: Lab,
  keepgw: Contender,
  { title, unit, peers }: Pick<Case, 'title' | 'unit'> & { peers: Contender[] },
): Case {
  const contenders = [keepgw, ...peers]
  const ratios = peers.map((peer): [Contender, Contender] => [keepgw, peer])
  return { title, unit, contenders, ratios, storePid: lab.store.pid }
}

function wall({ runs }: Result): number {
  return median(runs.map((run) => run.wall))
}
