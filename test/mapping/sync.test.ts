/** What is written to a tree is synced by a helper; a `sync` of the test's own says what it was asked. */
import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { TreeSync } from '../../src/mapping/sync.ts'

const path = process.env.PATH!

describe('a tree', () => {
  let dir: string
  let sync: TreeSync

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'keepgw-sync-'))
    sync = new TreeSync(dir)
    process.env.PATH = `${dir}${delimiter}${path}`
    await makeSync('exit 0')
  })

  afterEach(async () => {
    process.env.PATH = path
    await sync.close()
    await rm(dir, { recursive: true })
  })

  it('is synced with its file system, as often as it is asked for, by one helper', async () => {
    await sync.sync(['never/opened'])
    await sync.sync(['never/opened'])
    const [first, second, ...more] = await asked()
    assert.equal(first?.arguments, `-f ${dir}`)
    assert.deepEqual(second, first)
    assert.deepEqual(more, [])
  })

  it('is synced by another helper where the first one was ended', async () => {
    await sync.sync(['never/opened'])
    const [first] = await asked()
    process.kill(first!.helper)
    await ended(first!.helper)
    await sync.sync(['never/opened'])
    const [, second, ...more] = await asked()
    assert.notEqual(second?.helper, first!.helper)
    assert.deepEqual(more, [])
  })

  it('is synced by another helper where the first one is ended at its work', async () => {
    await makeSync('[ -e "$0.once" ] && exit 0; : > "$0.once"; kill $PPID')
    await sync.sync(['never/opened'])
    assert.equal((await asked()).length, 2)
  })

  it('is synced file by file where the file system cannot be', async () => {
    await makeSync('exit 1')
    const file = join(dir, 'file')
    await writeFile(file, 'a')
    await sync.sync([file])
    await assert.rejects(sync.sync([join(file, 'below')]), { code: 'ENOTDIR' })
  })

  it('is synced file by file where there is no shell', async () => {
    process.env.PATH = '/nonexistent'
    const file = join(dir, 'file')
    await writeFile(file, 'a')
    await sync.sync([file])
    await assert.rejects(sync.sync([join(file, 'below')]), { code: 'ENOTDIR' })
  })

  it('leaves no helper behind when it is closed', async () => {
    await sync.sync([])
    await sync.close()
    const [{ helper } = { helper: 0 }] = await asked()
    assert.throws(() => process.kill(helper, 0), { code: 'ESRCH' })
  })

  /** Puts a `sync` in the place of the system's: it notes what it is asked, and then does this. */
  async function makeSync(then: string): Promise<void> {
    const file = join(dir, 'sync')
    await writeFile(file, `#!/bin/sh\necho "$PPID $*" >> '${dir}/asked'\n${then}\n`)
    await chmod(file, 0o755)
  }

  async function asked(): Promise<{ helper: number; arguments: string }[]> {
    const lines = (await readFile(join(dir, 'asked'), 'utf8')).trimEnd().split('\n')
    return lines.map((line) => {
      const [helper, ...rest] = line.split(' ')
      return { helper: Number(helper), arguments: rest.join(' ') }
    })
  }
})

/** Resolves once there is no such process. */
async function ended(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0)
    } catch {
      return
    }
    await setTimeout(5)
  }
}
