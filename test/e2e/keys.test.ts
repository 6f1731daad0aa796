/**
 * Keys of any characters through the whole chain: indexed, served and verified, each as the object
 * that it names. Every object has content of its own, so that a key that is folded or decoded on the
 * way shows as the wrong block.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startFauxqs } from '../servers/fauxqs.ts'
import { makeBucket, NO_S3, type S3Access, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgw, keepgwOk, serve, summaryOf, temporary, treeLines } from './keepgw.ts'

/** As consoles make it: an empty object. */
const FOLDER = 'folder/'
const KEYS = [
  'plain',
  'with space',
  ' leading and trailing ',
  '%41',
  'A',
  '%2541',
  'slash%2Fy',
  'slash/y',
  '100%',
  '%zz',
  'a+b',
  'a b',
  'a%20b',
  '?#&',
  'q',
  'q?versionId=1',
  'q#fragment',
  `"quoted" and 'quoted' \`too\` <&amp;>`,
  'line\nfeed',
  'tab\tbed\tetag=wrong',
  'carriage\rreturn',
  '\u0001\u001f\u007f',
  'next\u0085line\u2028separator',
  'emoji \u{1f9ec}',
  'é',
  'e\u0301',
  'back\\slash',
  '10:20:colons',
  '/lead',
  'lead',
  './x',
  'x',
  'b',
  'up/../b',
  'c',
  'dot/%2e%2e/c',
  'dot/%2E%2e/c',
  'e//f',
  'e/f',
  FOLDER,
  'folder/file',
  `${'long/'.repeat(200)}${'k'.repeat(24)}`,
]

/** Contents by key; the key's bytes in hex, as a file's name may not be UTF-8. */
type Objects = Map<string, Buffer>

const hex = (key: string) => Buffer.from(key).toString('hex')
const md5 = (data: Uint8Array) => createHash('md5').update(data).digest('hex')

/** Returns the bytes that a path in the mapping stands for. */
function decodePath(path: string): string {
  const bytes: number[] = []
  for (const part of Buffer.from(path)
    .toString('latin1')
    .matchAll(/%(..)|([^%])/gs)) {
    bytes.push(part[1] === undefined ? part[2]!.charCodeAt(0) : Number.parseInt(part[1], 16))
  }
  return Buffer.from(bytes).toString('hex')
}

/** The places that the tree must have, one an object: `HASH OFFSET:LENGTH:KEY`, keys in hex. */
function expectedPlaces(objects: Objects): string[] {
  const whole = [...objects].filter(([, data]) => data.length > 0)
  return whole.map(([key, data]) => `${md5(data)} 0:${data.length}:${key}`).sort()
}

function placeOf(line: string): string {
  const [, hash, range, path] = /^(\w{32}) (\d+:\d+):([^\t]+)\tetag=\S+$/.exec(line) ?? []
  assert.ok(path !== undefined, line)
  return `${hash} ${range}:${decodePath(path)}`
}

interface Chain {
  /** As it is named on the command line. */
  remote: string
  /** The objects that lie there; keys in hex. */
  objects: Objects
  /** Where the mapping is to lie. */
  mapping: string
  env: NodeJS.ProcessEnv
}

/** Indexes, serves and verifies a bucket or a directory. */
async function goesThrough({ remote, objects, mapping, env }: Chain): Promise<void> {
  const index = ['index', remote, `--mappings=${mapping}`, '--json']
  const { added, unreadable } = summaryOf(await keepgwOk(index, env))
  assert.deepEqual({ added, unreadable }, { added: objects.size, unreadable: 0 })
  const again = summaryOf(await keepgwOk(index, env))
  assert.deepEqual([again.unchanged, again.bytes, again.dropped], [objects.size, 0, 0])
  assert.deepEqual((await treeLines(mapping)).map(placeOf).sort(), expectedPlaces(objects))

  const kind = remote.startsWith('/') ? 'file' : 's3'
  const served = await serve([`${kind}:${mapping}:${remote}`], env)
  try {
    for (const data of objects.values()) await isServed(served.url, data)
    assert.deepEqual(
      served.log().filter(({ msg }) => msg === 'failover'),
      [],
      'no place failed',
    )
  } finally {
    await served.stop()
  }

  const verify = ['verify', '--all', `--mappings=${mapping}`, '--bucket', remote, '--json']
  const { code, stdout, stderr } = await keepgw(verify, env)
  assert.equal(code, 0, stderr)
  const said = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const places = said.filter(({ type }) => type === 'place')
  assert.equal(places.length, expectedPlaces(objects).length)
  for (const { verdict, key, reason } of places) assert.equal(verdict, 'ok', `${key}: ${reason}`)
}

