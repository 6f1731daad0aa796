import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Disk } from './disk-model.ts'
import { seededRandom } from './moments.ts'
import { type Operation, parse } from './recording.ts'
import type { Tree } from './tree.ts'

const before: Tree = new Map([['f', Buffer.from('old')]])

/** Returns the operations, one after the other, and what each kind of them lacks. */
function sequence(
  ...operations: (Partial<Operation> & { kind: Operation['kind'] })[]
): Operation[] {
  const defaults = { offset: 0, lasting: false, of: 'one', create: true, truncate: false }
  return operations.map((each, at) => ({ ...defaults, ...each, start: at, end: at }) as Operation)
}

/** Returns every state that was seen when the power was cut at the end, as text. */
function statesAfter(operations: Operation[]): Set<string> {
  const disk = new Disk(operations, { root: '/d', before, inPlace: () => false })
  const random = seededRandom()
  const states = Array.from({ length: 500 }, () => disk.afterCut(operations.length, random))
  return new Set(
    states.map((tree) =>
      [...tree]
        .map(([path, bytes]) => `${path}=${bytes}`)
        .sort()
        .join(' '),
    ),
  )
}

const data = Buffer.from('new!')
const beside: Parameters<typeof sequence> = [
  { kind: 'open', path: '/d/n' },
  { kind: 'write', path: '/d/n', data },
]
const renamed: Parameters<typeof sequence>[0] = { kind: 'rename', from: '/d/n', to: '/d/f' }
const sync = (path: string): Parameters<typeof sequence>[0] => ({ kind: 'sync', path })

describe('the model of a disk', () => {
  it('may leave a name without its data, and any part of what was added to a file', () => {
    const states = statesAfter(sequence(...beside, renamed))
    for (const state of ['f=old', 'f=', 'f=ne', 'f=new!', 'f=old n=new!']) {
      assert.ok(states.has(state), `${state} is not among ${[...states]}`)
    }
  })

  it('keeps the data of a file that was synced, and not its name', () => {
    const states = statesAfter(sequence(...beside, sync('/d/n'), renamed))
    assert.deepEqual([...states].sort(), ['f=new!', 'f=old', 'f=old n=new!'])
  })

  it('keeps the names of a directory that was synced, and not the data', () => {
    const states = statesAfter(sequence(...beside, renamed, sync('/d')))
    assert.ok(states.has('f=') && states.has('f=new!'))
    assert.ok(![...states].some((state) => state.includes('old')))
  })

  it('keeps all that was there at a sync of the file system', () => {
    const all: Operation = { kind: 'sync', path: '/d', of: 'all', start: 3, end: 3 }
    const operations = [...sequence(...beside, renamed), all]
    assert.deepEqual([...statesAfter(operations)], ['f=new!'])
  })

  it('promises nothing of a sync that has not ended, or of what was begun after it', () => {
    const all: Operation = { kind: 'sync', path: '/d', of: 'all', start: 2, end: 99 }
    assert.ok(statesAfter([...sequence(...beside), all]).has('f=old'))
  })

  it('tears what is written in place between sectors only', () => {
    const old = Buffer.alloc(1024, 'o')
    const operations = sequence({ kind: 'write', path: '/d/f', data: Buffer.alloc(1024, 'n') })
    const disk = new Disk(operations, {
      root: '/d',
      before: new Map([['f', old]]),
      inPlace: () => true,
    })
    const random = seededRandom()
    const found = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const bytes = disk.afterCut(0, random).get('f')!
      const sectors = [bytes.subarray(0, 512), bytes.subarray(512)].map((each) => new Set(each))
      assert.ok(sectors.every((each) => each.size === 1))
      found.add(String.fromCharCode(bytes[0]!, bytes[1023]!))
    }
    assert.deepEqual([...found].sort(), ['nn', 'no', 'on', 'oo'])
  })
})

describe('the record of a run', () => {
  const hex = (text: string) =>
    [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')

  it('has what was done to files, by which thread ever, and where each write went', () => {
    const file = `<${hex('/d/f')}>`
    const text = [
      `7 openat(AT_FDCWD<${hex('/')}>, "${hex('/d/f')}", O_WRONLY|O_CREAT|O_DSYNC, 0666) = 5${file}`,
      `8 mkdir("${hex('/d/x')}", 0777) = -1 EEXIST (File exists)`,
      `7 write(5${file}, "${hex('abc')}", 3) = 3`,
      `7 writev(5${file}, [{iov_base="${hex('d')}", iov_len=1}, {iov_base="${hex('e')}", iov_len=1}], 2 <unfinished ...>`,
      `8 fsync(6<${hex('/elsewhere')}>) = 0`,
      `7 <... writev resumed>) = 2`,
      `7 pwrite64(5${file}, "${hex('xy')}", 2, 4096) = 1`,
      `8 syncfs(3<${hex('/d')}>) = 0`,
      '8 +++ exited with 0 +++',
    ].join('\n')
    const write = { kind: 'write', path: '/d/f', lasting: true }
    assert.deepEqual(parse(text, '/d'), [
      { kind: 'open', path: '/d/f', create: true, truncate: false, start: 0, end: 0 },
      { ...write, offset: 0, data: Buffer.from('abc'), start: 2, end: 2 },
      { ...write, offset: 3, data: Buffer.from('de'), start: 3, end: 5 },
      { ...write, offset: 4096, data: Buffer.from('x'), start: 6, end: 6 },
      { kind: 'sync', path: '/d', of: 'all', start: 7, end: 7 },
    ])
  })

  it('is refused where it cannot say what was done', () => {
    const shared = `7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5<${hex('/d/f')}>, 0) = 0x7f0000000000`
    assert.throws(() => parse(shared, '/d'), /cannot hold a mmap of \/d\/f/)
    const linked = `7 link("${hex('/d/f')}", "${hex('/d/g')}") = 0`
    assert.throws(() => parse(linked, '/d'), /cannot hold a link/)
  })
})
