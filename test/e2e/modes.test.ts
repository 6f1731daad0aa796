/** Who may read and write what keepgw makes. */
import assert from 'node:assert/strict'
import { lstat, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { contents, keepgwOk, md5, serve, temporary, until } from './keepgw.ts'

const OTHERS_READ = 0o004
const OTHERS_WRITE = 0o002
const GROUP_WRITE = 0o020

describe('what is made', () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let umask: number

  before(async () => {
    scratch = await temporary()
    env = { PATH: process.env.PATH, HOME: scratch.dir, KEEPGW_MAPPINGS: join(scratch.dir, 'all') }
    umask = process.umask(0o022)
  })
  after(async () => {
    process.umask(umask)
    await scratch?.remove()
  })

  /** Returns what is below a directory, with it, that has one of these bits. */
  async function having(dir: string, bits: number): Promise<string[]> {
    const names = ['', ...(await readdir(dir, { recursive: true }))]
    const found: string[] = []
    for (const name of names) {
      const stats = await lstat(join(dir, name))
      if (!stats.isSymbolicLink() && (stats.mode & bits) !== 0) found.push(name)
    }
    return found
  }

  it('can be changed by nobody else, and a cache not even be read', async () => {
    const [root, mapping] = [join(scratch.dir, 'data'), join(scratch.dir, 'mapping')]
    const [keep, cache] = [join(scratch.dir, 'keep'), join(scratch.dir, 'cache')]
    await mkdir(root)
    await mkdir(keep)
    const data = contents(1000, 'an object')
    await writeFile(join(root, 'key'), data)
    await keepgwOk(['index', root, '--mappings', mapping], env)
    await keepgwOk(['manifest', root, '--mappings', mapping, '--split', '--output', keep], env)
    const volumes = [`file:${mapping}:${root}`, `unix:${keep}`]
    const served = await serve(volumes, env, [`--cache=${cache}`])
    assert.equal((await fetch(`${served.url}/${md5(data)}`)).status, 200)
    const other = contents(2000, 'another')
    const put = await fetch(`${served.url}/${md5(other)}`, {
      method: 'PUT',
      body: new Uint8Array(other),
    })
    assert.equal(put.status, 200)
    let cached: string[] = []
    await until(() => {
      readdir(cache, { recursive: true }).then((names) => {
        cached = names
      })
      return cached.some((name) => name.endsWith(md5(data)))
    })
    assert.equal(await served.stop(), 0)
    for (const dir of [mapping, keep, cache, join(scratch.dir, '.cache/keepgw')]) {
      assert.deepEqual(await having(dir, OTHERS_WRITE | GROUP_WRITE), [], dir)
    }
    assert.deepEqual(await having(cache, OTHERS_READ | 0o040), [])
  })
})