async function isServed(url: string, data: Buffer): Promise<void> {
  const block = `${url}/${md5(data)}+${data.length}`
  const answer = await fetch(block)
  assert.equal(answer.status, 200)
  assert.ok(Buffer.from(await answer.arrayBuffer()).equals(data))
  assert.equal((await fetch(block, { method: 'HEAD' })).status, 200)
}

/** Puts the keys that the store takes and lists exactly as they are; returns them. */
async function fill(bucket: TestBucket): Promise<Objects> {
  const objects: Objects = new Map()
  const put = async (key: string, data: Buffer): Promise<void> => {
    if ((await bucket.put(key, data)).exact) objects.set(hex(key), data)
    else await bucket.remove(key)
  }
  // First those that a store may rewrite, so that none of them replaces another that has its name.
  const [odd, plain] = [/^\/|\/\/|\\|(^|\/)\.\.?(\/|$)|\r/, KEYS]
  for (const key of plain.toSorted((a, b) => Number(odd.test(b)) - Number(odd.test(a)))) {
    const data = Buffer.from(key === FOLDER ? '' : `content of ${JSON.stringify(key)}`)
    // A store may refuse a key.
    await put(key, data).catch(() => {})
  }
  await put('empty', Buffer.alloc(0))
  return objects
}

/** Returns how many keys the store has let through. */
async function bucketGoesThrough(server: S3Access): Promise<number> {
  const bucket = await makeBucket(server)
  const { dir, remove } = await temporary()
  try {
    const objects = await fill(bucket)
    const listed = (await bucket.list()).map(({ key }) => hex(key))
    assert.deepEqual(listed.sort(), [...objects.keys()].sort(), 'it holds what was put')
    const env = environment(server, dir)
    await goesThrough({ remote: bucket.name, objects, mapping: join(dir, 'mapping'), env })
    return objects.size
  } finally {
    await bucket.destroy()
    await remove()
  }
}

const shared = sharedS3()
test('odd keys of a bucket on a real server', { skip: shared ? false : NO_S3 }, async (t) => {
  const count = await bucketGoesThrough(shared!)
  t.diagnostic(`this server holds ${count} of ${KEYS.length + 1} keys exactly`)
  assert.ok(count > KEYS.length / 2)
})

test('odd keys of a bucket on fauxqs, which takes nearly all of them', async () => {
  const server = await startFauxqs()
  try {
    // Its listings are plain XML, in which a carriage return is a line feed.
    assert.equal(await bucketGoesThrough(server), KEYS.length)
  } finally {
    await server.stop()
  }
})

test('odd names of files in a directory', async () => {
  const { dir, remove } = await temporary()
  const root = join(dir, 'odd %41 tree')
  const objects: Objects = new Map()
  const put = async (name: Buffer, content = Buffer.concat([Buffer.from('content of '), name])) => {
    const path = Buffer.concat([Buffer.from(`${root}/`), name])
    await mkdir(path.subarray(0, path.lastIndexOf('/')), { recursive: true })
    await writeFile(path, content)
    objects.set(name.toString('hex'), content)
  }
  const isFile = (key: string) =>
    key.split('/').every((part) => !['', '.', '..'].includes(part)) &&
    !KEYS.some((other) => other.startsWith(`${key}/`))
  try {
    for (const key of KEYS.filter(isFile)) await put(Buffer.from(key))
    for (const name of ['\xff', 'x\xc3', '%FF', 'd\xfe/\xf0\x9f', '\xed\xb3\xbf']) {
      await put(Buffer.from(name, 'latin1'))
    }
    await put(Buffer.from('empty'), Buffer.alloc(0))
    const env = { PATH: process.env.PATH, HOME: dir }
    await goesThrough({ remote: root, objects, mapping: join(dir, 'mapping'), env })
  } finally {
    await remove()
  }
})
