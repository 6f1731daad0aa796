import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Place } from '../../src/mapping/mapping.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import { blockFile } from '../../src/mapping/tree.ts'
import {
  applyPlan,
  type BlockChange,
  type BlockPlan,
  besideFile,
  planBlock,
  prepareRewrite,
  removeLeftovers,
} from '../../src/mapping/tree-update.ts'
import { runs } from '../fuzz.ts'
import { hashOf, makeTree } from './fixture.ts'

const hash = hashOf(0xab)

function carryOut(plan: BlockPlan): void {
  if (plan.action === 'rewrite') prepareRewrite(plan)
  applyPlan(plan)
}

/** Changes a tree whose file of the hash holds `before`; returns the plan and what it holds then. */
async function change(
  before: string | Buffer | undefined,
  { add = [], remove = [] }: Partial<BlockChange>,
): Promise<{ plan: BlockPlan; after: Buffer | undefined; again: BlockPlan }> {
  await using tree = await makeTree()
  const file = blockFile(tree.dir, hash)
  if (before !== undefined) {
    await mkdir(dirname(file))
    await writeFile(file, before)
  }
  const plan = planBlock(tree.dir, hash, { add, remove })
  carryOut(plan)
  const after = existsSync(file) ? await readFile(file) : undefined
  assert.equal(existsSync(besideFile(file)), false)
  const again = planBlock(tree.dir, hash, { add, remove })
  return { plan, after, again }
}

function place(key: string, etag?: string, offset = 0): Place {
  return etag === undefined ? { offset, length: 9, key } : { offset, length: 9, key, etag }
}

const line = (one: Place): string => `${formatPlace(one)}\n`
const a = place('a', 'e')
const b = place('b', 'e')

