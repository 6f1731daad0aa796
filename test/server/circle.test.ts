/** Keep services that ask each other in a circle. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { KeepVolume } from '../../src/volume/keep/keep.ts'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { freePort } from '../servers/supervised.ts'
import { makeBlock } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-circle-'))
after(() => rm(scratch, { recursive: true }))

const { data, hash } = makeBlock(1000)
const tokens = { management: 'the-management-token', systemRoot: 'root-token' }
const root = { Authorization: 'Bearer root-token' }

/** Two services: the first has the second behind it, which has a directory, the first, and itself. */
async function start(t: TestContext): Promise<{ one: Harness; two: Harness }> {
  const [first, second] = [await freePort(), await freePort()]
  const asking = (id: string, port: number) => {
    const services = [`http://127.0.0.1:${port}`]
    const volume = new KeepVolume({ services, id, systemRoot: 'root-token' })
    t.after(() => volume.close())
    return volume
  }
  const serve = (port: number, volumes: (KeepVolume | UnixVolume)[]) => {
    return Harness.start(t, { volumes, tokens, listen: { host: '127.0.0.1', port } })
  }
  const directory = await UnixVolume.open(await mkdtemp(join(scratch, 'root-')))
  return {
    one: await serve(first, [asking('keepgw-one', second)]),
    two: await serve(second, [
      directory,
      asking('keepgw-two', first),
      asking('keepgw-two', second),
    ]),
  }
}

function requests({ logLines }: Harness): number {
  return logLines.filter(({ msg }) => msg === 'request').length
}

describe('a circle of services', () => {
  test('does not have a block if none of them has it', async (t) => {
    const { one, two } = await start(t)
    let asked = 0
    for (const name of [`${hash}+1000`, hash]) {
      for (const method of ['GET', 'HEAD']) {
        assert.equal((await one.send(method, `/${name}`)).status, 404, `${method} ${name}`)
        asked += 2
        assert.deepEqual([requests(one), requests(two)], [asked, asked], `${method} ${name}`)
      }
    }
  })

  test('gives what one of them has, and lists it to its end', async (t) => {
    const { one, two } = await start(t)
    assert.equal((await two.send('PUT', `/${hash}`, {}, data)).status, 200)
    assert.ok((await one.get(`/${hash}+1000`)).body.equals(data))
    assert.match(String((await one.get('/index', root)).body), new RegExp(`^${hash}.*\\n\\n$`, 's'))
    const health = { Authorization: `Bearer ${tokens.management}` }
    assert.match(String((await one.get('/_health/ping', health)).body), /OK/)
  })

  test('counts no copy twice: who is asked to store it again refuses', async (t) => {
    const { one, two } = await start(t)
    const wanted = { 'X-Keep-Desired-Replicas': '3' }
    const answer = await one.send('PUT', `/${hash}`, wanted, data)
    assert.deepEqual([answer.status, answer.headers['x-keep-replicas-stored']], [200, '1'])
    for (const service of [one, two]) {
      await service.logLine((line) => line.msg === 'response' && line.respStatusCode === 508)
    }
  })
})
