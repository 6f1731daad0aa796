import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import fc from 'fast-check'
import { KeyTree } from '../../src/collection/key-tree.ts'
import { locatorText } from '../../src/collection/locators.ts'
import { type ManifestOptions, ManifestWriter } from '../../src/collection/manifest-writer.ts'
import { EMPTY_HASH } from '../../src/keep/locator.ts'
import { bareLocator, escapeName, PortableDataHash, partProblem } from '../../src/keep/manifest.ts'
import type { Catalog } from '../../src/mapping/catalog.ts'
import {
  segmentCount,
  segmentHash,
  segmentRange,
  withoutSegments,
} from '../../src/mapping/record.ts'
import { type ArvadosSdk, lacksArvadosSdk, startArvadosSdk } from '../clients/arvados-sdk.ts'
import { runs } from '../fuzz.ts'
import { makeMapping } from '../mapping/fixture.ts'
import { byBytes, fill, type Objects, recordOf } from './fixture.ts'

const MIB = 1024 * 1024
const EMPTY_DIRECTORY = ` ${EMPTY_HASH}+0 0:0:\\056`

interface Written {
  text: string
  portableDataHash: string
  /** Keys. */
  leftOut: string[]
  writer: ManifestWriter
}

/** Writes the manifest of a catalog's objects below a prefix. */
function write(
  catalog: Catalog,
  { prefix = '', ...options }: Partial<ManifestOptions> & { prefix?: string } = {},
): Written {
  const snapshot = catalog.snapshot()
  const leftOut: string[] = []
  const writer = new ManifestWriter(new KeyTree(snapshot, prefix), {
    base: '',
    locator: bareLocator,
    leftOut: (key) => leftOut.push(key),
    ...options,
  })
  const hash = new PortableDataHash()
  try {
    const text = [...hash.tee(writer.pieces())].join('')
    return { text, portableDataHash: hash.digest(), leftOut, writer }
  } finally {
    snapshot.close()
  }
}

function lines(text: string): string[] {
  assert.ok(text === '' || text.endsWith('\n'))
  return text.split('\n').slice(0, -1)
}

const part = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.constantFrom(
      'a',
      'a-b',
      'a.b',
      'a b',
      'a!',
      'a0',
      'ab',
      'b',
      '-',
      '!',
      ':',
      '\\',
    ),
  },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'é',
      '\u{1f9ec}',
      '\uffee',
      'x\ny',
      'x\\040y',
      '0:0:z',
      '...',
      '\x7f',
      '\0',
    ),
  },
  { weight: 1, arbitrary: fc.constantFrom('', '.', '..', 'a\u00a0b', '\u2028', 'a\udcff') },
)
const key = fc
  .tuple(fc.array(part, { minLength: 1, maxLength: 4 }), fc.constantFrom('', '', '', '', '/'))
  .map(([parts, end]) => parts.join('/') + end)
const record = fc
  .tuple(
    fc.constantFrom(0, 0, 1, 5, 64 * MIB, 64 * MIB + 5, 128 * MIB, 192 * MIB + 1),
    fc.array(fc.nat(2), { minLength: 4, maxLength: 4 }),
    fc.nat(15),
  )
  .map(([size, contents, damage]) => {
    const whole = recordOf(size, contents)
    return damage === 0 && size > 0 ? withoutSegments(whole, [0]) : whole
  })
const anyObjects: fc.Arbitrary<Objects> = fc
  .array(fc.tuple(key, record), { maxLength: 25 })
  .map((pairs) => new Map(pairs.filter(([name]) => name !== '')))

/** What must come of a set of objects, said as plainly as can be. */
interface Expected {
  files: string[]
  emptyDirectories: string[]
  leftOut: string[]
}

function expected(objects: Objects): Expected {
  const isFolder = (name: string): boolean => name.endsWith('/') && objects.get(name)!.size === 0
  const good = [...objects.keys()].filter((name) => {
    const { size, hashes } = objects.get(name)!
    const parts = (isFolder(name) ? name.slice(0, -1) : name).split('/')
    const isDamaged = size > 0 && hashes.subarray(0, 16).every((byte) => byte === 0)
    return (
      !isDamaged &&
      !parts.some((each) => /^\.{0,2}$|[\u00a0\u2028]/.test(each) || !each.isWellFormed())
    )
  })
  const whole = good.filter((name) => !isFolder(name))
  const files = whole.filter((name) => !whole.some((other) => other.startsWith(`${name}/`)))
  const empty = good
    .filter((name) => isFolder(name))
    .filter((name) => !good.some((other) => other !== name && other.startsWith(name)))
  const emptyDirectories = empty.filter(
    (name) => !files.some((file) => name.startsWith(`${file}/`)),
  )
  const inIt = new Set([...files, ...good.filter(isFolder)])
  for (const name of empty) if (!emptyDirectories.includes(name)) inIt.delete(name)
  return { files, emptyDirectories, leftOut: [...objects.keys()].filter((name) => !inIt.has(name)) }
}

