import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, describe, type TestContext, test } from 'node:test'
import { parseLocator } from '../../src/keep/locator.ts'
import { checkSignature, type SigningKey, signLocator } from '../../src/keep/signature.ts'
import { createLog } from '../../src/server/request-log.ts'
import { WRITING, type WriteOptions, Writes } from '../../src/server/writes.ts'
import { KeepVolume } from '../../src/volume/keep/keep.ts'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { makeBlock, makeVolume } from '../volume/fakes.ts'
import { type Answer, Harness, readAnswer, type TestOptions } from './harness.ts'

const scratch = await mkdtemp(join(tmpdir(), 'keepgw-writes-'))
after(() => rm(scratch, { recursive: true }))

const { data, hash } = makeBlock(100_000)
const root = { Authorization: 'Bearer root-token' }
const OLD = new Date('2020-01-01T00:00:00Z')

class Service {
  readonly h: Harness
  readonly roots: string[]

  static async start(t: TestContext, count: number, options: TestOptions = {}) {
    const roots: string[] = []
    for (let at = 0; at < count; at++) roots.push(await mkdtemp(join(scratch, 'root-')))
    const volumes = await Promise.all(roots.map((dir) => UnixVolume.open(dir)))
    const tokens = { systemRoot: 'root-token' }
    return new Service(await Harness.start(t, { volumes, tokens, ...options }), roots)
  }

  constructor(h: Harness, roots: string[]) {
    this.h = h
    this.roots = roots
  }

  async send(
    method: string,
    path: string,
    body: Uint8Array | string = '',
    headers: OutgoingHttpHeaders = {},
  ): Promise<Answer> {
    const isChunked = 'Transfer-Encoding' in headers
    const length = isChunked ? {} : { 'Content-Length': Buffer.byteLength(body) }
    const options = { port: this.h.port, host: '127.0.0.1', method, path, agent: false }
    const req = request({ ...options, headers: { ...length, ...headers } })
    req.end(body)
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    return readAnswer(res)
  }

  put(headers: OutgoingHttpHeaders = {}): Promise<Answer> {
    return this.send('PUT', `/${hash}`, data, headers)
  }

  /** TOUCH, which Node's client does not know either. */
  async touch(headers = 'Authorization: Bearer root-token\r\n'): Promise<string> {
    return this.h.sendRaw(`TOUCH /${hash} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`)
  }

  file(at = 0): string {
    return join(this.roots[at]!, hash.slice(0, 3), hash)
  }

  /** How many directories have the block. */
  async copies(): Promise<number> {
    const found = await Promise.all(
      this.roots.map((_, at) =>
        stat(this.file(at)).then(
          () => 1,
          () => 0,
        ),
      ),
    )
    return found.filter((each) => each === 1).length
  }

  async age(): Promise<void> {
    for (const [at] of this.roots.entries()) await utimes(this.file(at), OLD, OLD).catch(() => {})
  }
}

