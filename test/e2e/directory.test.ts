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
})
