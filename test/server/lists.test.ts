/** The lists of keep-balance: what is none is refused as a whole. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Refused } from '../../src/server/errors.ts'
import { parsePullList, parseTrashList } from '../../src/server/lists.ts'
import { runs } from '../fuzz.ts'

const HASH = 'acbd18db4cc2f85cedef654fccc4a4d8'
const odd = fc.constantFrom<unknown>(null, 5, -1, true, '', [], {}, 'text', 1e300, ['x'])
const item = fc.record(
  {
    locator: fc.oneof(fc.constantFrom(`${HASH}+3`, HASH, `${HASH}+`), odd),
    block_mtime: fc.oneof(fc.constantFrom(1_700_000_000, 0), odd),
    mount_uuid: fc.oneof(fc.constant('zzzzz-nyw5e-000000000000000'), odd),
    servers: fc.oneof(
      fc.array(fc.oneof(fc.constantFrom('http://a:25107', 'ftp://a', '//a', 'http://'), odd)),
      odd,
    ),
  },
  { requiredKeys: [] },
)

test('any text is a list or refused with 400, and what is taken has what it needs', () => {
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    fc.array(item).map((items) => JSON.stringify(items)),
  )
  fc.assert(
    fc.property(texts, (text) => {
      for (const parse of [parseTrashList, parsePullList]) {
        try {
          for (const each of parse(text)) {
            assert.equal(each.locator.hash, HASH)
            if ('mtimeNs' in each) assert.equal(typeof each.mtimeNs, 'bigint')
            else for (const server of each.servers) assert.match(server, /^https?:\/\/[^/]+$/)
          }
        } catch (error) {
          assert.ok(error instanceof Refused && error.status === 400, String(error))
        }
      }
    }),
    runs(500),
  )
  for (const deep of ['['.repeat(200_000), `[${'{"a":'.repeat(100_000)}`]) {
    assert.throws(() => parseTrashList(deep), Refused)
  }
})

test('a time in nanoseconds keeps all of its digits', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 62n }), (mtimeNs) => {
      const text = `[{"locator": "${HASH}+3", "block_mtime": ${mtimeNs}, "mount_uuid": ""}]`
      assert.equal(parseTrashList(text)[0]?.mtimeNs, mtimeNs)
    }),
  )
})