describe('PUT', () => {
  test('keeps a block, and answers its locator', async (t) => {
    const service = await Service.start(t, 1)
    const answer = await service.put()
    assert.equal(answer.status, 200)
    assert.equal(String(answer.body), `${hash}+${data.length}\n`)
    assert.equal(answer.headers['x-keep-replicas-stored'], '1')
    assert.equal(answer.headers['x-keep-storage-classes-confirmed'], 'default=1')
    assert.ok((await service.h.get(`/${hash}+${data.length}`)).body.equals(data))
    const index = await service.h.get('/index', root)
    assert.match(String(index.body), new RegExp(`^${hash}\\+${data.length} \\d{19}\\n\\n$`))
  })

  test('signs the locator for the token, where there is a key', async (t) => {
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const service = await Service.start(t, 1, { signing })
    const answer = await service.put({ Authorization: 'Bearer the-token' })
    const locator = parseLocator(String(answer.body).trim())
    assert.equal(locator.size, data.length)
    const now = Date.now() / 1000
    assert.equal(checkSignature(locator, 'the-token', now, signing), 'valid')
    assert.equal(checkSignature(locator, 'the-token', now + 1_209_700, signing), 'expired')
    assert.equal(String((await service.put()).body), `${hash}+${data.length}\n`)
  })

  test('answers the locator of the service behind, where that signs and this one does not', async (t) => {
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const { h: back } = await Service.start(t, 1, { signing })
    const volume = new KeepVolume({ services: [`http://127.0.0.1:${back.port}`] })
    t.after(() => volume.close())
    const bearer = { Authorization: 'Bearer the-token' }
    const front = await Harness.start(t, { volumes: [volume] })
    const put = async (h: Harness) => {
      return String((await h.send('PUT', `/${hash}`, bearer, data)).body).trimEnd()
    }
    const verdict = (locator: string, key: SigningKey) => {
      return checkSignature(parseLocator(locator), 'the-token', Date.now() / 1000, key)
    }
    const locator = await put(front)
    assert.equal(verdict(locator, signing), 'valid')
    assert.ok((await front.get(`/${locator}`, bearer)).body.equals(data))
    const own = { key: 'another key', ttl: 1_209_600 }
    const signs = await Harness.start(t, { volumes: [volume], signing: own })
    assert.equal(verdict(await put(signs), own), 'valid')
  })

  test('takes a body whose length is not said, and one that waits to be asked for', async (t) => {
    const service = await Service.start(t, 1)
    const chunked = { 'Transfer-Encoding': 'chunked' }
    assert.equal((await service.put(chunked)).status, 200)
    const options = { port: service.h.port, host: '127.0.0.1', method: 'PUT', path: `/${hash}` }
    const headers = { Expect: '100-continue', 'Content-Length': data.length }
    const req = request({ ...options, headers, agent: false })
    await once(req, 'continue')
    req.end(data)
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    assert.equal((await readAnswer(res)).status, 200)
  })

  test('refuses what is not the block that it is called', async (t) => {
    const service = await Service.start(t, 1)
    assert.equal((await service.send('PUT', `/${hash}`, data.subarray(1))).status, 422)
    assert.equal((await service.send('PUT', `/${hash}+5`, data)).status, 422)
    assert.equal((await service.send('PUT', `/${hash}++`, data)).status, 400)
    assert.deepEqual(await service.copies(), 0)
  })

  test('refuses more than 64 MiB, said or unsaid, and takes exactly as much', async (t) => {
    const service = await Service.start(t, 1)
    const big = Buffer.alloc(67_108_865)
    const chunked = { 'Transfer-Encoding': 'chunked' }
    assert.equal((await service.send('PUT', `/${hash}`, big)).status, 413)
    assert.equal((await service.send('PUT', `/${hash}`, big, chunked)).status, 413)
    const most = big.subarray(1)
    const name = createHash('md5').update(most).digest('hex')
    assert.equal((await service.send('PUT', `/${name}`, most)).status, 200)
  })

  test('stores copies in different volumes, and no more when it comes again', async (t) => {
    const service = await Service.start(t, 3)
    const wanted = { 'X-Keep-Desired-Replicas': '2', 'X-Keep-Storage-Classes': 'default' }
    for (let time = 0; time < 4; time++) {
      const answer = await service.put(wanted)
      assert.equal(answer.headers['x-keep-replicas-stored'], '2')
      assert.equal(answer.headers['x-keep-storage-classes-confirmed'], 'default=2')
      assert.equal(await service.copies(), 2)
    }
    const all = await service.put({ 'X-Keep-Desired-Replicas': '5' })
    assert.equal(all.headers['x-keep-replicas-stored'], '3')
  })

  test('spreads blocks over the volumes', async (t) => {
    const service = await Service.start(t, 3)
    for (let seed = 1; seed <= 6; seed++) {
      const block = makeBlock(10, seed)
      assert.equal((await service.send('PUT', `/${block.hash}`, block.data)).status, 200)
    }
    for (const dir of service.roots) assert.ok((await readdir(dir)).length > 0)
  })

  test('goes past a volume that is full, and says so where all are', async (t) => {
    const service = await Service.start(t, 2)
    const now = String(Math.floor(Date.now() / 1000))
    await symlink(now, join(service.roots[0]!, 'full'))
    const two = await service.put({ 'X-Keep-Desired-Replicas': '2' })
    assert.deepEqual([two.status, two.headers['x-keep-replicas-stored']], [200, '1'])
    await rm(service.file(1))
    await symlink(now, join(service.roots[1]!, 'full'))
    assert.equal((await service.put()).status, 507)
    const other = await service.put({ 'X-Keep-Storage-Classes': 'archive' })
    assert.equal(other.status, 507)
  })

  test('is refused for now when too many blocks are on their way', async (t) => {
    const writing = { buffers: 1 }
    const service = await Service.start(t, 1, { writing })
    const socket = await service.h.connect()
    socket.on('error', () => {})
    socket.write(
      `PUT /${hash} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n`,
    )
    // The first writer has its memory by then.
    await once(socket, 'data')
    const answer = await service.put()
    assert.equal(answer.status, 503)
    assert.ok(Number(answer.headers['retry-after']) > 0)
    socket.destroy()
    await service.h.logLine((line) => line.msg === 'response' && line.respStatusCode === 0)
    assert.equal((await service.put()).status, 200)
  })

  test('that is malformed is refused as that, not for good: 400', async (t) => {
    const { h } = await Service.start(t, 1)
    const lengths = 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'
    const answer = await h.sendRaw(`PUT /${hash} HTTP/1.1\r\nHost: x\r\n${lengths}\r\n`)
    assert.match(answer, /^HTTP\/1\.1 400 /)
  })

  test('leaves nothing of a body that breaks off', async (t) => {
    const service = await Service.start(t, 1)
    const socket = await service.h.connect()
    socket.write(`PUT /${hash} HTTP/1.1\r\nHost: x\r\nContent-Length: ${data.length}\r\n\r\n`)
    socket.write(data.subarray(0, 50_000))
    socket.end()
    await service.h.logLine((line) => line.msg === 'response')
    assert.deepEqual(await readdir(service.roots[0]!), [])
  })

  test('is refused at once where all volumes are read-only', async (t) => {
    const h = await Harness.start(t, { volumes: [makeVolume({})] })
    assert.equal((await h.send('PUT', `/${hash}`)).status, 405)
    assert.equal((await h.send('DELETE', `/${hash}`)).status, 405)
  })
})