/** The blocks of an object as [locator, bytes]. */
function blocksOf(objects: Objects, name: string): [locator: string, size: number][] {
  const found = objects.get(name)!
  return Array.from({ length: segmentCount(found.size) }, (_, segment) => {
    const { length } = segmentRange(found.size, segment)
    return [`${segmentHash(found, segment)}+${length}`, length]
  })
}

describe('a manifest of a catalog', () => {
  it('has every object that it can hold, and names the others once', async () => {
    await using mapping = await makeMapping()
    await fc.assert(
      fc.asyncProperty(anyObjects, async (objects) => {
        await fill(mapping, objects)
        const { text, leftOut, writer } = write(mapping.catalog)
        const { files, emptyDirectories, leftOut: mustBeOut } = expected(objects)
        assert.deepEqual(leftOut.toSorted(byBytes), mustBeOut.toSorted(byBytes))
        const empty = lines(text).filter((line) => line.endsWith(EMPTY_DIRECTORY))
        assert.deepEqual(
          empty.sort(),
          emptyDirectories
            .map((name) => escapeName(`./${name.slice(0, -1)}`) + EMPTY_DIRECTORY)
            .sort(),
        )
        const bytes = files.reduce((sum, name) => sum + objects.get(name)!.size, 0)
        assert.deepEqual(writer.counts, {
          files: files.length,
          bytes,
          streams: lines(text).length,
        })
      }),
      runs(300),
    )
  })

  it('lists no block twice in a stream, and no stream twice', async () => {
    await using mapping = await makeMapping()
    await fc.assert(
      fc.asyncProperty(anyObjects, async (objects) => {
        await fill(mapping, objects)
        const streams = lines(write(mapping.catalog).text).map((line) => line.split(' '))
        assert.equal(new Set(streams.map(([name]) => name)).size, streams.length)
        for (const tokens of streams) {
          const locators = tokens.filter((token) => /^[0-9a-f]{32}\+/.test(token))
          assert.equal(new Set(locators).size, locators.length)
        }
      }),
      runs(100),
    )
  })

  it('is to the letter what the manifest format has', async () => {
    await using mapping = await makeMapping()
    const hashes = ['c449ed86671e4a34a8b8b9430850beba', '09fcfea01c3a141b89dd0dcfa1b7768e']
    const image = { ...recordOf(89_643_008), hashes: Buffer.from(hashes.join(''), 'hex') }
    await fill(mapping, new Map([['Docker image.tar', image]]))
    const locator = locatorText({ service: 'zzzzz-bi6l4-0123456789abcde' })
    const { text, portableDataHash } = write(mapping.catalog, { locator })
    const hint = '+K@zzzzz-bi6l4-0123456789abcde'
    const [first, second] = [`${hashes[0]}+67108864`, `${hashes[1]}+22534144`]
    const file = '0:89643008:Docker\\040image.tar'
    assert.equal(text, `. ${first}${hint} ${second}${hint} ${file}\n`)
    const bare = `. ${first} ${second} ${file}\n`
    const digest = createHash('md5').update(bare).digest('hex')
    assert.equal(portableDataHash, `${digest}+${bare.length}`)
  })

  it('of a part, or with shorter names, is that of a bucket with just these objects', async () => {
    await using mapping = await makeMapping()
    await fc.assert(
      fc.asyncProperty(
        anyObjects,
        fc.constantFrom('a', 'a/', 'a-', 'a-b/', 'b/a'),
        fc.boolean(),
        async (objects, prefix, isStripped) => {
          await fill(mapping, objects)
          const base = isStripped ? prefix : ''
          const part = write(mapping.catalog, { prefix, base })
          const inPart = [...objects].filter(([name]) => name.startsWith(prefix))
          // The folder that everything lies in is the collection itself.
          const [itself] = inPart.filter(([name]) => name === base && name.endsWith('/'))
          const rest = inPart.filter(([name]) => name !== base)
          await fill(mapping, new Map(rest.map(([name, each]) => [name.slice(base.length), each])))
          const alone = write(mapping.catalog)
          assert.equal(part.text, alone.text)
          const whole = alone.leftOut.map((name) => base + name)
          const odd = inPart.filter(([name]) => name === base && base !== '').map(([name]) => name)
          const isFine = itself !== undefined && itself[1].size === 0
          assert.deepEqual(
            part.leftOut.toSorted(byBytes),
            [...whole, ...(isFine ? [] : odd)].toSorted(byBytes),
          )
        },
      ),
      runs(200),
    )
  })

  it('is of one moment, whatever is recorded while it is written', async () => {
    await using mapping = await makeMapping()
    const names = Array.from({ length: 3000 }, (_, i) => `d${i % 7}/f${i}`)
    const objects: Objects = new Map(names.map((name, i) => [name, recordOf(5, [i])]))
    await fill(mapping, objects)
    const calm = write(mapping.catalog).text
    const snapshot = mapping.catalog.snapshot()
    const writer = new ManifestWriter(new KeyTree(snapshot, ''), {
      base: '',
      locator: bareLocator,
      leftOut: assert.fail,
    })
    let text = ''
    let rounds = 0
    for (const piece of writer.pieces()) {
      text += piece
      if (text.length / 20_000 < rounds) continue
      rounds += 1
      const others = names.filter((_, i) => i % 11 !== rounds % 11)
      await fill(mapping, new Map(others.map((name, i) => [name, recordOf(7, [i + rounds])])))
    }
    snapshot.close()
    assert.ok(rounds > 3)
    assert.equal(text, calm)
    assert.notEqual(write(mapping.catalog).text, calm)
  })

  it('holds directories as deep as a key can name', async () => {
    await using mapping = await makeMapping()
    const deep = 'd/'.repeat(511)
    await fill(mapping, new Map([`${deep}f`, 'd-/f', 'd/f'].map((name) => [name, recordOf(3)])))
    const streams = lines(write(mapping.catalog).text).map((line) => line.split(' ')[0])
    assert.deepEqual(streams, ['./d', `./${deep.slice(0, -1)}`, './d-'])
  })
})

