import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { BadLocator, isLocatorLike, type Locator, parseLocator } from '../../src/keep/locator.ts'
import { lacksArvadosSdk, type SdkLocator, startArvadosSdk } from '../clients/arvados-sdk.ts'

const HASH = 'acbd18db4cc2f85cedef654fccc4a4d8'
const SIGNATURE = 'A89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff'

describe('a good locator', () => {
  const cases: [string, number | undefined, string[]][] = [
    ['', undefined, []],
    ['+3', 3, []],
    ['+0', 0, []],
    ['+67108864', 67_108_864, []],
    ['+3+Z+K@xyzzy', 3, ['Z', 'K@xyzzy']],
    [`+3+${SIGNATURE}`, 3, [SIGNATURE]],
    [`+3+${SIGNATURE}+K@xyzzy`, 3, [SIGNATURE, 'K@xyzzy']],
    ['+3+K@zzzzz-bi6l4-0123456789abcde', 3, ['K@zzzzz-bi6l4-0123456789abcde']],
    ['+K@xyzzy', undefined, ['K@xyzzy']],
  ]
  for (const [rest, size, hints] of cases) {
    test(HASH + rest, () => {
      const expected = size === undefined ? { hash: HASH, hints } : { hash: HASH, size, hints }
      assert.deepEqual(parseLocator(HASH + rest), expected)
    })
  }
})

describe('a bad locator', () => {
  const cases = {
    empty: '',
    'no hash': '+3',
    'short hash': `${HASH.slice(1)}+3`,
    'long hash': `${HASH}0+3`,
    'capital hash': `${HASH.toUpperCase()}+3`,
    'no hex': `g${HASH.slice(1)}+3`,
    'trailing plus': `${HASH}+3+`,
    'plus alone': `${HASH}+`,
    'empty part': `${HASH}+3++Z`,
    'two sizes': `${HASH}+3+3`,
    'size after a hint': `${HASH}+Z+3`,
    'small letter': `${HASH}+3+k@xyzzy`,
    'odd character': `${HASH}+3+K=x`,
    'negative size': `${HASH}+-3`,
    'line feed': `${HASH}+3\n`,
    'line feed after a hint': `${HASH}+3+Z\n`,
    'remote signature': `${HASH}+3+Rzzzzz-89118b78732c33104a4d6231e8b5a5fa1e4301e3@7fffffff`,
  }
  for (const [name, text] of Object.entries(cases)) {
    test(name, () => {
      assert.throws(() => parseLocator(text), BadLocator)
    })
  }
})

test('what is put together is taken apart again', () => {
  const hex = fc.stringMatching(/^[0-9a-f]{32}$/)
  const hint = fc.stringMatching(/^[A-QS-Z][A-Za-z0-9@_-]{0,40}$/)
  fc.assert(
    fc.property(hex, fc.nat(), fc.array(hint), (hash, size, hints) => {
      const text = [hash, size, ...hints].join('+')
      assert.deepEqual(parseLocator(text), { hash, size, hints })
      assert.equal(isLocatorLike(text), true)
    }),
  )
})

test('any text is a locator or BadLocator, and the message is one line', () => {
  const part = fc.oneof(fc.constantFrom(HASH, '', '3', 'Z', 'K@xyzzy', '\n'), fc.string())
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      try {
        const { hash } = parseLocator(parts.join('+'))
        assert.match(hash, /^[0-9a-f]{32}$/)
      } catch (error) {
        assert.ok(error instanceof BadLocator)
        assert.ok(!error.message.includes('\n'))
      }
    }),
  )
})

/** Returns the locator, or undefined for a bad one. */
function parsed(text: string): Locator | undefined {
  try {
    return parseLocator(text)
  } catch (error) {
    assert.ok(error instanceof BadLocator)
    return undefined
  }
}

/**
 * Where the Keep protocol and the Python SDK part, and why the protocol is right to. `ours` says who
 * takes such a text: keepgw or the SDK.
 */
