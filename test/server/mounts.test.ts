import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { UsageError } from '../../src/errors.ts'
import { assertDistinct, makeMount, mountUuid } from '../../src/server/mounts.ts'
import type { Volume } from '../../src/volume/volume.ts'
import { failure, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const a = makeBlock(10)
const b = makeBlock(20, 2)
const one = makeVolume({ name: 'one', blocks: { [a.hash]: [makeSource('a', a.data)] } })
const two = makeVolume({ name: 'two', blocks: { [b.hash]: [makeSource('b', b.data)] } })
const volumes = [one, two]
const lineOf = (hash: string, length: number) => `${hash}+${length} 1700000000123456789\n`

describe('a mount', () => {
  test('has the UUID that every server of its storage gives it', () => {
    const deviceId = 'keepgw:s3://s3.example.org/bucket/prefix'
    const digest = createHash('md5').update(deviceId).digest('hex')
    assert.equal(mountUuid('zzzzz', deviceId), `zzzzz-nyw5e-${digest.slice(0, 15)}`)
    assert.notEqual(mountUuid('zzzzz', deviceId), mountUuid('zzzzz', `${deviceId}2`))
  })

  test('is not of the same storage as another one of the server', () => {
    const mounts = [one, two, one].map((volume) => makeMount(volume, 'zzzzz'))
    assert.throws(() => assertDistinct(mounts), UsageError)
    assert.doesNotThrow(() => assertDistinct(mounts.slice(0, 2)))
  })
})

describe('GET /mounts', () => {
  test('lists the volumes, read-only and not in the class "default"', async (t) => {
    const h = await Harness.start(t, { volumes })
    const { status, headers, body } = await h.get('/mounts')
    assert.equal(status, 200)
    assert.match(headers['content-type'] ?? '', /^application\/json/)
    assert.deepEqual(
      JSON.parse(body.toString()),
      ['keepgw:one', 'keepgw:two'].map((device_id) => ({
        uuid: mountUuid('zzzzz', device_id),
        device_id,
        allow_write: false,
        allow_trash: false,
        replication: 1,
        storage_classes: { keepgw: true },
      })),
    )
  })

  test('leaves out what other keep services list: a copy must not be counted twice', async (t) => {
    const { hash, data } = makeBlock(30, 3)
    const three = makeVolume({ name: 'three', blocks: { [hash]: [makeSource('c', data)] } })
    const behind: Volume = { ...three, listedElsewhere: true }
    const h = await Harness.start(t, { volumes: [behind, ...volumes] })
    const shown = JSON.parse(String((await h.get('/mounts')).body))
    assert.deepEqual(
      shown.map((mount: { device_id: string }) => mount.device_id),
      ['keepgw:one', 'keepgw:two'],
    )
    const path = (name: string) => `/mounts/${mountUuid('zzzzz', name)}/blocks`
    assert.equal((await h.get(path('keepgw:three'))).status, 404)
    assert.equal(String((await h.get(path('keepgw:two'))).body), `${lineOf(b.hash, 20)}\n`)
    assert.equal((await h.get(`/${hash}`)).status, 200)
  })

  test('has no other spelling', async (t) => {
    const h = await Harness.start(t, { volumes })
    for (const path of ['//mounts', '/mounts/', '/mountsx', '/mounts/x', '/mounts/x/y']) {
      assert.equal((await h.get(path)).status, 400, path)
    }
    assert.equal((await h.send('POST', '/mounts')).status, 400)
  })
})

describe('the blocks of a mount', () => {
  const path = `/mounts/${mountUuid('zzzzz', 'keepgw:two')}/blocks`

  test('are listed as in the index, up to the empty line', async (t) => {
    const h = await Harness.start(t, { volumes })
    const { status, complete, body } = await h.get(path)
    assert.deepEqual([status, complete], [200, true])
    assert.equal(body.toString(), `${lineOf(b.hash, 20)}\n`)
  })

  test('can be limited to a prefix, in two ways', async (t) => {
    const h = await Harness.start(t, { volumes })
    const prefix = b.hash.slice(0, 4)
    const other = b.hash.startsWith('f') ? '0' : 'f'
    for (const style of ['/', '?prefix=']) {
      const text = async (hex: string) => (await h.get(`${path}${style}${hex}`)).body.toString()
      assert.equal(await text(prefix), `${lineOf(b.hash, 20)}\n`)
      assert.equal(await text(other), '\n')
      assert.equal((await h.get(`${path}${style}XYZ`)).status, 400)
    }
  })

  test('of a mount that is not here: 404', async (t) => {
    const h = await Harness.start(t, { volumes })
    assert.equal((await h.get('/mounts/zzzzz-nyw5e-000000000000000/blocks')).status, 404)
  })

  test('end without the empty line on an error half-way', async (t) => {
    const volume = makeVolume({
      name: 'two',
      async *index() {
        for (let i = 0; i < 3000; i++) yield { hash: a.hash, length: 10, mtimeNs: 1n }
        throw failure('unreachable')
      },
    })
    const h = await Harness.start(t, { volumes: [one, volume] })
    const { complete, body } = await h.get(path)
    assert.equal(complete, false)
    assert.ok(body.length > 0 && !body.toString().includes('\n\n'))
  })
})

describe('what keep-balance sends', () => {
  const tokens = { systemRoot: 'the-system-root-token' }
  const root = { Authorization: `Bearer ${tokens.systemRoot}` }
  const list = JSON.stringify(Array(5000).fill({ locator: `${a.hash}+10`, block_mtime: 1 }))

  /** A PUT with a body, over a connection that is closed behind it. */
  const put = (h: Harness, path: string, body: string, ...headers: string[]) =>
    h.sendRaw(
      [
        `PUT ${path} HTTP/1.1`,
        'Host: x',
        'Connection: close',
        `Authorization: ${root.Authorization}`,
        `Content-Length: ${body.length}`,
        ...headers,
        `\r\n${body}`,
      ].join('\r\n'),
    )

  for (const path of ['/pull', '/trash']) {
    test(`PUT ${path} is accepted and ignored`, async (t) => {
      const h = await Harness.start(t, { volumes, tokens })
      assert.match(await put(h, path, '[]'), /^HTTP\/1\.1 200 /)
      assert.match(await put(h, path, list), /^HTTP\/1\.1 200 /)
      const waiting = await put(h, path, list, 'Expect: 100-continue')
      assert.match(waiting, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /)
      assert.equal((await h.get(`/${a.hash}+10`)).status, 200)
    })

    test(`PUT ${path} asks for the system root token`, async (t) => {
      const h = await Harness.start(t, { volumes, tokens })
      assert.equal((await h.send('PUT', path)).status, 401)
      assert.equal((await h.send('PUT', path, { Authorization: 'Bearer x' })).status, 403)
    })
  }

  test('PUT /untrash/LOCATOR is refused', async (t) => {
    const h = await Harness.start(t, { volumes, tokens })
    assert.equal((await h.send('PUT', `/untrash/${a.hash}`, root)).status, 405)
  })
})
