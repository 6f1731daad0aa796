import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import {
  appendFile,
  chmod,
  link,
  mkdir,
  mkdtemp,
  rename,
  rm,
  rmdir,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { UsageError } from '../../../src/errors.ts'
import { openDirectory } from '../../../src/remote/directory/directory.ts'
import { compareKeys, keyFromBytes } from '../../../src/remote/key.ts'
import type { ListPage, RemoteStore, Unlisted } from '../../../src/remote/remote.ts'
import { runs } from '../../fuzz.ts'
import { failsWith, listAll, readAll, remoteSuite } from '../../suites/remote.ts'

async function temporary(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'keepgw-directory-'))
}

/** Writes as careful programs do: a new file, renamed over the old one. */
async function put(top: string, key: string, data: Uint8Array): Promise<void> {
  const path = `${top}/root/${key}`
  await mkdir(dirname(path), { recursive: true })
  const scratch = await mkdtemp(`${top}/scratch-`)
  await writeFile(`${scratch}/file`, data)
  await rename(`${scratch}/file`, path)
  await rm(scratch, { recursive: true })
}

/** Removes directories that are empty then, too: nothing is gone from those. */
async function remove(root: string, key: string): Promise<void> {
  await rm(`${root}/${key}`)
  for (let parent = dirname(key); parent !== '.'; parent = dirname(parent)) {
    if (readdirSync(`${root}/${parent}`).length === 0) await rmdir(`${root}/${parent}`)
  }
}

/** A file cannot lie below another, nor can two paths be spelt in two ways. */
function canHold(root: string, key: string): boolean {
  const parts = key.split('/')
  if (parts.some((part) => ['', '.', '..'].includes(part) || part.length > 255)) return false
  if (existsSync(`${root}/${key}`) && statSync(`${root}/${key}`).isDirectory()) return false
  return parts.slice(1).every((_, i) => {
    const parent = `${root}/${parts.slice(0, i + 1).join('/')}`
    return !existsSync(parent) || statSync(parent).isDirectory()
  })
}

/** Does work with short relative paths where the absolute ones are too long for the system. */
async function inDirectory(directory: string, work: () => Promise<unknown>): Promise<void> {
  const here = process.cwd()
  process.chdir(directory)
  try {
    await work()
  } finally {
    process.chdir(here)
  }
}

remoteSuite('directory', async () => {
  const top = await temporary()
  const root = join(top, 'root')
  await mkdir(root)
  const store = openDirectory({ kind: 'directory', root })
  return {
    store,
    put: (key, data) => put(top, key, data),
    remove: (key) => remove(root, key),
    teardown: () => rm(top, { recursive: true }),
    canHold: (key) => canHold(root, key),
    openMissing: () => openDirectory({ kind: 'directory', root: join(top, 'missing') }),
  }
})

