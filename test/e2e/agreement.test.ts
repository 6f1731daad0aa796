/**
 * The tree against `split` and `md5sum`, over real files: KEEPGW_TEST_CORPUS names directories
 * (separated by colons), by default what npm has installed and the tests' S3 server.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pLimit from 'p-limit'
import { type FaultProxy, startFaultProxy } from '../faults/proxy.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { environment, keepgwOk, summaryOf, temporary, treeLines } from './keepgw.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const CORPUS = process.env.KEEPGW_TEST_CORPUS?.split(':') ?? [
  join(ROOT, 'node_modules'),
  join(ROOT, '.cache'),
]
const EVERY_DAY = 500
const LARGE = 16 * 1024 * 1024
const BLOCK = 67_108_864
const run = promisify(execFile)
const server = sharedS3()

/** Returns the corpus's regular files, as absolute paths. */
async function corpusFiles(): Promise<string[]> {
  const find = [...CORPUS, '-type', 'f', '-readable', '-print0']
  const { stdout } = await run('find', find, { maxBuffer: 1 << 28 })
  const files = stdout.split('\0').filter((file) => file !== '')
  if (process.env.KEEPGW_TEST_CORPUS !== undefined) return files
  // Enough for every day: the first ones, and those of several blocks.
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size))
  return files.filter((_, i) => i < EVERY_DAY || sizes[i]! > BLOCK)
}

/** Returns the lines that the tree must have for the objects (key to file), without attributes. */
async function linesBySplit(files: Map<string, string>): Promise<string[]> {
  const names = [...files.values()].map((file) => `${file}\0`).join('')
  const script = `while IFS= read -r -d '' f; do echo "= $(stat -c %s -- "$f")"; split -b ${BLOCK} --filter=md5sum -- "$f"; done`
  const child = run('bash', ['-c', script], { maxBuffer: 1 << 28 })
  child.child.stdin!.end(names)
  const { stdout } = await child
  const parts = stdout.split('= ').slice(1)
  const lines = [...files.keys()].flatMap((key, i) => {
    const [size = '', ...sums] = parts[i]!.trimEnd().split('\n')
    return sums.map((sum, segment) => {
      const offset = segment * BLOCK
      return `${sum.slice(0, 32)} ${offset}:${Math.min(BLOCK, Number(size) - offset)}:${key}`
    })
  })
  return lines.sort()
}

describe('the tree agrees with split and md5sum', { skip: server === undefined && NO_S3 }, () => {
  let bucket: TestBucket
  let proxy: FaultProxy
  let scratch: Awaited<ReturnType<typeof temporary>>
  let mapping: string
  const files = new Map<string, string>()

  const index = async (): Promise<Record<string, unknown>> => {
    proxy.requests.length = 0
    const env = environment({ ...server!, endpoint: proxy.endpoint }, scratch.dir)
    return summaryOf(await keepgwOk(['index', bucket.name, '--json'], env))
  }
  /** The keys that were asked for since the last index began. */
  const keysRead = (): string[] => {
    const object = new RegExp(`^/${bucket.name}/([^?]+)`)
    const keys = proxy.requests.map(({ path }) => object.exec(path)?.[1])
    return [...new Set(keys.filter((key) => key !== undefined))].map(decodeURIComponent).sort()
  }
  const assertAgrees = async (): Promise<void> => {
    const lines = (await treeLines(mapping)).map((line) => line.split('\t')[0]!)
    assert.deepEqual(lines.sort(), await linesBySplit(files))
  }
  const upload = async (key: string, file: string): Promise<void> => {
    const data = await readFile(file)
    await (data.length > LARGE ? bucket.putLarge(key, data, LARGE) : bucket.put(key, data))
    files.set(key, file)
  }

  before(async () => {
    bucket = await makeBucket(server!)
    proxy = await startFaultProxy(server!)
    scratch = await temporary()
    mapping = join(scratch.dir, bucket.name)
    const limit = pLimit(16)
    const all = await corpusFiles()
    await Promise.all(all.map((file, i) => limit(() => upload(`f${i}${file}`, file))))
    const sizes = await Promise.all(all.map(async (file) => (await stat(file)).size))
    const total = sizes.reduce((a, b) => a + b, 0)
    const large = sizes.filter((size) => size > BLOCK).length
    console.log(`corpus: ${all.length} files, ${total} bytes, ${large} above 64 MiB`)
  })
  after(async () => {
    await proxy?.stop()
    await bucket?.destroy()
    await scratch?.remove()
  })

  it('line by line, both ways, after a first index', async () => {
    const { added, unreadable } = await index()
    assert.deepEqual({ added, unreadable }, { added: files.size, unreadable: 0 })
    await assertAgrees()
  })

  it('and a second index asks for no object', async () => {
    const before = await treeLines(mapping)
    const { unchanged, bytes } = await index()
    assert.deepEqual({ unchanged, bytes }, { unchanged: files.size, bytes: 0 })
    assert.deepEqual(keysRead(), [])
    assert.ok(!proxy.requests.some(({ method }) => method === 'HEAD'))
    assert.deepEqual(await treeLines(mapping), before)
  })

  it('and after changes just what is new is read', async () => {
    const keys = [...files.keys()]
    const [changed = '', deleted = '', copied = ''] = keys
    const [, , , other = ''] = files.values()
    await upload(changed, other)
    await bucket.remove(deleted)
    files.delete(deleted)
    await upload('added', process.argv[1]!)
    await upload('copy', files.get(copied)!)
    const summary = await index()
    assert.deepEqual([summary.added, summary.changed, summary.dropped], [2, 1, 1])
    assert.deepEqual(keysRead(), [changed, 'added', 'copy'].sort())
    await assertAgrees()
  })
})
