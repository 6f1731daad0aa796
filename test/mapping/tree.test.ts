import assert from 'node:assert/strict'
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { MappingUnreachable, type Place } from '../../src/mapping/mapping.ts'
import { formatPlace } from '../../src/mapping/place-line.ts'
import { blockFile, MappingTree } from '../../src/mapping/tree.ts'
import { collect, hashOf, makeTree } from './fixture.ts'

const hash = hashOf(0xab)

/** Runs a test on a tree with these files, each named by its hash. */
async function withTree(
  files: Record<string, string | Buffer>,
  use: (tree: MappingTree) => Promise<void>,
): Promise<void> {
  await using made = await makeTree()
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(made.dir, name.slice(0, 3)), { recursive: true })
    await writeFile(blockFile(made.dir, name), content)
  }
  await use(new MappingTree(made.dir))
}

function manyPlaces(count: number, keyLength: number): Place[] {
  return Array.from({ length: count }, (_, i) => ({
    offset: i,
    length: 5,
    key: `${i}-é${'k'.repeat(keyLength)}`,
    etag: 'e',
  }))
}

function textOf(places: Place[]): string {
  return places.map((place) => `${formatPlace(place)}\n`).join('')
}

describe('the places of a block', () => {
  it('are none where the mapping does not know the hash', async () => {
    await withTree({ [hash]: '0:1:k\n' }, async (tree) => {
      assert.deepEqual(await collect(tree.places(hashOf(0xac))), [])
      assert.deepEqual(await collect(tree.places(hash.replace(/b$/, 'c'))), [])
    })
  })

  it('are read without bad lines and without a torn last one', async () => {
    const text = '0:5:a\n\nrubbish\n0:5:b%\n1:5:b\tetag=e\r\n2:5:c\n3:5:d'
    await withTree(
      { [hash]: Buffer.concat([Buffer.from(text), Buffer.from([0xc3])]) },
      async (tree) => {
        const places = await collect(tree.places(hash))
        assert.deepEqual(
          places.map(({ key }) => key),
          ['a', 'c'],
        )
      },
    )
  })

  // The first read is 2 KiB, the next ones are 64; the lines lie across their borders, at them, and are longer.
  for (const [what, places] of [
    ['one byte', manyPlaces(70_000, 1)],
    ['more than a thousand', manyPlaces(300, 1900)],
    ['more than a read', manyPlaces(5, 100_000)],
    ['a read', [{ offset: 0, length: 5, key: 'k'.repeat(2048 - 5) }]],
    ['a read less its line feed', [{ offset: 0, length: 5, key: 'k'.repeat(2048 - 4) }]],
    ['two reads', [{ offset: 0, length: 5, key: 'k'.repeat(67_584 - 5) }]],
    ['two reads less the line feed', [{ offset: 0, length: 5, key: 'k'.repeat(67_584 - 4) }]],
  ] as [string, Place[]][]) {
    it(`are all found where keys have ${what} bytes`, async () => {
      await withTree({ [hash]: textOf(places) }, async (tree) => {
        assert.deepEqual(await collect(tree.places(hash)), places)
      })
    })
  }

  it('are those of the file as it was when the reading began, though it is rewritten', async () => {
    const places = manyPlaces(5000, 50)
    await withTree({ [hash]: textOf(places) }, async (tree) => {
      const file = blockFile(tree.dir, hash)
      const read: Place[] = []
      for await (const place of tree.places(hash)) {
        read.push(place)
        if (read.length !== 1) continue
        await writeFile(`${file}.new`, '7:5:other\n')
        await rename(`${file}.new`, file)
      }
      assert.deepEqual(read, places)
      assert.equal((await collect(tree.places(hash))).length, 1)
    })
  })

  it('take in a line that is completed while they are read', async () => {
    await withTree({ [hash]: '0:5:a\n1:5:b' }, async (tree) => {
      const keys: string[] = []
      for await (const { key } of tree.places(hash)) {
        keys.push(key)
        if (keys.length > 1) continue
        const file = await open(blockFile(tree.dir, hash), 'a')
        await file.write('b\n')
        await file.close()
      }
      assert.deepEqual(keys, ['a', 'bb'])
    })
  })
})

