import assert from 'node:assert/strict'
import { it } from 'node:test'
import fc from 'fast-check'
import { Slots } from '../src/slots.ts'
import { runs } from './fuzz.ts'

it('slots are never more than there are, and go to those who wait in the order they came', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.boolean(), { maxLength: 40 }),
      async (count, takes) => {
        const slots = new Slots(count)
        const got: number[] = []
        let asked = 0
        let freed = 0
        for (const take of takes) {
          if (take) {
            const id = asked++
            void slots.take().then(() => got.push(id))
          } else if (freed < got.length) {
            freed += 1
            slots.free()
          }
          await new Promise(setImmediate)
          assert.deepEqual(got, [...Array(Math.min(asked, count + freed)).keys()])
        }
      },
    ),
    runs(50),
  )
})
