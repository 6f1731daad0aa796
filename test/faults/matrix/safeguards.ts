/**
 * Shows that keepgw is safe by what it seems to be safe by: `npm run test:safeguards [-- WORD…]` takes
 * one safeguard after the other out of a copy of the sources, builds that, and runs the cells that
 * should break without it. The exit code is 1 where none does.
 */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { sharedS3 } from '../../servers/s3.ts'
import { startSeaweedfs } from '../../servers/seaweedfs.ts'
import { nameOf, type Safeguard } from './cell.ts'
import { CELLS } from './cells.ts'
import { Lab } from './lab.ts'
import { runCells } from './runner.ts'

/** A piece of the sources, which is there once, and what stands there without the safeguard. */
interface Removal {
  file: string
  text: string
  instead: string
}

const REMOVALS: Record<Safeguard, Removal> = {
  'If-Match': {
    file: 'src/remote/s3/reader.ts',
    text: 'if (etag !== undefined && this.#ifMatch)',
    instead: 'if (false)',
  },
  'the answered ETag is compared': {
    file: 'src/remote/s3/reader.ts',
    text: 'if (etag !== undefined && plainEtag(answered) !== etag)',
    instead: 'if (false)',
  },
  'the MD5 check': {
    file: 'src/volume/read-block.ts',
    text: 'if ((await this.#digest()) === this.#query.hash)',
    instead: 'if ((await this.#digest()) !== "")',
  },
  'the hold-back': {
    file: 'src/volume/read-block.ts',
    text: 'const HELD_BACK = 65_536',
    instead: 'const HELD_BACK = 0',
  },
  'what came is counted': {
    file: 'src/remote/s3/reader.ts',
    text: "if (body.delivered < length) throw body.brokenOff(this.name(key), 'the store sent no more')",
    instead: '',
  },
  'only S3’s word proves an object gone': {
    file: 'src/remote/s3/failure.ts',
    text: "  NoSuchKey: 'gone',",
    instead: "  NoSuchKey: 'gone', 'HTTP 404': 'gone',",
  },
  'a missing key is believed only of a bucket that is there': {
    file: 'src/remote/s3/reader.ts',
    text: "return failure.failure === 'gone' ? await this.#goneOr(failure, signal) : failure",
    instead: 'return failure',
  },
  'unreachable places forbid a 404': {
    file: 'src/volume/source-walk.ts',
    text: 'if (this.#failed.unreachable > 0 || this.#untried) {',
    instead: 'if (false) {',
  },
  'certificates are checked': {
    file: 'src/remote/s3/connection.ts',
    text: "ALPNProtocols: ['http/1.1'],",
    instead: "ALPNProtocols: ['http/1.1'], rejectUnauthorized: false,",
  },
  'a listing must come whole': {
    file: 'src/remote/s3/listing-parser.ts',
    text: '    this.#scanner.end()\n',
    instead: '',
  },
  'a listing must come to its end': {
    file: 'src/remote/s3/list.ts',
    text: 'if (!next || next === known) {',
    instead: 'if (!next) return\n    if (next === known) {',
  },
  'the shrink guard': {
    file: 'src/indexer/drop.ts',
    text: 'if (count === 0 || allowDrop >= 100) return',
    instead: 'if (count >= 0) return',
  },
  'the lock': {
    file: 'src/mapping/lock.ts',
    text: 'if (held === undefined || isProvenDead(held)) return own',
    instead: 'if (held !== null) return own',
  },
  'the intent comes first': {
    file: 'src/mapping/recorder.ts',
    text: 'await this.#catalog.begin(intent, this.#lockId)',
    instead: '',
  },
  'the lines come before the commit': {
    file: 'src/mapping/recorder.ts',
    text: `    const all = [...plans.values()]
    await this.#apply(syncAll ? all : all.filter(({ action }) => action !== 'none'))
    await this.#catalog.finish(intent, this.#lockId)`,
    instead: `    const all = [...plans.values()]
    await this.#catalog.finish(intent, this.#lockId)
    await this.#apply(syncAll ? all : all.filter(({ action }) => action !== 'none'))`,
  },
  'the sync comes before the commit': {
    file: 'src/mapping/recorder.ts',
    text: 'if (written.length > 0) await syncTree(this.#mappings, written)',
    instead: '',
  },
  'repair drops only what is proven bad': {
    file: 'src/verifier/repair.ts',
    text: "new Set(['changed', 'gone', 'corrupt'])",
    instead: "new Set(['changed', 'gone', 'corrupt', 'unreachable'])",
  },
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const JOBS = 4

/** A build of its own, without a safeguard; all safeguards are there if none is named. */
class ThrowAwayBuild implements Disposable {
  readonly cli: string
  readonly #dir = mkdtempSync(join(tmpdir(), 'keepgw-without-'))

  constructor(removal?: Removal) {
    const kept = ['src', 'commands', 'package.json', 'tsconfig.json', 'tsconfig.build.json']
    for (const name of [...kept, 'oclif.manifest.json']) {
      cpSync(join(ROOT, name), join(this.#dir, name), { recursive: true })
    }
    symlinkSync(join(ROOT, 'node_modules'), join(this.#dir, 'node_modules'))
    this.cli = join(this.#dir, 'dist/src/cli.js')
    const wasm = 'dist/src/hash/md5.wasm'
    mkdirSync(dirname(join(this.#dir, wasm)), { recursive: true })
    cpSync(join(ROOT, wasm), join(this.#dir, wasm))
    if (removal !== undefined) this.#remove(removal)
    execFileSync('npx', ['tsc', '-p', 'tsconfig.build.json'], { cwd: this.#dir, stdio: 'inherit' })
  }

  #remove({ file, text, instead }: Removal): void {
    const path = join(this.#dir, file)
    const parts = readFileSync(path, 'utf8').split(text)
    if (parts.length !== 2) {
      throw new Error(`${file} has ${parts.length - 1} times, not once: ${text}`)
    }
    writeFileSync(path, parts.join(instead))
  }

  [Symbol.dispose](): void {
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

/** Returns the names of the cells that break with the build, of those to do with the safeguards. */
async function brokenCells(lab: Lab, names: Safeguard[], removal?: Removal): Promise<string[]> {
  using build = new ThrowAwayBuild(removal)
  process.env.KEEPGW_TEST_CLI = build.cli
  const cells = CELLS.filter(({ safeguards }) => safeguards.some((name) => names.includes(name)))
  const results = await runCells(lab, cells, { atOnce: JOBS })
  delete process.env.KEEPGW_TEST_CLI
  return results.flatMap(({ cell, broken }) => (broken === undefined ? [] : nameOf(cell)))
}

const { positionals: words } = parseArgs({ allowPositionals: true })
const names = Object.keys(REMOVALS).filter((name) => {
  return words.every((word) => name.includes(word))
}) as Safeguard[]
const server = sharedS3() ?? (await startSeaweedfs())
try {
  await using lab = await Lab.open(server)
  const untouched = await brokenCells(lab, names)
  console.log(`with all safeguards: ${untouched.length} broken ${untouched.join('; ')}`)
  if (untouched.length > 0) process.exitCode = 1
  for (const name of names) {
    const broken = await brokenCells(lab, [name], REMOVALS[name])
    const isNoticed = broken.length > 0
    if (!isNoticed) process.exitCode = 1
    console.log(`without ${name}: ${isNoticed ? `${broken.length} broken` : 'NOBODY NOTICES'}`)
    for (const cell of broken) console.log(`    ${cell}`)
  }
} finally {
  await server.stop()
}