describe('TOUCH', () => {
  test('makes a block young again, after other requests on its connection', async (t) => {
    const service = await Service.start(t, 2)
    await service.put()
    await service.age()
    const socket = await service.h.connect()
    socket.write(`GET /${hash} HTTP/1.1\r\nHost: x\r\n\r\n`)
    let got = 0
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      got += chunk.length
      if (got > data.length) break
    }
    // A head may come in pieces.
    socket.write(`TOUCH /${hash} HTTP/1.1\r\nHost: x\r\nAuthor`)
    await new Promise((resolve) => setImmediate(resolve))
    socket.write('ization: Bearer root-token\r\n\r\n')
    const chunks = await Array.fromAsync(socket)
    assert.match(String(Buffer.concat(chunks)), /^HTTP\/1\.1 200 OK\r\n.*Connection: close/is)
    const times = await Promise.all(
      [0, 1].map((at) => stat(service.file(at)).catch(() => undefined)),
    )
    assert.ok(times.some((each) => Date.now() - (each?.mtimeMs ?? 0) < 60_000))
    const line = await service.h.logLine((each) => {
      return each.msg === 'response' && each.reqMethod === 'TOUCH'
    })
    assert.equal(line.respStatusCode, 200)
    assert.match(String(line.remoteAddr), /^127\.0\.0\.1:\d+$/)
  })

  test('is for the system root alone, and knows what is missing', async (t) => {
    const service = await Service.start(t, 1)
    assert.match(await service.touch(), /^HTTP\/1\.1 404 /)
    await service.put()
    assert.match(await service.touch(), /^HTTP\/1\.1 200 /)
    assert.match(await service.touch(''), /^HTTP\/1\.1 401 /)
    assert.match(await service.touch('Authorization: Bearer x\r\n'), /^HTTP\/1\.1 403 /)
  })
})

