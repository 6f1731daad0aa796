/**
 * What keepgw costs beside its peers, on this machine: `npm run bench [-- CASE…] [--runs N]`.
 * docs/performance.md says how to read it. Needs Linux, bash and a built keepgw.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type Case, runCase } from './case.ts'
import type { Peers } from './contenders.ts'
import { Lab } from './lab.ts'
import { memory, reindex, trust } from './listing.ts'
import { agree, big, shaped, small, tls } from './reading.ts'
import { serve, serveFar, serveHang, serveIndex, serveSmall } from './serving.ts'
import { tableOf } from './table.ts'

const CASES: Record<string, (lab: Lab) => Promise<Case>> = {
  big,
  tls,
  small,
  reindex,
  trust,
  shaped,
  memory,
  agree,
  serve,
  'serve-small': serveSmall,
  'serve-far': serveFar,
  'serve-hang': serveHang,
  'serve-index': serveIndex,
}

const USAGE = `npm run bench -- [CASE…] [--runs N] [--scale X] [--link MB/S]
CASE is one of ${Object.keys(CASES).join(', ')}; all of them if none is named.
--runs   measured runs of each contender (5)
--scale  times the usual number of objects (1)
--link   what the shaped link lets through, million bytes a second (300)`

interface Options {
  names: string[]
  runs: number
  scale: number
  linkRate: number
}

/** Throws where the command line is not as USAGE says. */
function optionsOf(argv: string[]): Options {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      runs: { type: 'string', default: '5' },
      scale: { type: 'string', default: '1' },
      link: { type: 'string', default: '300' },
    },
  })
  const unknown = positionals.find((name) => !(name in CASES))
  if (unknown !== undefined) throw new Error(`there is no case ${unknown}`)
  const [runs, scale, link] = [values.runs, values.scale, values.link].map(Number)
  if (!Number.isInteger(runs) || !(runs! > 0 && scale! > 0 && link! > 0)) {
    throw new Error('a number is not as it must be')
  }
  const names = positionals.length > 0 ? positionals : Object.keys(CASES)
  return { names, runs: runs!, scale: scale!, linkRate: link! * 1e6 }
}

function describeMachine(): string {
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  const cores = `${availableParallelism()} cores of ${cpus()[0]?.model ?? process.arch}`
  return `${cores}, ${memory}, Linux ${release()}, Node ${process.versions.node}`
}

function describePeers(peers: Peers): string {
  const described = Object.entries(peers).map(
    ([name, peer]) => `${name} ${peer?.version ?? 'not found'}`,
  )
  return described.join('; ')
}

async function runNamed(lab: Lab, name: string, runs: number, signal: AbortSignal): Promise<void> {
  const say = (step: string): void => console.error(`${name}: ${step}`)
  say('making ready')
  const made = await CASES[name]!(lab)
  try {
    const results = await runCase(made, { runs, dir: lab.dir, signal, say })
    console.log(`\n## ${name}: ${made.title}\n\n${tableOf(made, results)}\n`)
    for (const each of made.contenders) console.log(`- ${each.name}: \`${each.shown}\``)
    for (const line of (await made.conclude?.(results)) ?? []) console.log(line)
  } finally {
    await made.close?.()
  }
}

async function main({ names, runs, scale, linkRate }: Options): Promise<void> {
  const stop = new AbortController()
  // Whatever is under way, also what looks at no signal.
  const stopped = once(stop.signal, 'abort').then(() => stop.signal.throwIfAborted())
  stopped.catch(() => {})
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))
  }
  const lab = await Lab.open({ scale, linkRate })
  try {
    console.log(`- machine: ${describeMachine()}`)
    console.log(`- server: ${lab.store.about}`)
    console.log(`- peers: ${describePeers(lab.peers)}`)
    console.log(`- ${runs} runs of each in turn; medians, and ratios of medians (least–greatest)`)
    for (const name of names) {
      try {
        await Promise.race([runNamed(lab, name, runs, stop.signal), stopped])
      } catch (error) {
        stop.signal.throwIfAborted()
        process.exitCode = 1
        console.error(`${name} failed: ${(error as Error).message}`)
      }
    }
  } finally {
    await lab.close()
  }
}

const CLI = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))
let options: Options | undefined
try {
  options = optionsOf(process.argv.slice(2))
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`)
  process.exitCode = 2
}
if (options !== undefined) {
  try {
    if (!existsSync(CLI)) throw new Error('keepgw is not built; type: npm ci && npm run build')
    await main(options)
  } catch (error) {
    console.error((error as Error).message)
    process.exitCode = 1
  }
  // Where it was stopped or something failed, servers may be left; they end with this process.
  process.exit()
}
