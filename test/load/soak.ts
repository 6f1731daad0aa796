/**
 * Indexes and serves a bucket that changes all the time, for as long as is asked for, and compares every
 * byte that comes with what was put: `npm run soak [-- --minutes N] [--out DIR]`. Exit code 1 if a block
 * was wrong or lost, or memory or descriptors have grown. Needs Linux and what the tests need.
 */
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { environment, start, temporary } from '../e2e/keepgw.ts'
import { makeBucket, sharedS3 } from '../servers/s3.ts'
import { startSeaweedfs } from '../servers/seaweedfs.ts'
import { accepts, freePort } from '../servers/supervised.ts'
import { ChangingBucket } from './soak/changing-bucket.ts'
import { chart } from './soak/chart.ts'
import { Readers } from './soak/readers.ts'
import { Runs } from './soak/runs.ts'
import { curves, judge, type Sample, Sampler, toCsv } from './soak/samples.ts'

/** Milliseconds between two changes, and from the end of a run of a command to the next. */
const PAUSES = { change: 60, index: 5_000, verify: 45_000 }
/** What a server that is well never logs. */
const TROUBLE = /worker ended|worker does not answer|internal error/
const MIB = 2 ** 20

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    out: { type: 'string', default: fileURLToPath(new URL('../../.cache/soak', import.meta.url)) },
  },
})
const server = sharedS3() ?? (await startSeaweedfs())
const stored = await makeBucket(server)
const scratch = await temporary()
try {
  const outcome = await soak(Number(values.minutes))
  await writeFiles(outcome, values.out)
  process.exitCode = report(outcome) ? 0 : 1
} finally {
  await scratch.remove()
  await stored.destroy()
  await server.stop()
}

async function soak(minutes: number): Promise<Outcome> {
  const env = environment(server, scratch.dir)
  const bucket = new ChangingBucket(stored)
  const runs = new Runs(stored.name, env)
  console.log('putting the first objects')
  await bucket.fill()
  await runs.index()
  const { served, url, ended } = await startServe(env)
  const readers = new Readers(url, bucket, () => runs.indexed)
  const sampler = new Sampler({ process: served }, () => readers.blocks)
  const stop = new AbortController()
  try {
    const work = Promise.all([
      readers.run(),
      repeat(PAUSES.change, () => bucket.change(), stop.signal),
      repeat(PAUSES.index, () => runs.index(), stop.signal),
      repeat(PAUSES.verify, () => runs.verify(), stop.signal),
    ])
    await Promise.race([delay(minutes * 60_000), work, ended])
    stop.abort()
    readers.stop()
    await work
    sampler[Symbol.dispose]()
    // Now that nothing changes any more, each block that is held must be there.
    await runs.index()
    for (const block of bucket.allHeld()) await readers.read(block)
  } finally {
    stop.abort()
    readers.stop()
    readers.close()
    sampler[Symbol.dispose]()
    served.kill('SIGTERM')
    await ended
  }
  const { exitCode } = served
  const log = served.output.stderr
  return { bucket, runs, readers, samples: sampler.samples, exitCode, log }
}

async function startServe(env: NodeJS.ProcessEnv) {
  const port = await freePort()
  const volume = `s3:${join(scratch.dir, stored.name)}:${stored.name}`
  const cache = ['--cache', join(scratch.dir, 'cache'), '--cache-size=256M']
  const flags = ['--workers=2', '--hedge-after=auto', '--log-level=warn', ...cache]
  const served = start(['serve', `--volume=${volume}`, `--listen=127.0.0.1:${port}`, ...flags], env)
  const ended = once(served, 'close')
  while (!(await accepts(port))) {
    if (served.exitCode !== null) throw new Error(`serve does not start: ${served.output.stderr}`)
    await delay(50)
  }
  return { served, url: `http://127.0.0.1:${port}`, ended }
}

/** Does the work again and again, with a pause behind each time. */
async function repeat(
  pause: number,
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await work()
    await delay(pause, undefined, { signal }).catch(() => {})
  }
}

interface Outcome {
  bucket: ChangingBucket
  runs: Runs
  readers: Readers
  samples: Sample[]
  /** Of `keepgw serve`. */
  exitCode: number | null
  log: string
}

async function writeFiles({ samples, readers, log }: Outcome, out: string): Promise<void> {
  const title = `keepgw serve --workers 2 --cache, beside keepgw index: ${readers.blocks} blocks read`
  await mkdir(out, { recursive: true })
  await writeFile(join(out, 'samples.csv'), toCsv(samples))
  await writeFile(join(out, 'soak.svg'), chart(title, curves(samples)))
  await writeFile(join(out, 'serve.log'), log)
  console.log(`samples.csv, soak.svg and serve.log are in ${out}`)
}

/** Prints what came of it; returns whether all was well. */
function report({ bucket, runs, readers, samples, exitCode, log }: Outcome): boolean {
  const { rssAnon, slope, descriptors, memoryIsLevel, descriptorsAreLevel } = judge(samples)
  const mib = (bytes: number) => (bytes / MIB).toFixed(0)
  const lines = log.split('\n')
  const trouble = lines.filter((line) => TROUBLE.test(line))
  const complaints = [...readers.complaints, ...runs.complaints, ...trouble]
  const { puts, overwrites, copies, deletes, large } = bucket.counts
  console.log(`seconds      ${samples.length}
changes      ${puts} puts (${overwrites} of them over others), ${copies} copies, ${deletes} deletes; ${large} of large objects
index        runs by exit code: ${JSON.stringify(runs.indexes)}
verify       runs by exit code: ${JSON.stringify(runs.verifies)}, ${runs.verified} blocks, ${runs.corrupt} corrupt places
blocks read  ${readers.blocks} (${(readers.bytes / 1e9).toFixed(1)} GB), each byte compared
wrong        ${readers.wrong}
lost         ${readers.lost}
asked again  ${readers.again} times after 503, 502 or a broken connection; the slowest small block took ${readers.slowest.toFixed(0)} ms
RssAnon      ${mib(rssAnon.tenth)} MiB after a tenth, ${mib(rssAnon.half)} after half, ${mib(rssAnon.end)} at the end, ${mib(rssAnon.most)} at most: ${memoryIsLevel ? 'level' : 'NOT LEVEL'}
slope        ${(slope / MIB).toFixed(2)} MiB a minute in the second half
descriptors  ${descriptors.tenth} after a tenth, ${descriptors.end} at the end, ${descriptors.most} at most: ${descriptorsAreLevel ? 'level' : 'NOT LEVEL'}
log of serve ${lines.length - 1} lines at level warn and above; exit code ${exitCode}`)
  for (const line of complaints.slice(0, 50)) console.log(`! ${line}`)
  const isWell =
    readers.wrong + readers.lost + runs.corrupt + complaints.length === 0 && exitCode === 0
  return isWell && memoryIsLevel && descriptorsAreLevel
}