describe('DELETE and untrash', () => {
  test('throw an old block away in all volumes, and take it back', async (t) => {
    const service = await Service.start(t, 2)
    const path = `/${hash}+${data.length}`
    assert.equal((await service.send('DELETE', path, '', root)).status, 404)
    await service.put({ 'X-Keep-Desired-Replicas': '2' })
    // Young blocks stay; keepstore answers so, too.
    assert.equal((await service.send('DELETE', path, '', root)).status, 200)
    assert.equal(await service.copies(), 2)
    await service.age()
    assert.equal((await service.send('DELETE', path)).status, 401)
    assert.equal((await service.send('DELETE', path, '', root)).status, 200)
    assert.equal(await service.copies(), 0)
    assert.equal((await service.h.get(path)).status, 404)
    assert.equal((await service.send('PUT', `/untrash${path}`)).status, 401)
    assert.equal((await service.send('PUT', `/untrash${path}`, '', root)).status, 200)
    assert.equal(await service.copies(), 2)
    assert.equal((await service.send('PUT', `/untrash${path}`, '', root)).status, 404)
  })

  test('throw nothing away where the cluster has BlobTrash off', async (t) => {
    const service = await Service.start(t, 1, { writing: { trash: false, trashLifetime: 0 } })
    await service.put()
    await service.age()
    const path = `/${hash}+${data.length}`
    assert.equal((await service.send('DELETE', path, '', root)).status, 405)
    const ns = BigInt(OLD.getTime()) * 1_000_000n
    const list = `[{"locator":"${path.slice(1)}","block_mtime":${ns},"mount_uuid":""}]`
    assert.equal((await service.send('PUT', '/trash', list, root)).status, 200)
    // The list is worked on by the time that the service has ended.
    await service.h.server.close()
    assert.equal(await service.copies(), 1)
  })

  test('are refused where no token is known', async (t) => {
    const service = await Service.start(t, 1, { tokens: {} })
    await service.put()
    await service.age()
    assert.equal((await service.send('DELETE', `/${hash}`)).status, 404)
    assert.equal((await service.send('PUT', '/trash', '[]')).status, 404)
    assert.equal(await service.copies(), 1)
  })
})

test('what broken writes have left goes, also where no block is thrown away, or deleted', async (t) => {
  const dir = await mkdtemp(join(scratch, 'root-'))
  const shard = join(dir, hash.slice(0, 3))
  await mkdir(shard)
  const volumes = [await UnixVolume.open(dir)]
  const log = createLog(new PassThrough().resume())
  const left = async (options: Partial<WriteOptions>) => {
    for (const name of [`tmp${hash}1`, `${hash}.trash.1`]) {
      await writeFile(join(shard, name), data)
      await utimes(join(shard, name), OLD, OLD)
    }
    const parts = { volumes, signing: undefined, log, idleLimit: 20_000 }
    const writes = Writes.of({ ...WRITING, ...parts, ...options })!
    t.after(() => writes.close())
    await writes.emptyTrash()
    return readdir(shard)
  }
  assert.deepEqual(await left({ trash: false }), [`${hash}.trash.1`])
  assert.deepEqual(await left({ trashInterval: 0 }), [`${hash}.trash.1`])
  assert.deepEqual(await left({}), [])
})

