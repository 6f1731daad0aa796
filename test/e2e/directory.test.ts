/** Directories in place of buckets: what looks like a change, or like a deletion, and is none. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  contents,
  keepgw,
  keepgwOk,
  md5,
  type Served,
  serve,
  summaryOf,
  temporary,
} from './keepgw.ts'

describe('a directory', () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let count = 0

  before(async () => {
    scratch = await temporary()
    env = { PATH: process.env.PATH, HOME: scratch.dir }
  })
  after(() => scratch?.remove())

  /** Makes a directory of these files, with an index. */
  async function indexed(files: Record<string, Buffer>) {
    const [root, mapping] = [join(scratch.dir, `root${count}`), join(scratch.dir, `map${count++}`)]
    for (const [key, data] of Object.entries(files)) {
      await mkdir(join(root, key, '..'), { recursive: true })
      await writeFile(join(root, key), data)
    }
    const index = ['index', root, '--mappings', mapping, '--json']
    await keepgwOk(index, env)
    return { root, mapping, index }
  }

  async function statusOf({ url }: Served, data: Buffer, method = 'GET'): Promise<number> {
    const answer = await fetch(`${url}/${md5(data)}`, { method })
    await answer.arrayBuffer()
    return answer.status
  }

  it('that was copied with its times is served and verified, and indexed anew', async (t) => {
    const data = contents(50_000, 'a file')
    const { root, mapping, index } = await indexed({ file: data })
    const [file, copy] = [join(root, 'file'), join(scratch.dir, 'copy')]
    execFileSync('cp', ['-p', file, copy])
    await rename(copy, file)
    const served = await serve([`file:${mapping}:${root}`], env)
    t.after(() => served.stop())
    assert.equal(await statusOf(served, data), 200)
    assert.equal(await statusOf(served, data, 'HEAD'), 200)
    const verify = ['verify', '--all', '--mappings', mapping]
    await keepgwOk(verify, env)
    assert.equal(summaryOf(await keepgwOk(index, env)).changed, 1)

    execFileSync('cp', ['-p', file, copy])
    await writeFile(file, contents(50_000, 'another file'))
    execFileSync('touch', ['-r', copy, file])
    assert.equal(await statusOf(served, data), 502)
    assert.equal(await statusOf(served, data, 'HEAD'), 502)
    assert.match((await keepgw(verify, env)).stdout, /^\w+ corrupt /)

    await utimes(file, 1, 1)
    assert.equal(await statusOf(served, data), 404)
    assert.equal(await statusOf(served, data, 'HEAD'), 404)
    assert.match((await keepgw(verify, env)).stdout, /^\w+ changed /)
  })

  it('below whose root a disk is not mounted has lost nothing', async (t) => {
    const [one, two] = [contents(1000, 'one'), contents(1000, 'two')]
    const { root, mapping, index } = await indexed({ 'disk1/one': one, 'disk2/deep/two': two })
    const served = await serve([`file:${mapping}:${root}`], env)
    t.after(() => served.stop())
    // As a mount point is without its disk.
    await rm(join(root, 'disk2/deep'), { recursive: true })
    assert.equal(await statusOf(served, two), 503)
    assert.equal(await statusOf(served, two, 'HEAD'), 503)
    const verify = ['verify', '--all', '--repair', '--mappings', mapping]
    assert.equal((await keepgw(verify, env)).code, 3)
    for (const more of [['--dry-run'], ['--allow-drop=99'], []]) {
      const { code, stdout, stderr } = await keepgw([...index, ...more], env)
      assert.equal(code, 3, stderr)
      assert.match(stdout, /"disk2\/: it is empty: is its disk mounted\?/)
      assert.equal(summaryOf({ code, stdout, stderr }).dropped, 0)
    }
    assert.equal(await statusOf(served, one), 200)
    const said = await keepgwOk([...index, '--prefix=disk2/', '--allow-drop=100'], env)
    assert.equal(summaryOf(said).dropped, 1)
    assert.equal(await statusOf(served, two), 404)
    assert.equal(summaryOf(await keepgwOk(index, env)).unchanged, 1)
  })
})
