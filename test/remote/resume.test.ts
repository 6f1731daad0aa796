import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type ReadRequest,
  RemoteError,
  type RemoteFailure,
  type RemoteStore,
} from '../../src/remote/remote.ts'
import { readResuming } from '../../src/remote/resume.ts'
import { isAbort } from '../aborts.ts'
import { failsWith } from '../suites/remote.ts'

const DATA = Buffer.from('abcdefghijklmnopqrstuvwxyz')
const REQUEST = { key: 'key', offset: 2, length: 20, etag: 'etag', size: 26 }

/** Bytes that a read delivers, and why it ends then; undefined for a read that succeeds. */
type Turn = [bytes: number, failure: RemoteFailure] | undefined

/** A store whose reads go as the turns say. */
function storeOf(...turns: Turn[]) {
  const requests: ReadRequest[] = []
  const read: RemoteStore['read'] = async (request, sink) => {
    const turn = turns[requests.push(request) - 1]
    const [length, failure] = turn ?? [request.length, undefined]
    if (length > 0) await sink(DATA.subarray(request.offset, request.offset + length))
    if (failure === undefined) return
    throw new RemoteError(failure, 'it broke', { delivered: length, hint: 'Mend it' })
  }
  return { remote: { read } as RemoteStore, requests }
}

async function readFrom(remote: RemoteStore, signal?: AbortSignal) {
  let got = ''
  const take = (chunk: Uint8Array) => {
    got += chunk
  }
  const failed = await readResuming(remote, REQUEST, take, signal).then(
    () => undefined,
    (error) => error,
  )
  return { got, failed }
}

const WANTED = DATA.subarray(2, 22).toString()

test('a read that succeeds is one read', async () => {
  const { remote, requests } = storeOf()
  assert.deepEqual(await readFrom(remote), { got: WANTED, failed: undefined })
  assert.deepEqual(requests, [REQUEST])
})

test('a read that breaks goes on behind the last byte, of the same object', async () => {
  const { remote, requests } = storeOf([5, 'unreachable'], [1, 'unreachable'])
  assert.deepEqual(await readFrom(remote), { got: WANTED, failed: undefined })
  const rest = (offset: number, length: number) => ({ ...REQUEST, offset, length })
  assert.deepEqual(requests, [REQUEST, rest(7, 15), rest(8, 14)])
})

test('any number of breaks is overcome, as long as bytes come in between', async () => {
  const { remote } = storeOf(...Array.from({ length: 8 }, (): Turn => [2, 'unreachable']))
  assert.deepEqual(await readFrom(remote), { got: WANTED, failed: undefined })
})

test('a read that does not begin is not begun again', async () => {
  const { remote, requests } = storeOf([0, 'unreachable'])
  const { got, failed } = await readFrom(remote)
  assert.deepEqual([got, failed.failure, failed.delivered], ['', 'unreachable', 0])
  assert.equal(requests.length, 1)
})

test('breaks without a byte in between end it, and all bytes are counted', async () => {
  const none: Turn = [0, 'unreachable']
  const { remote, requests } = storeOf([5, 'unreachable'], none, none, none)
  const { got, failed } = await readFrom(remote)
  assert.equal(got, WANTED.slice(0, 5))
  assert.ok(failed instanceof RemoteError)
  assert.deepEqual(
    [failed.failure, failed.delivered, failed.message, failed.hint],
    ['unreachable', 5, 'it broke', 'Mend it'],
  )
  assert.equal(requests.length, 4)
})

test('an object that has gone or changed meanwhile ends it', async () => {
  for (const failure of ['gone', 'changed'] as const) {
    const { remote, requests } = storeOf([5, 'unreachable'], [0, failure])
    const { got, failed } = await readFrom(remote)
    assert.equal(got, WANTED.slice(0, 5))
    assert.deepEqual([failed.failure, failed.delivered], [failure, 5])
    assert.equal(requests.length, 2)
  }
})

test('an error of the sink ends it', async () => {
  const { remote, requests } = storeOf()
  const error = new Error('the sink is full')
  const read = readResuming(remote, REQUEST, () => Promise.reject(error))
  await assert.rejects(read, (thrown) => thrown === error)
  assert.equal(requests.length, 1)
})

test('the wait before the next try can be aborted', async () => {
  const { remote, requests } = storeOf([5, 'unreachable'])
  const controller = new AbortController()
  setImmediate(() => setImmediate(() => controller.abort()))
  const { failed } = await readFrom(remote, controller.signal)
  assert.ok(isAbort(failed))
  assert.equal(requests.length, 1)
})

test('a read of which every byte came is not read on', async () => {
  const { remote, requests } = storeOf([20, 'unreachable'])
  const { got, failed } = await readFrom(remote)
  assert.equal(got, WANTED)
  await failsWith(Promise.reject(failed), 'unreachable')
  assert.equal(requests.length, 1)
})