describe('a change to the file of a hash', () => {
  const table: {
    what: string
    before?: string
    change: Partial<BlockChange>
    after?: string
    action: BlockPlan['action']
  }[] = [
    { what: 'makes the file', change: { add: [a, b] }, after: line(a) + line(b), action: 'create' },
    {
      what: 'appends',
      before: line(a),
      change: { add: [b] },
      after: line(a) + line(b),
      action: 'append',
    },
    {
      what: 'doubles no line',
      before: line(a),
      change: { add: [a] },
      after: line(a),
      action: 'none',
    },
    {
      what: 'mends a torn line',
      before: `${line(a)}0:9:b\tet`,
      change: { add: [b] },
      after: line(a) + line(b),
      action: 'rewrite',
    },
    {
      what: 'mends a file that is nothing but torn',
      before: '0:9',
      change: { add: [a] },
      after: line(a),
      action: 'rewrite',
    },
    {
      what: 'uses an empty file',
      before: '',
      change: { add: [a] },
      after: line(a),
      action: 'rewrite',
    },
    {
      what: 'replaces the line where the ETag is new',
      before: line(b) + line(a),
      change: { add: [place('a', 'e2')], remove: [a] },
      after: line(b) + line(place('a', 'e2')),
      action: 'rewrite',
    },
    {
      what: 'replaces a line written by hand, without an ETag',
      before: line(place('a')),
      change: { add: [a] },
      after: line(a),
      action: 'rewrite',
    },
    {
      what: 'keeps the same key at another offset',
      before: line(a) + line(place('a', 'e', 7)),
      change: { remove: [{ key: 'a', offset: 7 }] },
      after: line(a),
      action: 'rewrite',
    },
    {
      what: 'removes the file with its last line',
      before: line(a),
      change: { remove: [a] },
      action: 'unlink',
    },
    { what: 'removes an empty file', before: '', change: { remove: [a] }, action: 'unlink' },
    {
      what: 'removes a file that is nothing but torn',
      before: '0:9:a',
      change: { remove: [a] },
      action: 'unlink',
    },
    { what: 'leaves out what is not there', change: { remove: [a] }, action: 'none' },
    {
      what: 'keeps bad lines, and attributes it does not know',
      before: `rubbish\n\n0:9:c\tx=1\tetag=e\ty=%zz\n${line(a)}`,
      change: { remove: [a] },
      after: 'rubbish\n\n0:9:c\tx=1\tetag=e\ty=%zz\n',
      action: 'rewrite',
    },
    {
      what: 'keeps a file of bad lines',
      before: `bad\n${line(a)}`,
      change: { remove: [a] },
      after: 'bad\n',
      action: 'rewrite',
    },
  ]
  for (const { what, before, change: asked, after, action } of table) {
    it(what, async () => {
      const done = await change(before, asked)
      assert.equal(done.after?.toString(), after)
      assert.equal(done.plan.action, action)
      assert.equal(done.again.action, 'none')
    })
  }

  it('keeps the bytes of bad lines that are not UTF-8', async () => {
    const bad = Buffer.from('0:9:caf\xe9\n', 'latin1')
    const { after } = await change(Buffer.concat([bad, Buffer.from(line(a))]), { remove: [a] })
    assert.deepEqual(after, bad)
  })

  it('does not touch a file that it does not change', async () => {
    await using tree = await makeTree()
    carryOut(planBlock(tree.dir, hash, { add: [a], remove: [] }))
    const { ino, mtimeMs } = await stat(blockFile(tree.dir, hash))
    carryOut(planBlock(tree.dir, hash, { add: [a], remove: [b] }))
    const now = await stat(blockFile(tree.dir, hash))
    assert.deepEqual([now.ino, now.mtimeMs], [ino, mtimeMs])
  })

  it('is the same applied twice, to any file, wherever that is cut off', async () => {
    const some = fc.record({ key: fc.constantFrom('a', 'b', 'c\n'), offset: fc.nat({ max: 1 }) })
    const known = fc
      .tuple(some, fc.constantFrom('e', 'f', undefined))
      .map(([{ key, offset }, etag]) => place(key, etag, offset))
    const name = (one: { key: string; offset: number }): string => `${one.offset}:${one.key}`
    await fc.assert(
      fc.asyncProperty(
        fc.option(fc.uniqueArray(known, { maxLength: 4, selector: name }), { nil: undefined }),
        fc.uniqueArray(known, { maxLength: 3, selector: name }),
        fc.array(some, { maxLength: 3 }),
        fc.nat({ max: 20 }),
        async (old, add, remove, cut) => {
          const text = old?.map(line).join('')
          const whole = text?.slice(0, cut === 0 ? undefined : -cut)
          const { plan, after, again } = await change(whole, { add, remove })
          assert.equal(again.action, 'none')
          const lines = (from: string): string[] =>
            from.split(/(?<=\n)/).filter((l) => l.endsWith('\n'))
          const gone = new Set([...add, ...remove].map(name))
          const kept = (old ?? []).filter((one) => !gone.has(name(one))).map(line)
          const before = lines(whole ?? '')
          const expected = [...kept.filter((l) => before.includes(l)), ...add.map(line)].sort()
          assert.deepEqual(lines(after?.toString() ?? '').sort(), expected)
          assert.equal(after === undefined, expected.length === 0)
          assert.equal(plan.placesBefore, before.length > 0)
          assert.equal(plan.placesAfter, expected.length > 0)
        },
      ),
      runs(200),
    )
  })
})

it('what a crash left beside a file is removed, and is no obstacle before', async () => {
  await using tree = await makeTree()
  const file = blockFile(tree.dir, hash)
  await mkdir(dirname(file))
  await writeFile(file, line(a) + line(b))
  await writeFile(besideFile(file), '0:9:ha')
  carryOut(planBlock(tree.dir, hash, { add: [], remove: [a] }))
  assert.equal(await readFile(file, 'utf8'), line(b))
  await writeFile(besideFile(file), '0:9:ha')
  removeLeftovers(tree.dir, [hash, hashOf(1)])
  assert.equal(existsSync(besideFile(file)), false)
})
