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
import { REMOVALS, type Removal, without } from './removals.ts'
import { runCells } from './runner.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const AT_ONCE = 4

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
    if (removal !== undefined) {
      const file = join(this.#dir, removal.file)
      writeFileSync(file, without(removal, readFileSync(file, 'utf8')))
    }
    const tsc = join(ROOT, 'node_modules/.bin/tsc')
    execFileSync(tsc, ['-p', 'tsconfig.build.json'], { cwd: this.#dir, stdio: 'inherit' })
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
  const results = await runCells(lab, cells, { atOnce: AT_ONCE })
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
