/**
 * What every remote must do, whatever it stores its objects in. Each test keeps its objects under a
 * prefix of its own, so that one store serves them all.
 */

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import pLimit from 'p-limit'
import { compareKeys } from '../../src/remote/key.ts'
import {
  type ListOptions,
  type ReadRequest,
  RemoteError,
  type RemoteFailure,
  type RemoteObject,
  type RemoteStore,
  type Sink,
} from '../../src/remote/remote.ts'
import { isAbort } from '../aborts.ts'

/** An empty store to test, and the means to fill it. */
export interface RemoteFixture {
  store: RemoteStore
  /** Writes an object, in place of one that has this key. */
  put(key: string, data: Uint8Array): Promise<void>
  remove(key: string): Promise<void>
  teardown(): Promise<void>
  /** False for keys that this kind of store cannot hold; without it, all can be held. */
  canHold?(key: string): boolean | Promise<boolean>
  /** False for a store that lists in an order of its own; without it, in that of the keys' bytes. */
  ordered?: boolean
  /** Returns a store whose bucket or root does not exist. */
  openMissing(): RemoteStore
}

export interface RemoteSuiteOptions {
  /** Tests that cannot be run on this store, by their names, with the reason that is printed. */
  skip?: { reason: string; tests: string[] }[]
}

/** A promise that is never kept must fail its test, not hang it. */
const PATIENCE = { timeout: 120_000 }

const bytes = (text: string) => Buffer.from(text, 'utf8')

/** Returns data in which every 32-bit word is another, so that no part can stand for another. */
function patterned(length: number, seed = 0): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4))
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e3779b1) ^ seed
  return Buffer.from(words.buffer, 0, length)
}

/** Returns all objects of a listing that nothing was missing from. */
export async function listAll(store: RemoteStore, options?: ListOptions): Promise<RemoteObject[]> {
  const all: RemoteObject[] = []
  for await (const page of store.list(options)) {
    assert.deepEqual(page.unlisted, [])
    all.push(...page.objects)
  }
  return all
}

/** Returns what a read delivers. */
export async function readAll(store: RemoteStore, request: ReadRequest): Promise<Buffer> {
  const chunks: Buffer[] = []
  await store.read(request, (chunk) => {
    chunks.push(Buffer.from(chunk))
  })
  return Buffer.concat(chunks)
}

/** Fails unless the call throws a RemoteError of one of these failures; returns that. */
export async function failsWith(
  call: Promise<unknown>,
  ...failures: RemoteFailure[]
): Promise<RemoteError> {
  const thrown: unknown = await call.then(
    () => assert.fail(`expected ${failures.join(' or ')}, and it succeeded`),
    (error) => error,
  )
  assert.ok(thrown instanceof RemoteError, `not a RemoteError: ${thrown}`)
  assert.ok(failures.includes(thrown.failure), `${thrown.failure}: ${thrown.message}`)
  assert.ok(!thrown.message.includes('\n'), 'the message is one line')
  return thrown
}

const unwanted: Sink = () => assert.fail('nothing may be delivered')