describe('a tree that is out of reach', () => {
  const outOfReach: [string, (dir: string) => Promise<void>][] = [
    ['has no remote.json', (dir) => rm(join(dir, '.keepgw/remote.json'))],
    ['has a remote.json cut short', (dir) => writeFile(join(dir, '.keepgw/remote.json'), '{"ver')],
    [
      'has a remote.json of no remote',
      (dir) => writeFile(join(dir, '.keepgw/remote.json'), '{"version":1}'),
    ],
    ['has a remote.json of null', (dir) => writeFile(join(dir, '.keepgw/remote.json'), 'null')],
    [
      'has a remote.json of another version',
      (dir) =>
        writeFile(
          join(dir, '.keepgw/remote.json'),
          '{"version":2,"remote":{"kind":"s3","bucket":"b"}}',
        ),
    ],
    ['is missing', (dir) => rm(dir, { recursive: true })],
    [
      'is a file',
      async (dir) => {
        await rm(dir, { recursive: true })
        await writeFile(dir, '')
      },
    ],
  ]
  for (const [what, spoil] of outOfReach) {
    it(`says so of hashes it has no file of, and of its blocks: it ${what}`, async () => {
      await withTree({ [hash]: '0:1:k\n' }, async (tree) => {
        await spoil(tree.dir)
        await assert.rejects(collect(tree.places(hashOf(1))), MappingUnreachable)
        await assert.rejects(collect(tree.blocks()), MappingUnreachable)
      })
    })
  }

  it('says so of a block whose file cannot be read', async () => {
    await withTree({ [hash]: '0:1:k\n' }, async (tree) => {
      await rm(blockFile(tree.dir, hash))
      await mkdir(blockFile(tree.dir, hash))
      await assert.rejects(collect(tree.places(hash)), MappingUnreachable)
      await assert.rejects(collect(tree.blocks()), MappingUnreachable)
    })
  })

  it('says so where its disk goes away while its blocks are listed', async () => {
    await withTree({ [hash]: '0:1:k\n', [hashOf(0xcd)]: '0:1:k\n' }, async (tree) => {
      const blocks = tree.blocks()[Symbol.asyncIterator]()
      await blocks.next()
      await rm(tree.dir, { recursive: true })
      await assert.rejects(async () => {
        while (!(await blocks.next()).done);
      }, MappingUnreachable)
    })
  })
})

describe('the blocks of a tree', () => {
  const hashes = ['000', '00f', '0ab', 'abc', 'abd', 'fff']
    .flatMap((start) => ['0', '1', 'f'].map((digit) => start + digit.repeat(29)))
    .sort()

  it('are listed in order, for a prefix of any length', async () => {
    const files = Object.fromEntries(hashes.map((name, i) => [name, `0:${i + 1}:k\n`]))
    await withTree(files, async (tree) => {
      // Neither of these is a block: no file of a hash, no shard, no place in it.
      await writeFile(join(tree.dir, 'abc', 'notes.txt'), 'x')
      await writeFile(join(tree.dir, 'abc', `.${hashes[0]}.new`), '0:1:k\n')
      await writeFile(join(tree.dir, 'def'), 'x')
      await mkdir(join(tree.dir, 'lost+found'))
      await writeFile(blockFile(tree.dir, `abc5${'0'.repeat(28)}`), '')
      await writeFile(blockFile(tree.dir, `abc6${'0'.repeat(28)}`), 'bad\n0:3:torn')
      for (const prefix of [
        '',
        '0',
        'a',
        'f',
        '00',
        'ab',
        'abc',
        'abc0',
        'abcf',
        '1',
        'abe',
        hashes[7]!,
      ]) {
        const blocks = await collect(tree.blocks(prefix))
        const expected = hashes.filter((name) => name.startsWith(prefix))
        assert.deepEqual(
          blocks.map(({ hash, length }) => [hash, length]),
          expected.map((name) => [name, hashes.indexOf(name) + 1]),
          `prefix ${prefix}`,
        )
        for (const { hash, mtimeNs } of blocks) {
          const file = await stat(blockFile(tree.dir, hash), { bigint: true })
          assert.equal(mtimeNs, file.mtimeNs)
        }
      }
    })
  })

  it('have the length of their first good line, however far down it is', async () => {
    const bad = `${'bad\n'.repeat(3000)}${'x'.repeat(80_000)}\n`
    await withTree({ [hashes[0]!]: `${bad}0:7:k\n0:9:torn` }, async (tree) => {
      const [block, ...rest] = await collect(tree.blocks())
      assert.equal(block?.length, 7)
      assert.deepEqual(rest, [])
    })
  })

  it('are more than are looked at together', async () => {
    const names = Array.from({ length: 150 }, (_, i) => {
      return `${(7 * i).toString(16).padStart(3, '0')}${'c'.repeat(29)}`
    })
    await withTree(Object.fromEntries(names.map((name) => [name, '0:1:k\n'])), async (tree) => {
      const blocks = await collect(tree.blocks())
      assert.deepEqual(
        blocks.map(({ hash }) => hash),
        names,
      )
    })
  })
})