const lacksSdk = await lacksArvadosSdk()
describe('the Arvados Python SDK', { skip: lacksSdk }, () => {
  let sdk: ArvadosSdk
  before(async () => {
    sdk = await startArvadosSdk()
  })
  after(() => sdk[Symbol.asyncDispose]())

  it('finds the same files in a manifest, and writes it just so itself', async () => {
    await using mapping = await makeMapping()
    await fc.assert(
      fc.asyncProperty(anyObjects, async (objects) => {
        await fill(mapping, objects)
        const { text, portableDataHash } = write(mapping.catalog)
        const theirs = await sdk.normalize(text)
        assert.equal(theirs.text, text)
        assert.equal(theirs.portableDataHash, portableDataHash)
        const found = Object.entries(theirs.files).map(([path, segments]) => [
          path.slice(2),
          segments.map(([locator, offset, size]) => [locator, offset, size]),
        ])
        assert.deepEqual(
          Object.fromEntries(found),
          Object.fromEntries(
            expected(objects).files.map((name) => [
              name,
              blocksOf(objects, name).map(([locator, size]) => [locator, 0, size]),
            ]),
          ),
        )
      }),
      runs(300),
    )
  })

  it('reads every character in a name that a manifest takes, and no other one', async () => {
    const text = (names: string[]): string => {
      const spans = names.map((name) => `0:0:${escapeName(name)}`)
      return `. ${EMPTY_HASH}+0 ${spans.join(' ')}\n`
    }
    const all = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code))
      .filter((character) => character !== '/' && character.isWellFormed())
      .map((character) => `x${character}y`)
    const [good, bad] = [
      all.filter((name) => partProblem(name) === undefined),
      all.filter((name) => partProblem(name) !== undefined),
    ]
    const { files } = await sdk.normalize(text(good))
    assert.deepEqual(Object.keys(files).sort(), good.map((name) => `./${name}`).sort())
    assert.ok(bad.length > 0)
    for (const name of bad) {
      const names = sdk.normalize(text([name])).then((found) => Object.keys(found.files))
      assert.notDeepEqual(await names.catch(() => []), [`./${name}`], JSON.stringify(name))
    }
  })

  it('agrees on a directory too large to be held, with repeated blocks and a name taken', async () => {
    await using mapping = await makeMapping()
    const objects: Objects = new Map([
      ['big', recordOf(192 * MIB, [1, 2, 1])],
      ['f0500', recordOf(64 * MIB, [2])],
      ['f0500/below', recordOf(9, [4])],
    ])
    for (let i = 0; i < 12_000; i++) objects.set(`f${i}`, recordOf(5, [i % 5000]))
    await fill(mapping, objects)
    const { text, portableDataHash, leftOut } = write(mapping.catalog)
    assert.deepEqual(leftOut, ['f0500'])
    const theirs = await sdk.normalize(text)
    assert.equal(theirs.text, text)
    assert.equal(theirs.portableDataHash, portableDataHash)
    assert.equal(Object.keys(theirs.files).length, objects.size - 1)
    for (const name of ['big', 'f7', 'f5007', 'f11999', 'f0500/below']) {
      assert.deepEqual(
        theirs.files[`./${name}`],
        blocksOf(objects, name).map(([locator, size]) => [locator, 0, size]),
      )
    }
  })

  it('takes hints along, and leaves them out of the portable data hash', async () => {
    await using mapping = await makeMapping()
    const names = ['a/x', 'a/y', 'b', 'b-c/z', 'empty']
    await fill(
      mapping,
      new Map(names.map((name, i) => [name, recordOf(70 * MIB * (4 - i), [i % 2])])),
    )
    const hint = `+K@zzzzz-bi6l4-0123456789abcde+A${'0123456789'.repeat(4)}@7fffffff`
    const plain = write(mapping.catalog)
    const hinted = write(mapping.catalog, { locator: (hash, size) => `${hash}+${size}${hint}` })
    assert.equal(hinted.text.replaceAll(hint, ''), plain.text)
    assert.equal(hinted.portableDataHash, plain.portableDataHash)
    const theirs = await sdk.normalize(hinted.text)
    assert.equal(theirs.text, hinted.text)
    assert.equal(theirs.portableDataHash, plain.portableDataHash)
  })
})