describe('a directory', () => {
  let top: string
  let root: string
  let store: RemoteStore

  before(async () => {
    top = await temporary()
    // Others must get in for the tests that give up root's rights.
    await chmod(top, 0o755)
  })
  after(() => rm(top, { recursive: true }))

  let count = 0
  beforeEach(async () => {
    root = join(top, `tree ${count++}`)
    await mkdir(root)
    store = openDirectory({ kind: 'directory', root })
  })

  const file = (name: string | Buffer) =>
    Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name as string)])
  const keys = async (prefix = '') => (await listAll(store, { prefix })).map(({ key }) => key)
  const read = (key: string, length = 1) => readAll(store, { key, offset: 0, length })

  async function unlisted(): Promise<{ keys: string[]; unlisted: Unlisted[] }> {
    const seen = { keys: [] as string[], unlisted: [] as Unlisted[] }
    for await (const page of store.list()) {
      seen.keys.push(...page.objects.map(({ key }) => key))
      seen.unlisted.push(...page.unlisted)
    }
    return seen
  }

  it('names itself as a URL, and wants an absolute root', () => {
    assert.equal(String(openDirectory({ kind: 'directory', root: '/data/x' })), 'file:///data/x')
    assert.throws(() => openDirectory({ kind: 'directory', root: 'data' }), UsageError)
  })

  it('sorts a directory as its name and a slash', async () => {
    await mkdir(file('a'))
    for (const name of ['a/1', 'a-b', 'a0', 'a!']) await writeFile(file(name), name)
    assert.deepEqual(await keys(), ['a!', 'a-b', 'a/1', 'a0'])
  })

  it('lists nothing of an empty tree', async () => {
    await mkdir(file('a/b'), { recursive: true })
    assert.deepEqual(await keys(), [])
  })

  const emptyOnes = async (prefix = '') => {
    const empty: string[] = []
    for await (const page of store.list({ prefix })) empty.push(...(page.empty ?? []))
    return empty
  }

  it('shows directories that are empty, as far as they matter, and says gone of nothing in them', async () => {
    for (const name of ['bare', 'deep/bare', 'full', 'special']) {
      await mkdir(file(name), { recursive: true })
    }
    await writeFile(file('full/x'), 'x')
    execFileSync('mkfifo', [`${root}/special/fifo`])
    assert.deepEqual(await keys(), ['full/x'])
    assert.deepEqual(await emptyOnes(), ['bare/', 'deep/bare/'])
    assert.deepEqual(await emptyOnes('bare/x/'), ['bare/'])
    assert.deepEqual(await emptyOnes('full/y'), [])
    for (const key of ['bare/x', 'bare/missing/x', 'deep/bare/x', 'deep/bare/x/y']) {
      assert.match((await failsWith(read(key), 'unreachable')).message, /bare\/" is empty/)
      await failsWith(store.stat(key), 'unreachable')
    }
    for (const key of ['x', 'missing/x', 'deep/x', 'full/y', 'full/x/y', 'special/x']) {
      await failsWith(read(key), 'gone')
    }
  })

  it('shows a directory that is emptied while it is walked, as a disk that is unmounted', async () => {
    for (const name of ['disk/a', 'disk/b']) await mkdir(file(name), { recursive: true })
    for (let i = 0; i < 1000; i++) await writeFile(file(`disk/a/${i}`), '')
    for (const name of ['disk/b/1', 'disk/c', 'z']) await writeFile(file(name), '')
    const pages: ListPage[] = []
    for await (const page of store.list()) {
      if (pages.push(page) > 1) continue
      for (const name of ['a', 'b', 'c']) await rm(file(`disk/${name}`), { recursive: true })
    }
    const [first, ...rest] = pages
    assert.equal(first?.objects.length, 1000)
    assert.deepEqual(
      rest.flatMap(({ objects }) => objects.map(({ key }) => key)),
      ['z'],
    )
    assert.deepEqual(
      rest.flatMap(({ empty }) => empty),
      ['disk/'],
    )
  })

  it('holds names that are not UTF-8', async () => {
    const names = ['x\xff', 'x\xc3\xa9', 'x\xc3', 'd\xfe/\xf0\x9f'].map((n) =>
      Buffer.from(n, 'latin1'),
    )
    await mkdir(file(Buffer.from('d\xfe', 'latin1')))
    for (const name of names) await writeFile(file(name), name)
    const expected = names.toSorted(Buffer.compare)
    assert.deepEqual(await keys(), expected.map(keyFromBytes))
    for (const name of names) {
      const data = await read(keyFromBytes(name), name.length)
      assert.ok(data.equals(name))
    }
    assert.deepEqual(await keys(keyFromBytes(Buffer.from('d\xfe/', 'latin1'))), [
      'd\udcfe/\udcf0\udc9f',
    ])
  })

  it('does not take escaped bytes for the character that they would make', async () => {
    await writeFile(file('é'), 'x')
    await failsWith(read('\udcc3\udca9'), 'gone')
    await failsWith(store.stat('\udcc3\udca9'), 'gone')
  })

  it('lists any tree as its sorted paths', async () => {
    const name = fc
      .array(fc.constantFrom('a', '-', '.', '0', '\xff', '\xc3\xa9', '~'), {
        minLength: 1,
        maxLength: 3,
      })
      .map((parts) => parts.join(''))
      .filter((text) => text !== '.' && text !== '..')
    const tree = fc.array(fc.array(name, { minLength: 1, maxLength: 4 }), { maxLength: 25 })
    await fc.assert(
      fc.asyncProperty(tree, async (paths) => {
        await rm(root, { recursive: true })
        await mkdir(root)
        const made = new Set<string>()
        for (const parts of paths) {
          const path = Buffer.from(parts.join('/'), 'latin1')
          const parent = Buffer.from(parts.slice(0, -1).join('/'), 'latin1')
          // A name that a file has already cannot be a directory's, and the other way round.
          await mkdir(file(parent), { recursive: true }).catch(() => {})
          await writeFile(file(path), '').then(
            () => made.add(keyFromBytes(path)),
            () => {},
          )
        }
        assert.deepEqual(await keys(), [...made].sort(compareKeys))
        const prefix = paths[0]?.[0]?.slice(0, 1) ?? ''
        if (prefix.charCodeAt(0) < 0x80) {
          const matching = [...made].filter((key) => key.startsWith(prefix))
          assert.deepEqual(await keys(prefix), matching.sort(compareKeys))
        }
      }),
      runs(40),
    )
  })

  it('walks only the directories that a prefix can match', async () => {
    await mkdir(file('a/b'), { recursive: true })
    await writeFile(file('a/b/c'), '')
    // Looking into this one would show as unlisted.
    const deep = 'x'.repeat(200)
    await mkdir(file(`${deep}/${`${deep}/`.repeat(9)}`), { recursive: true })
    assert.equal((await unlisted()).unlisted.length, 1)
    assert.deepEqual(await keys('a/b/'), ['a/b/c'])
    assert.deepEqual(await keys('a/'), ['a/b/c'])
  })

  it('shows links within the tree as objects', async () => {
    await mkdir(file('d'))
    await writeFile(file('d/target'), 'data')
    await symlink('d/target', file('link'))
    await symlink(`${root}/link`, file('d/second'))
    assert.deepEqual(await keys(), ['d/second', 'd/target', 'link'])
    for (const key of await keys()) {
      const { size, etag } = await store.stat(key)
      const data = await readAll(store, { key, offset: 0, length: 4, size, etag })
      assert.equal(String(data), 'data')
    }
  })

  it('follows no link out of the tree, to a directory, in circles or to nothing', async () => {
    const outside = join(top, 'outside')
    await mkdir(join(outside, 'd'), { recursive: true })
    await writeFile(join(outside, 'd', 'secret'), 'secret')
    await mkdir(file('in'))
    await writeFile(file('in/object'), 'object')
    await symlink(join(outside, 'd', 'secret'), file('file'))
    await symlink('../outside/d/secret', file('relative'))
    await symlink(join(outside, 'd'), file('directory'))
    await symlink('in', file('again'))
    await symlink('.', file('in/self'))
    await symlink('circle', file('circle'))
    await symlink('nothing', file('dangling'))
    assert.deepEqual(await unlisted(), { keys: ['in/object'], unlisted: [] })
    const unseen = ['file', 'relative', 'directory', 'directory/secret', 'again/object', 'again']
    for (const key of [...unseen, 'in/self/object', 'circle', 'circle/x', 'dangling', 'in']) {
      await failsWith(read(key), 'gone')
      await failsWith(store.stat(key), 'gone')
    }
  })

  it('is not left by a root of the same start', async () => {
    await mkdir(`${root}-2`)
    await writeFile(`${root}-2/secret`, 'secret')
    await symlink(`${root}-2/secret`, file('link'))
    assert.deepEqual(await keys(), [])
    await failsWith(read('link'), 'gone')
  })

  it('refuses keys that are other spellings of a path', async () => {
    await mkdir(file('d'))
    await writeFile(file('d/object'), 'x')
    const outside = join(top, 'beside')
    await writeFile(outside, 'secret')
    const spellings = ['../beside', 'd/../../beside', 'd/../d/object', './d/object', 'd//object']
    const more = ['d/object/', '/d/object', `${root}/d/object`, outside, '', '.', '..', '/', 'd/']
    for (const key of [...spellings, ...more, 'd/object\0', '\0', 'd/./object']) {
      await failsWith(read(key), 'gone')
      await failsWith(store.stat(key), 'gone')
    }
  })

  it('ignores fifos, sockets and directories, and never waits for them', async () => {
    execFileSync('mkfifo', [`${root}/fifo`])
    const server = createServer().listen(`${root}/socket`)
    await new Promise((resolve) => server.once('listening', resolve))
    try {
      await symlink('fifo', file('link'))
      await writeFile(file('object'), 'x')
      assert.deepEqual(await keys(), ['object'])
      for (const key of ['fifo', 'socket', 'link']) await failsWith(read(key), 'gone')
    } finally {
      server.close()
    }
  })

  it('takes a root that is a link, and changes with it', async () => {
    await writeFile(file('object'), 'x')
    await symlink(root, `${root}-link`)
    store = openDirectory({ kind: 'directory', root: `${root}-link` })
    assert.deepEqual(await keys(), ['object'])
    assert.equal(String(await read('object')), 'x')
  })

  it('is unreachable where the root is missing or no directory', async () => {
    await writeFile(file('file'), 'x')
    for (const name of ['missing', 'file', 'file/x']) {
      const other = openDirectory({ kind: 'directory', root: `${root}/${name}` })
      const error = await failsWith(listAll(other), 'unreachable')
      assert.match(error.message, /no such file|not a directory/)
      assert.ok(error.hint)
      await failsWith(other.stat('x'), 'unreachable')
      await failsWith(other.stat('../file'), 'unreachable')
    }
  })

  it('ends a listing as unreachable when the root is lost on the way', async () => {
    for (let i = 0; i < 1100; i++) await writeFile(file(`f${i}`), '')
    for (const replace of [false, true]) {
      const pages = store.list()[Symbol.asyncIterator]()
      assert.equal((await pages.next()).done, false)
      await rename(root, `${root}-gone`)
      if (replace) await mkdir(root)
      await failsWith(pages.next(), 'unreachable')
      // An empty directory is what a mount point is without its disk.
      await failsWith(store.stat('f1'), 'unreachable')
      await rm(root, { recursive: true, force: true })
      await rename(`${root}-gone`, root)
    }
  })

  it('passes over what vanishes during the walk', async () => {
    await mkdir(file('a'))
    for (let i = 0; i < 1000; i++) await writeFile(file(`a/${i}`), '')
    for (const name of ['b', 'c']) await mkdir(file(name))
    for (const name of ['b/1', 'c/1', 'd']) await writeFile(file(name), '')
    const pages = store.list()[Symbol.asyncIterator]()
    assert.equal((await pages.next()).value?.objects.length, 1000)
    await rm(file('b'), { recursive: true })
    await rm(file('d'))
    const { value } = await pages.next()
    assert.deepEqual(
      value?.objects.map(({ key }: { key: string }) => key),
      ['c/1'],
    )
    assert.deepEqual(value?.unlisted, [])
  })

  it('does not walk into a link that takes the place of a directory', async () => {
    await mkdir(file('a'))
    for (let i = 0; i < 1000; i++) await writeFile(file(`a/${i}`), '')
    await mkdir(file('b'))
    const pages = store.list()[Symbol.asyncIterator]()
    await pages.next()
    await rm(file('b'), { recursive: true })
    await symlink('a', file('b'))
    for await (const { objects } of { [Symbol.asyncIterator]: () => pages }) {
      assert.deepEqual(objects, [])
    }
  })

  it('shows paths that are too long for the catalog as unlisted', async () => {
    const part = 'p'.repeat(246)
    const deep = Array(8).fill(part).join('/')
    assert.equal(deep.length, 1975)
    await mkdir(file(deep), { recursive: true })
    for (const name of [`${deep}/ab`, `${deep}/abc`, 'a', 'z']) await writeFile(file(name), '')
    await mkdir(file(`${deep}/d/`))
    const seen = await unlisted()
    assert.deepEqual(seen.keys, ['a', `${deep}/ab`, 'z'])
    assert.deepEqual(
      seen.unlisted.map(({ key }) => key),
      [`${deep}/abc`, `${deep}/d/`],
    )
    assert.match(seen.unlisted[0]!.reason, /1978 bytes/)
  })

  it('shows directories that the system cannot reach as unlisted, and goes on', async () => {
    // Below a root this deep, paths become longer than the system takes.
    const steps = Array(12).fill('r'.repeat(200)).join('/')
    const deepRoot = `${root}/${steps}`
    await mkdir(`${deepRoot}/a`, { recursive: true })
    await writeFile(`${deepRoot}/z`, '')
    const below = Array(8).fill('b'.repeat(220)).join('/')
    await inDirectory(`${deepRoot}/a`, () => mkdir(below, { recursive: true }))
    try {
      store = openDirectory({ kind: 'directory', root: deepRoot })
      const seen = await unlisted()
      assert.deepEqual(seen.keys, ['z'])
      assert.equal(seen.unlisted.length, 1)
      assert.match(seen.unlisted[0]!.key, /^a\/(b+\/)+$/)
      assert.match(seen.unlisted[0]!.reason, /ENAMETOOLONG/)
      await failsWith(read(`a/${below}/x`), 'unreachable')
    } finally {
      await inDirectory(`${deepRoot}/a`, () => rm('b'.repeat(220), { recursive: true }))
    }
  })

  const nobody = 65534
  const cannotBecomeNobody =
    process.geteuid?.() !== 0 && 'needs root, to give up its rights for the time of a call'

  it('tells what it may not read from what is gone', { skip: cannotBecomeNobody }, async () => {
    await mkdir(file('shut'))
    await mkdir(file('blind'))
    for (const name of ['shut/x', 'blind/x', 'secret', 'z']) await writeFile(file(name), 'x')
    await chmod(file('shut'), 0)
    await chmod(file('blind'), 0o744)
    await chmod(file('secret'), 0o600)
    process.seteuid!(nobody)
    try {
      const seen = await unlisted()
      assert.deepEqual(seen.keys, ['secret', 'z'])
      assert.deepEqual(
        seen.unlisted.map(({ key }) => key),
        ['blind/x', 'shut/'],
      )
      for (const { reason } of seen.unlisted) assert.equal(reason, 'permission denied (EACCES)')
      for (const key of ['shut/x', 'blind/x', 'secret']) {
        const error = await failsWith(read(key), 'unreachable')
        assert.match(error.message, /permission denied/)
      }
      const shut = openDirectory({ kind: 'directory', root: `${root}/shut` })
      await failsWith(listAll(shut), 'unreachable')
      await failsWith(shut.stat('x'), 'unreachable')
    } finally {
      process.seteuid!(0)
    }
  })

  describe('and a file that changes', () => {
    const chunk = Buffer.alloc(1024 * 1024, 'x')
    const request = { key: 'object', offset: 0, length: chunk.length }
    beforeEach(() => writeFile(file('object'), chunk))

    it('has another ETag after each change, also of the same length and time', async () => {
      const seen = new Set([(await store.stat('object')).etag])
      const { mtime } = statSync(file('object'))
      const changes = [
        () => appendFile(file('object'), 'more'),
        () => utimes(file('object'), mtime, new Date(1_000_000)),
        async () => {
          await writeFile(file('new'), chunk)
          await utimes(file('new'), mtime, mtime)
          await rename(file('new'), file('object'))
        },
      ]
      for (const change of changes) {
        await change()
        const { etag } = await store.stat('object')
        assert.match(etag, /^[0-9a-f]+(-[0-9a-f]+){3}$/)
        seen.add(etag)
      }
      assert.equal(seen.size, changes.length + 1)
    })

    it('is the same in another inode to whom proves its bytes, and to nobody else', async () => {
      await utimes(file('object'), 1000, 1000)
      const { etag } = await store.stat('object')
      execFileSync('cp', ['-p', `${root}/object`, `${root}/copy`])
      await rename(file('copy'), file('object'))
      await failsWith(readAll(store, { ...request, etag }), 'changed')
      const proving = { ...request, etag, willProve: true }
      assert.ok((await readAll(store, proving)).equals(chunk))
      await utimes(file('object'), 1000, 2000)
      await failsWith(readAll(store, proving), 'changed')
      await appendFile(file('object'), 'more')
      await utimes(file('object'), 1000, 1000)
      await failsWith(readAll(store, proving), 'changed')
    })

    it('may have another name by the end of a read that is proven', async () => {
      const { etag } = await store.stat('object')
      let calls = 0
      await store.read({ ...request, etag, willProve: true }, async () => {
        if (calls++ === 0) await rename(file('object'), file('moved'))
      })
      assert.ok(calls > 1)
    })

    it('is changed when it is written to while it is read', async () => {
      let calls = 0
      const reading = store.read(request, async () => {
        if (calls++ === 0) await appendFile(file('object'), 'more')
      })
      assert.equal((await failsWith(reading, 'changed')).delivered, chunk.length)
    })

    it('is changed when it becomes shorter while it is read', async () => {
      let delivered = 0
      const reading = store.read(request, async (bytes) => {
        delivered += bytes.length
        await truncate(file('object'), 1000)
      })
      assert.equal((await failsWith(reading, 'changed')).delivered, delivered)
      assert.ok(delivered < chunk.length)
    })

    it('is read to its end where another file takes its name', async () => {
      let calls = 0
      const got: Buffer[] = []
      await link(file('object'), file('keeps'))
      const reading = store.read(request, async (bytes) => {
        got.push(Buffer.from(bytes))
        if (calls++ > 0) return
        await writeFile(file('new'), 'other')
        await rename(file('new'), file('object'))
      })
      // The old file has lost a name, which its ctime shows: what was read is whole, and not proven.
      const error = await failsWith(reading, 'changed')
      assert.equal(error.delivered, chunk.length)
      assert.ok(Buffer.concat(got).equals(chunk))
    })
  })

  const noProc = !existsSync('/proc/self/fd') && 'needs /proc to count descriptors'

  it('closes every file it opened', { skip: noProc }, async () => {
    await writeFile(file('object'), Buffer.alloc(600_000))
    await mkdir(file('d'))
    const open = () => readdirSync('/proc/self/fd').length
    const before = open()
    const request = { key: 'object', offset: 0, length: 600_000 }
    const controller = new AbortController()
    const own = new AbortController()
    const never = new Promise<void>(() => {})
    const outcomes = await Promise.allSettled([
      store.read(request, () => {}),
      store.read({ ...request, etag: 'x' }, () => {}),
      store.read({ ...request, length: 600_001 }, () => {}),
      store.read(request, () => Promise.reject(new Error('full'))),
      store.read(request, () => controller.abort(), controller.signal),
      store.read(request, () => never, controller.signal),
      store.read(
        request,
        () => {
          own.abort()
          return never
        },
        own.signal,
      ),
      store.stat('object'),
      store.stat('d'),
    ])
    assert.deepEqual(
      outcomes.map(({ status }) => status === 'fulfilled'),
      [true, false, false, false, false, false, false, true, false],
    )
    for await (const _ of store.list()) break
    await store.close()
    assert.equal(open(), before)
    await failsWith(store.stat('object'), 'unreachable')
    await failsWith(listAll(store), 'unreachable')
  })
})
