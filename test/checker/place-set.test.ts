import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { PlaceSet } from '../../src/checker/place-set.ts'

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
})