describe('lists', () => {
  const mtimeNs = '1577836800000000000'

  test('trash what is still as old as they say', async (t) => {
    const service = await Service.start(t, 2)
    await service.put({ 'X-Keep-Desired-Replicas': '2' })
    await service.age()
    const item = (mtime: string) => {
      return `[{"locator":"${hash}+${data.length}","block_mtime":${mtime},"mount_uuid":""}]`
    }
    const trash = async (body: string, outcome: string) => {
      const seen = service.h.logLines.length
      assert.equal((await service.send('PUT', '/trash', body, root)).status, 200)
      await service.h.logLine((line) => {
        return service.h.logLines.indexOf(line) >= seen && line.outcome === outcome
      })
    }
    // A double cannot tell this time from the right one.
    await trash(item('1577836800000000001'), 'other-mtime')
    assert.equal(await service.copies(), 2)
    await trash(item(mtimeNs), 'trashed')
    assert.equal((await service.send('PUT', '/trash', '[]', root)).status, 200)
  })

  test('trash nothing where the cluster has BlobTrashConcurrency at 0', async (t) => {
    const service = await Service.start(t, 1, { writing: { trashConcurrency: 0 } })
    await service.put()
    await service.age()
    const list = `[{"locator":"${hash}","block_mtime":${mtimeNs},"mount_uuid":""}]`
    assert.equal((await service.send('PUT', '/trash', list, root)).status, 200)
    // A list is worked on by the time that the service has ended.
    await service.h.server.close()
    assert.equal(await service.copies(), 1)
  })

  test('trash in the mount that they name', async (t) => {
    const service = await Service.start(t, 2)
    await service.put({ 'X-Keep-Desired-Replicas': '2' })
    await service.age()
    const volume = await UnixVolume.open(service.roots[1]!)
    const digest = createHash('md5').update(volume.deviceId).digest('hex').slice(0, 15)
    const list = JSON.stringify([{ locator: hash, mount_uuid: `zzzzz-nyw5e-${digest}` }])
    const body = list.replace('}]', `,"block_mtime":${mtimeNs}}]`)
    assert.equal((await service.send('PUT', '/trash', body, root)).status, 200)
    await service.h.logLine((line) => line.outcome === 'trashed')
    assert.equal(await service.copies(), 1)
    await stat(service.file(0))
  })

  test('pull blocks from other services', async (t) => {
    const signing = { key: 'the-key', ttl: 1_209_600 }
    const [from, to] = [
      await Service.start(t, 1, { signing }),
      await Service.start(t, 1, { signing }),
    ]
    await from.put()
    const servers = ['http://127.0.0.1:1', `http://127.0.0.1:${from.h.port}`]
    const list = [{ locator: `${hash}+${data.length}`, servers, mount_uuid: '' }]
    assert.equal((await to.send('PUT', '/pull', JSON.stringify(list), root)).status, 200)
    await to.h.logLine((line) => line.msg === 'block pulled')
    const signed = signLocator(`${hash}+${data.length}`, 'token', 0x7fffffff, signing)
    const answer = await to.h.get(`/${signed}`, { Authorization: 'Bearer token' })
    assert.ok(answer.body.equals(data))
  })

  test('that are none are refused', async (t) => {
    const service = await Service.start(t, 1)
    const item = (fields: object) => JSON.stringify([fields])
    const bad = ['', '{', '{}', '[1]', item({}), item({ locator: 'x', block_mtime: 1 })]
    for (const body of [...bad, item({ locator: hash })]) {
      assert.equal((await service.send('PUT', '/trash', body, root)).status, 400, body)
    }
    const servers = ['ftp://x']
    for (const body of [...bad, item({ locator: hash }), item({ locator: `${hash}+1`, servers })]) {
      assert.equal((await service.send('PUT', '/pull', body, root)).status, 400, body)
    }
    assert.equal((await service.send('PUT', '/pull', 'null', root)).status, 200)
  })
})

test('a connection is kept between writes', async (t) => {
  const service = await Service.start(t, 1)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.after(() => agent.destroy())
  for (let seed = 1; seed <= 3; seed++) {
    const block = makeBlock(1000, seed)
    const path = `/${block.hash}`
    const options = { port: service.h.port, host: '127.0.0.1', method: 'PUT', path, agent }
    const req = request({ ...options, headers: { 'Content-Length': 1000 } })
    req.end(block.data)
    const [res] = (await once(req, 'response')) as [IncomingMessage]
    assert.equal((await readAnswer(res)).status, 200)
    assert.equal(req.reusedSocket, seed > 1)
  }
})