/** Registers the tests of one store. `setup` is called once. */
export function remoteSuite(
  name: string,
  setup: () => Promise<RemoteFixture>,
  options: RemoteSuiteOptions = {},
): void {
  const reasons = new Map(
    (options.skip ?? []).flatMap(({ reason, tests }) => tests.map((test) => [test, reason])),
  )

  describe(name, () => {
    let fixture: RemoteFixture
    let store: RemoteStore
    /** Keys that the store should hold, and their sizes. */
    const held = new Map<string, number>()

    before(async () => {
      fixture = await setup()
      store = fixture.store
    })
    after(async () => {
      await fixture?.teardown()
    })

    async function put(key: string, data: Uint8Array): Promise<RemoteObject> {
      await fixture.put(key, data)
      held.set(key, data.length)
      return store.stat(key)
    }

    async function remove(key: string): Promise<void> {
      await fixture.remove(key)
      held.delete(key)
    }

    /** Puts those of the keys that the store can hold, each with its own content; returns them. */
    async function putEach(keys: string[]): Promise<Map<string, Buffer>> {
      const contents = new Map<string, Buffer>()
      for (const key of keys) {
        if ((await fixture.canHold?.(key)) === false) continue
        const data = bytes(`content ${contents.size} of ${JSON.stringify(key)}`)
        await fixture.put(key, data)
        held.set(key, data.length)
        contents.set(key, data)
      }
      assert.ok(contents.size > 0, 'the store can hold some of the keys')
      return contents
    }

    /** Returns the objects of a listing in byte order, in which an ordered store has them already. */
    async function listed(prefix?: string): Promise<RemoteObject[]> {
      const objects = await listAll(store, prefix === undefined ? {} : { prefix })
      if (fixture.ordered !== false) return objects
      return objects.sort((a, b) => compareKeys(a.key, b.key))
    }

    async function holdsExactly(prefix: string, contents: Map<string, Buffer>): Promise<void> {
      const objects = await listed(prefix)
      assert.deepEqual(
        objects.map(({ key }) => key),
        [...contents.keys()].sort(compareKeys),
      )
      for (const { key, size, etag } of objects) {
        const expected = contents.get(key)!
        const data = await readAll(store, { key, offset: 0, length: size, size, etag })
        assert.equal(data.toString(), expected.toString(), JSON.stringify(key))
        const stat = await store.stat(key)
        assert.deepEqual([stat.key, stat.size, stat.etag], [key, expected.length, etag])
      }
    }

    function test(title: string, body: () => Promise<void>): void {
      const skip = reasons.get(title) ?? false
      reasons.delete(title)
      it(title, { ...PATIENCE, skip }, body)
    }

    describe('listing', () => {
      test('gives every object once, in byte order, over several pages', async () => {
        const keys = Array.from({ length: 2500 }, (_, i) => `many/${i % 7}/${(i * 7919) % 2500}`)
        await pLimit(32).map(keys, async (key) => {
          await fixture.put(key, bytes(key))
          held.set(key, key.length)
        })
        const objects = await listed('many/')
        assert.deepEqual(
          objects.map(({ key }) => key),
          keys.toSorted(compareKeys),
        )
        assert.ok(objects.every(({ key, size }) => size === key.length))
        assert.equal(new Set(objects.map(({ key }) => key)).size, 2500)
      })

      test('is in the order of bytes, not of directories or UTF-16 units', async () => {
        const keys = [
          'a-b',
          'a/1',
          'a/1/x',
          'a/1-x',
          'a0',
          'a',
          'B',
          'é',
          'z',
          '\uff61',
          '\u{1f600}',
        ]
        const contents = await putEach(keys.map((key) => `order/${key}`))
        await holdsExactly('order/', contents)
      })

      test('keeps to a prefix, which may end amid a name', async () => {
        const contents = await putEach([
          'prefix/ab/1',
          'prefix/abc/2',
          'prefix/abc/d/3',
          'prefix/abd',
          'prefix/b',
          'prefix/%61b/4',
          'prefix/a b+c/5',
        ])
        const prefixes = ['prefix/', 'prefix/ab', 'prefix/abc/', 'prefix/abc/d/3', 'prefix/%61']
        for (const prefix of [
          ...prefixes,
          'prefix/a b+',
          'prefix/b/',
          'prefix/nothing',
          'prefiy',
        ]) {
          const matching = [...contents.keys()].filter((key) => key.startsWith(prefix))
          const objects = await listed(prefix)
          assert.deepEqual(
            objects.map(({ key }) => key),
            matching.sort(compareKeys),
            prefix,
          )
        }
      })

      test('shows an empty object with its size 0', async () => {
        const { etag } = await put('empty/object', new Uint8Array())
        const [object, ...others] = await listAll(store, { prefix: 'empty/' })
        assert.equal(others.length, 0)
        assert.equal(object?.key, 'empty/object')
        assert.equal(object?.size, 0)
        assert.equal(object?.etag, etag)
      })

      test('agrees with stat', async () => {
        const start = Date.now()
        const stat = await put('agree/object', patterned(1000))
        const [listed] = await listAll(store, { prefix: 'agree/' })
        assert.ok(listed)
        assert.deepEqual([listed.size, stat.size], [1000, 1000])
        assert.equal(listed.etag, stat.etag)
        assert.match(listed.etag, /^[^"\s]+$/)
        assert.ok(!listed.etag.startsWith('W/'))
        assert.deepEqual([listed.archived, stat.archived], [false, false])
        // Headers and some listings tell whole seconds only.
        assert.ok(Math.abs(listed.lastModified - stat.lastModified) < 1000)
        assert.ok(Math.abs(listed.lastModified - start) < 3_600_000)
      })

      test('may be left early, and started again beside itself', async () => {
        const contents = await putEach(['twice/1', 'twice/2', 'twice/3'])
        for await (const page of store.list({ prefix: 'twice/' })) {
          assert.ok(page.objects.length > 0)
          break
        }
        await Promise.all([holdsExactly('twice/', contents), holdsExactly('twice/', contents)])
      })

      test('ends when it is aborted', async () => {
        await put('abort-list/object', bytes('x'))
        const signal = AbortSignal.abort()
        await assert.rejects(listAll(store, { prefix: 'abort-list/', signal }), isAbort)
      })
    })

    describe('keys', () => {
      test('of any characters are listed, looked at and read as they are', async () => {
        const names = [
          'with space',
          ' leading and trailing ',
          'x%41',
          '100%',
          '%zz',
          'a+b',
          '?#&=;,:@!$*',
          'what?x=1&y=2#fragment',
          `quote"'\`<>`,
          'back\\slash',
          'line\nfeed',
          'tab\tbed',
          'control\u0001\u001f\u007f',
          'carriage\rreturn',
          'next\u0085line\u2028separator',
          'é e\u0301',
          '\ufeffmark',
          'emoji \u{1f9ec}',
          '日本語',
          'a%2e%2e',
          '%2e%2e/x',
          'sub%2Fdir/file',
          '...',
          '.hidden/..x/x..',
          'a//b',
          './a',
          'a/../b',
          '/slash first',
          '[a]{b}|^~',
          'n'.repeat(200),
        ]
        await holdsExactly('odd/', await putEach(names.map((name) => `odd/${name}`)))
      })

      test('that decoding or folding would make one stay apart', async () => {
        const groups = [
          ['x%41', 'xA', 'x%2541'],
          ['y z', 'y+z', 'y%20z', 'y%2Bz'],
          ['up/%2e%2e/v', 'v', 'up/v', 'up/../v'],
          ['dot/%2E/w', 'dot/w', 'dot/./w'],
          ['s%2Ft', 's/t', 's//t', 's\\t'],
          ['\u00e9', 'e\u0301'],
          ['q?versionId=1', 'q'],
          ['h#1', 'h'],
          ['end ', 'end', 'end.'],
          ['&amp;', '&'],
        ]
        const keys = groups.flat().map((name) => `apart/${name}`)
        const contents = await putEach(keys)
        await holdsExactly('apart/', contents)
        for (const key of [...contents.keys()]) {
          const { size } = await store.stat(key)
          await remove(key)
          contents.delete(key)
          await failsWith(store.read({ key, offset: 0, length: size }, unwanted), 'gone')
          await failsWith(store.stat(key), 'gone')
        }
        await holdsExactly('apart/', contents)
      })

      test('that differ in case alone stay apart', async () => {
        await holdsExactly('case/', await putEach(['case/ReadMe', 'case/README', 'case/readme']))
      })
    })

    describe('reading', () => {
      const key = 'read/object'
      const data = patterned(3 * 1024 * 1024 + 5)
      let object: RemoteObject
      before(async () => {
        object = await put(key, data)
      })

      test('delivers the whole, a range, and the last byte', async () => {
        const last = data.length - 1
        const ranges = [
          [0, data.length],
          [0, 1],
          [1, 1],
          [65_535, 2],
          [1_000_003, 777_777],
          [last, 1],
        ] as const
        for (const [offset, length] of ranges) {
          const request = { key, offset, length, etag: object.etag, size: data.length }
          const got = await readAll(store, request)
          assert.ok(got.equals(data.subarray(offset, offset + length)), `${offset}+${length}`)
        }
        const whole = await readAll(store, { key, offset: 0, length: data.length })
        assert.ok(whole.equals(data), 'without an ETag or size')
      })

      test('waits for the sink, and gives it the chunks in order', async () => {
        const chunks: Buffer[] = []
        let busy = false
        await store.read({ key, offset: 0, length: data.length }, async (chunk) => {
          assert.equal(busy, false, 'called before its last promise was settled')
          busy = true
          await new Promise((resolve) => setImmediate(resolve))
          // Only now: the chunk must be left alone until the promise is settled.
          chunks.push(Buffer.from(chunk))
          busy = false
        })
        assert.ok(Buffer.concat(chunks).equals(data))
      })

      test("throws the sink's own error as it is", async () => {
        const error = new Error('the sink is full')
        const request = { key, offset: 0, length: data.length }
        const throwing = store.read(request, () => {
          throw error
        })
        await assert.rejects(throwing, (thrown) => thrown === error)
        const rejecting = store.read(request, () => Promise.reject(error))
        await assert.rejects(rejecting, (thrown) => thrown === error)
        assert.ok((await readAll(store, request)).equals(data), 'the store is usable afterwards')
      })

      test('delivers nothing of an object with another ETag', async () => {
        const request = { key, offset: 0, length: 10, etag: 'another' }
        const error = await failsWith(store.read(request, unwanted), 'changed')
        assert.equal(error.delivered, 0)
      })

      test('delivers nothing of an object with another size', async () => {
        for (const size of [data.length - 1, data.length + 1, 10]) {
          const request = { key, offset: 0, length: 10, size }
          const error = await failsWith(store.read(request, unwanted), 'changed')
          assert.equal(error.delivered, 0)
        }
      })

      test('delivers nothing of a range beyond the end', async () => {
        const starts = [data.length - 10, data.length, data.length + 1_000_000]
        for (const offset of starts) {
          const call = store.read({ key, offset, length: 20 }, unwanted)
          const error = await failsWith(call, 'changed', 'gone')
          assert.equal(error.delivered, 0)
        }
        await put('read/nothing', new Uint8Array())
        const call = store.read({ key: 'read/nothing', offset: 0, length: 1 }, unwanted)
        await failsWith(call, 'changed', 'gone')
      })

      test('says gone of a key that is not there', async () => {
        for (const missing of ['read/missing', 'read/object/below', 'nowhere/at/all']) {
          const call = store.read({ key: missing, offset: 0, length: 1 }, unwanted)
          assert.equal((await failsWith(call, 'gone')).delivered, 0)
          await failsWith(store.stat(missing), 'gone')
        }
      })

      test('says gone of a key that others lie below', async () => {
        await put('read/folder/object', bytes('x'))
        await failsWith(store.read({ key: 'read/folder', offset: 0, length: 1 }, unwanted), 'gone')
        await failsWith(store.stat('read/folder'), 'gone')
      })

      test('says changed of an object that was overwritten', async () => {
        const old = await put('read/overwritten', bytes('one'))
        const request = { key: 'read/overwritten', offset: 0, length: 3 }
        const now = await put(request.key, bytes('two'))
        assert.notEqual(now.etag, old.etag)
        await failsWith(store.read({ ...request, etag: old.etag }, unwanted), 'changed')
        const got = await readAll(store, { ...request, etag: now.etag })
        assert.equal(got.toString(), 'two')
      })

      test('says gone of an object that was removed', async () => {
        const { etag } = await put('read/removed', bytes('one'))
        await remove('read/removed')
        const request = { key: 'read/removed', offset: 0, length: 3, etag, size: 3 }
        await failsWith(store.read(request, unwanted), 'gone', 'changed')
        await failsWith(store.stat('read/removed'), 'gone')
      })

      test('goes on side by side', async () => {
        const reads = Array.from({ length: 50 }, async (_, i) => {
          const offset = i * 50_021
          const got = await readAll(store, { key, offset, length: 123_457, etag: object.etag })
          assert.ok(got.equals(data.subarray(offset, offset + 123_457)), `read ${i}`)
        })
        await Promise.all(reads)
      })
    })

    describe('aborting', () => {
      const key = 'abort/object'
      const request = { key, offset: 0, length: 3 * 1024 * 1024 }
      before(async () => {
        await put(key, patterned(request.length))
      })

      test('beforehand starts nothing', async () => {
        const signal = AbortSignal.abort()
        await assert.rejects(store.read(request, unwanted, signal), isAbort)
        await assert.rejects(store.stat(key, signal), isAbort)
      })

      test('in the middle of a read ends it, and the sink is called no more', async () => {
        const controller = new AbortController()
        let calls = 0
        const read = store.read(
          request,
          () => {
            calls++
            controller.abort()
          },
          controller.signal,
        )
        await assert.rejects(read, isAbort)
        assert.equal((await readAll(store, request)).length, request.length)
        assert.equal(calls, 1)
      })

      test('ends a read that waits for a sink', async () => {
        const controller = new AbortController()
        const never = new Promise<void>(() => {})
        const read = store.read(
          request,
          () => {
            setImmediate(() => controller.abort())
            return never
          },
          controller.signal,
        )
        await assert.rejects(read, isAbort)
      })

      test('one of two reads leaves the other alone', async () => {
        const controller = new AbortController()
        const other = readAll(store, request)
        const read = store.read(request, () => controller.abort(), controller.signal)
        await assert.rejects(read, isAbort)
        assert.equal((await other).length, request.length)
      })
    })

    describe('a store that does not exist', () => {
      let missing: RemoteStore
      before(() => {
        missing = fixture.openMissing()
      })
      after(() => missing?.close())

      test('is unreachable, and never an empty listing', async () => {
        await failsWith(listAll(missing), 'unreachable')
        await failsWith(listAll(missing, { prefix: 'a/' }), 'unreachable')
      })

      test('says unreachable, and never gone, of its keys', async () => {
        const call = missing.read({ key: 'a/b', offset: 0, length: 1 }, unwanted)
        await failsWith(call, 'unreachable')
        await failsWith(missing.stat('a/b'), 'unreachable')
      })
    })

    describe('the whole store', () => {
      test('is listed as all that was put and not removed', async () => {
        const objects = await listed()
        assert.deepEqual(
          objects.map(({ key, size }) => [key, size]),
          [...held].sort(([a], [b]) => compareKeys(a, b)),
        )
      })

      test('fails what is pending when it is closed', async () => {
        const object = await put('close/object', patterned(1024 * 1024))
        const reading = Promise.withResolvers<void>()
        const request = { key: object.key, offset: 0, length: object.size }
        const read = store.read(request, () => {
          reading.resolve()
          return new Promise<void>(() => {})
        })
        const outcome = assert.rejects(read)
        await reading.promise
        await store.close()
        await outcome
      })
    })

    assert.deepEqual([...reasons.keys()], [], 'tests to skip that do not exist')
  })
}