const DIFFERENCES: { why: string; ours: boolean; example: string; of(text: string): boolean }[] = [
  {
    why: 'hashes are lower-case: in other letters a block would have many names',
    ours: false,
    example: `${HASH.toUpperCase()}+3`,
    of: (text) => /^(?=.*[A-F])[0-9a-fA-F]{32}(\+|$)/.test(text),
  },
  {
    why: 'sizes are digits; Python also takes a sign, spaces and underscores for a number',
    ours: false,
    example: `${HASH}+1_0`,
    of: (text) => /^[^+]*\+(?!\d+(\+|$))\s*[-+]?\d[\d_]*\s*(\+|$)/.test(text),
  },
  {
    why: 'a line feed belongs to no part; Python’s $ stands before one',
    ours: false,
    example: `${HASH}+3+Z1\n`,
    of: (text) => /\n(\+|$)/.test(text),
  },
  {
    why: 'blocks that a remote cluster has signed are not served here',
    ours: false,
    example: `${HASH}+3+Rzzzzz-0`,
    of: (text) =>
      text
        .split('+')
        .slice(1)
        .some((hint) => hint.startsWith('R')),
  },
  {
    why: 'the size may be left out: GET /HASH is served',
    ours: true,
    example: `${HASH}+K@xyzzy`,
    of: (text) => /^[^+]*\+[A-Z]/.test(text),
  },
  {
    why: 'a hint may be a letter alone',
    ours: true,
    example: `${HASH}+3+Z`,
    of: (text) => /\+[A-Z](\+|$)/.test(text),
  },
  {
    why: 'a malformed signature is an invalid one, once it is looked at; without BlobSigning it is not',
    ours: true,
    example: `${HASH}+3+Axyz`,
    of: (text) =>
      text
        .split('+')
        .slice(1)
        .some((hint) => /^A(?![0-9a-fA-F]{40}@[0-9a-fA-F]{1,8}$)/.test(hint)),
  },
]

function sameLocator(ours: Locator, theirs: SdkLocator): void {
  const signature = ours.hints.findLast((hint) => hint.startsWith('A'))?.toLowerCase() ?? null
  assert.deepEqual(
    {
      ...theirs,
      // Written anew, it has eight digits.
      signature: theirs.signature?.toLowerCase().replace(/@0*/, '@') ?? null,
    },
    {
      hash: ours.hash,
      size: ours.size ?? null,
      hints: ours.hints.filter((hint) => !hint.startsWith('A')),
      signature: signature?.replace(/@0*/, '@') ?? null,
    },
  )
}

describe('the Arvados Python SDK', { skip: await lacksArvadosSdk() }, () => {
  const hex = (length: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`))
  const hash = fc.oneof(
    { weight: 8, arbitrary: hex(32) },
    { weight: 1, arbitrary: fc.constantFrom('', HASH.toUpperCase(), `${HASH}0`, HASH.slice(1)) },
  )
  const size = fc.oneof(
    { weight: 8, arbitrary: fc.nat().map(String) },
    {
      weight: 2,
      arbitrary: fc.constantFrom('', '00', '-3', ' 3', '3 ', '1_0', '3.0', '0x3', 'K@x'),
    },
  )
  const signature = fc
    .tuple(hex(40), fc.oneof(hex(8), fc.constantFrom('', '0', '123456789', 'x')))
    .map((parts) => `A${parts.join('@')}`)
  const hint = fc.oneof(
    fc.stringMatching(/^[A-Z][A-Za-z0-9@_-]{0,12}$/),
    signature,
    fc.constantFrom(
      'K@xyzzy',
      'K@zzzzz-bi6l4-0123456789abcde',
      'Z',
      'A',
      '',
      'k@xyzzy',
      '3',
      'Z\n',
    ),
    fc.constantFrom('Ké', 'K=1', 'K ', `Rzzzzz-${'0'.repeat(40)}@7fffffff`, 'B'),
  )
  const locator = fc
    .tuple(hash, fc.option(size, { freq: 8 }), fc.array(hint, { maxLength: 3 }))
    .map(([first, second, rest]) =>
      [first, ...(second === null ? [] : [second]), ...rest].join('+'),
    )

  test('takes and refuses the same locators, but where the protocol has reasons', async () => {
    const texts = [...DIFFERENCES.map(({ example }) => example), ...fc.sample(locator, 20_000)]
    await using sdk = await startArvadosSdk()
    const { parsed: theirs } = await sdk.locators(texts)
    let agreed = 0
    for (const [at, text] of texts.entries()) {
      const [our, their] = [parsed(text), theirs[at] ?? undefined]
      if (our !== undefined && their !== undefined) {
        sameLocator(our, their)
        agreed += 1
      } else if (our !== their) {
        const isOurs = our !== undefined
        const found = DIFFERENCES.some(({ ours, of }) => ours === isOurs && of(text))
        assert.ok(
          found,
          `${JSON.stringify(text)} is a locator to ${isOurs ? 'keepgw' : 'the SDK'} alone`,
        )
      }
    }
    assert.ok(agreed > 1000, `${agreed} locators in common`)
    for (const [at, { ours, why }] of DIFFERENCES.entries()) {
      const { example } = DIFFERENCES[at]!
      assert.equal(parsed(example) !== undefined, ours, why)
      assert.equal(theirs[at] !== null, !ours, why)
    }
  })
})
