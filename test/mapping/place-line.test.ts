import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Place } from '../../src/mapping/mapping.ts'
import { formatPlace, MAX_BLOCK, parsePlace } from '../../src/mapping/place-line.ts'
import { runs } from '../fuzz.ts'
import { anyKey } from './fixture.ts'

const places = fc
  .record(
    {
      offset: fc.maxSafeNat(),
      length: fc.integer({ min: 1, max: MAX_BLOCK }),
      key: anyKey,
      etag: anyKey,
      trusted: fc.constant(true),
      extra: fc.array(fc.constantFrom('a=b', 'empty=', 'bare', 'x=%zz', 'é=🙂', ''), {
        minLength: 1,
        maxLength: 3,
      }),
    },
    { requiredKeys: ['offset', 'length', 'key'], noNullPrototype: true },
  )
  .map((place) => place as Place)

describe('the line of a place', () => {
  it('gives back the place, whatever bytes its key has', () => {
    fc.assert(
      fc.property(places, (place) => {
        assert.deepEqual(parsePlace(formatPlace(place)), place)
      }),
      runs(2000),
    )
  })

  it('is one line of UTF-8 without control bytes, which cut takes apart', () => {
    fc.assert(
      fc.property(places, (place) => {
        const line = formatPlace(place)
        assert.ok(line.isWellFormed())
        // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
        assert.doesNotMatch(line.replaceAll('\t', ''), /[\u0000-\u001f\u007f]/)
        const [head, ...attributes] = line.split('\t')
        const has = (place.etag === undefined ? 0 : 1) + (place.trusted ? 1 : 0)
        const others = place.extra?.length ?? 0
        assert.equal(attributes.length, has + others)
        assert.match(head!, /^\d+:\d+:[^\t]+$/)
      }),
    )
  })

  const written: [string, Place][] = [
    [
      '67108864:22534144:data/My reads.bam\tetag=9a0364b9e99bb480dd25e1f0284c8555-3',
      {
        offset: 67108864,
        length: 22534144,
        key: 'data/My reads.bam',
        etag: '9a0364b9e99bb480dd25e1f0284c8555-3',
      },
    ],
    ['0:1:k\tetag=e\tproof=etag', { offset: 0, length: 1, key: 'k', etag: 'e', trusted: true }],
    ['0:1:k\tproof=read', { offset: 0, length: 1, key: 'k', extra: ['proof=read'] }],
    ['0:1:a:b%25%0a%Ff', { offset: 0, length: 1, key: 'a:b%\n\udcff' }],
    ['0:1:%C3%A9', { offset: 0, length: 1, key: 'é' }],
    [
      '0:1:k\tnew=1\tetag=e\tother',
      { offset: 0, length: 1, key: 'k', etag: 'e', extra: ['new=1', 'other'] },
    ],
  ]
  for (const [line, place] of written) {
    it(`reads ${JSON.stringify(line)}`, () => assert.deepEqual(parsePlace(line), place))
  }

  it('is passed over or stands for one place, whatever it is', () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc
        .array(
          fc.oneof(
            fc.constantFrom(
              '0',
              '9',
              '64',
              ':',
              '%',
              '%4',
              '%ff',
              '%ED%B2%80',
              '\t',
              'etag=',
              '\0',
            ),
            fc.constantFrom('proof=etag', 'x=1', '\ufffd', '\udcff', '\r', '+', '-', '.', 'é'),
            fc.string({ unit: 'binary', maxLength: 3 }),
          ),
        )
        .map((parts) => `0:1:${parts.join('')}`),
      places.chain((place) => {
        const line = formatPlace(place)
        return fc
          .tuple(fc.nat({ max: line.length }), fc.nat({ max: 3 }), fc.string({ unit: 'binary' }))
          .map(([at, cut, more]) => line.slice(0, at) + more + line.slice(at + cut))
      }),
    )
    fc.assert(
      fc.property(texts, (text) => {
        // Lines come from a file, cut at its line feeds.
        const line = text.replaceAll('\n', '')
        const place = parsePlace(line)
        if (place === undefined) return
        assert.ok(place.key !== '' && place.length >= 1 && place.length <= MAX_BLOCK)
        assert.ok(Number.isSafeInteger(place.offset) && place.offset >= 0)
        assert.deepEqual(parsePlace(formatPlace(place)), place)
      }),
      runs(2000),
    )
  })

  const bad = [
    '',
    'k',
    '0:1:',
    '0:1',
    ':1:k',
    '0::k',
    '-1:1:k',
    '+1:1:k',
    '00:1:k',
    '0:01:k',
    '0:0:k',
    ' 0:1:k',
    '1.5:1:k',
    '1e3:1:k',
    '0x1:1:k',
    `0:${MAX_BLOCK + 1}:k`,
    `${2 ** 53}:1:k`,
    '99999999999999999999:1:k',
    '0:1:\tetag=e',
    '0:1:k%',
    '0:1:k%4',
    '0:1:k%zz',
    '0:1:% 4',
    '0:1:k\tetag=%',
    '0:1:k\r',
    '0:1:k\0',
    '0:1:k\tetag=e\r',
  ]
  for (const line of bad) {
    it(`passes over ${JSON.stringify(line)}`, () => assert.equal(parsePlace(line), undefined))
  }
})
