import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { PLACES_AT_ONCE, PlaceSet } from '../../src/checker/place-set.ts'

describe('a set of places', () => {
  it('says of each whether it was met, whatever size it was made for', () => {
    const texts = fc.array(fc.nat({ max: 300 }).map(String), { maxLength: 400 })
    fc.assert(
      fc.property(fc.nat({ max: 50 }), texts, texts, (expected, added, taken) => {
        const set = new PlaceSet(expected)
        for (const text of added) set.add(text)
        const left = new Set(added)
        for (const text of taken) {
          assert.equal(set.isLeft(text), left.has(text))
          const is = left.delete(text) ? 'first' : added.includes(text) ? 'again' : undefined
          assert.equal(set.take(text), is)
        }
        assert.equal(set.left, left.size)
      }),
    )
  })

  it('takes no more than 76 MB for as many places as a check holds at once', () => {
    const before = process.memoryUsage().arrayBuffers
    const set = new PlaceSet(PLACES_AT_ONCE)
    const bytes = process.memoryUsage().arrayBuffers - before
    assert.ok(bytes < 76e6, `${bytes} bytes`)
    assert.equal(set.left, 0)
  })
})
