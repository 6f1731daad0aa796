import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { UsageError } from '../../src/errors.ts'
import { globMatcher } from '../../src/indexer/glob.ts'
import { makeScope } from '../../src/indexer/scope.ts'
import { runs } from '../fuzz.ts'
import { anyKey } from '../mapping/fixture.ts'

describe('a glob', () => {
  // A glob, what it matches, and what it does not.
  const table: [string, string[], string[]][] = [
    ['*', ['a', 'a/b', '.hidden', 'a\nb', '\udcff', ''], []],
    [
      '*.bam',
      ['x.bam', 'a/b/x.bam', '.bam', 'a\n.bam', '\udcff.bam'],
      ['x.bam/y', 'x.bamm', 'xbam', 'x.BAM'],
    ],
    ['a/*', ['a/b', 'a/', 'a/.b'], ['a', 'a/b/c', 'x/a/b', 'ab/c']],
    ['a/**', ['a/', 'a/b', 'a/b/c', 'a/../b'], ['a', 'ab', 'x/a/b']],
    ['**/b', ['b', 'a/b', 'a/c/b', '/b'], ['ab', 'a/bc', 'b/a']],
    ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b', 'a//b'], ['ab', 'a/xb', 'x/a/b']],
    ['**', ['', 'a', 'a/b'], []],
    ['/a', ['/a'], ['a', 'x/a']],
    ['./a', ['./a'], ['a']],
    ['a//b', ['a//b'], ['a/b']],
    ['?', ['a', 'é', '🙂', '\udcff', '\n', 'x/a'], ['ab', 'a/']],
    ['a?c', ['abc', 'a🙂c'], ['ac', 'a/c', 'abbc']],
    ['[a-c]', ['a', 'c', 'x/b'], ['d', 'A', '-', '/']],
    ['[!a-c]', ['d', '!', '🙂', '\udcff'], ['a', 'b', 'dd']],
    ['x[!a]y', ['xby'], ['x/y', 'xay']],
    ['[a-]', ['a', '-'], ['b']],
    ['[-a]', ['a', '-'], ['b']],
    ['[a\\-c]', ['a', '-', 'c'], ['b']],
    ['[a\\]]', ['a', ']'], ['\\']],
    ['[\\d]', ['d'], ['1', '\\']],
    ['[a^]', ['a', '^'], ['b']],
    ['[^a]', ['a', '^'], ['b']],
    ['[a&&b]', ['a', '&', 'b'], ['c']],
    ['[[]', ['['], ['a']],
    ['[é-ö]', ['ê'], ['e']],
    ['[🙂-🙃]', ['🙂', '🙃'], ['a', '🙄']],
    ['{a,b}.txt', ['a.txt', 'b.txt', 'x/a.txt'], ['c.txt', 'ab.txt', '{a,b}.txt']],
    ['{a,b/c}', ['a', 'b/c'], ['c', 'x/a', 'b']],
    ['x{,y}', ['x', 'xy'], ['xyy']],
    ['{a,{b,c}d}', ['a', 'bd', 'cd'], ['ad', 'b']],
    ['{*.a,?}', ['x.a', 'y'], ['x.b']],
    ['a,b}', ['a,b}'], ['a']],
    ['a|b', ['a|b'], ['a', 'b']],
    ['(a)', ['(a)'], ['a']],
    ['a.c', ['a.c'], ['abc']],
    ['^$', ['^$'], ['']],
    ['+', ['+'], ['']],
    ['\\*', ['*'], ['a']],
    ['\\{a\\,b}', ['{a,b}'], ['a']],
    ['\\\\', ['\\'], ['']],
    ['\\🙂', ['🙂'], ['']],
    ['', [''], ['a']],
  ]
  for (const [glob, matching, others] of table) {
    it(JSON.stringify(glob), () => {
      const matches = globMatcher(glob)
      for (const key of matching) assert.ok(matches(key), JSON.stringify(key))
      for (const key of others) assert.ok(!matches(key), JSON.stringify(key))
    })
  }

  for (const glob of ['[', '[a', '[]', '{', '{a', '{a,{b}', 'a\\', '[a\\]', '[z-a]']) {
    it(`is a wrong argument: ${glob}`, () => assert.throws(() => globMatcher(glob), UsageError))
  }

  it('is read or refused, whatever it is; of escaped characters it matches just those', () => {
    fc.assert(
      fc.property(anyKey, anyKey, (key, other) => {
        const escaped = [...key].map((character) => `\\${character}`).join('')
        const matches = globMatcher(`/${escaped}`)
        assert.ok(matches(`/${key}`))
        assert.equal(matches(`/${other}`), other === key)
      }),
    )
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'*?[]!-{},\\/aé🙂^&~|.') }), (glob) => {
        try {
          globMatcher(glob)('a/b')
        } catch (error) {
          assert.ok(error instanceof UsageError, String(error))
        }
      }),
      runs(5000),
    )
  })
})

describe('the scope of a run', () => {
  it('is everything, unless something is asked for', () => {
    const scope = makeScope({})
    assert.deepEqual(scope.prefixes, [''])
    assert.ok(scope.matches('anything/at all'))
  })

  it('has none of its prefixes twice or within another, in the order of their bytes', () => {
    const prefixes = ['b/', '🙂', 'a/b', 'a', 'b/', '\uffff', 'ab', 'b']
    assert.deepEqual(makeScope({ prefixes }).prefixes, ['a', 'b', '\uffff', '🙂'])
    assert.deepEqual(makeScope({ prefixes: ['a', ''] }).prefixes, [''])
  })

  it('leaves out what is excluded, though it is included', () => {
    const { matches } = makeScope({ include: ['*.bam', 'keep/**'], exclude: ['tmp*', '**/old/**'] })
    assert.deepEqual(
      ['x.bam', 'x.txt', 'keep/x.txt', 'tmp.bam', 'a/old/x.bam', 'keep/old/x'].filter(matches),
      ['x.bam', 'keep/x.txt'],
    )
  })
})

it('a key that somebody made for it keeps no glob busy', () => {
  const cases: [glob: string, key: string][] = [
    ['*a*a*a*a*a*b', 'a'.repeat(1024)],
    ['**/*a*/**/*a*/**/*a*/**/b', 'a/'.repeat(512)],
    ['**a**a**a**a**b', 'a'.repeat(1024)],
    ['{a,aa,aaa,aaaa}{a,aa,aaa}{a,aa}*{a,aa}*{a,aa}*b', 'a'.repeat(1024)],
    ['[a-z]*[a-z]*[a-z]*[a-z]*[a-z]*?', `${'a'.repeat(1000)}/`],
  ]
  const began = performance.now()
  for (const [glob, key] of cases) assert.equal(globMatcher(glob)(key), false, glob)
  assert.ok(performance.now() - began < 30_000)
})

it('keys of more characters than are remembered match as others do', () => {
  const matches = globMatcher('**/*x?')
  for (let code = 0x4e00; code < 0x4e00 + 9000; code++) {
    const character = String.fromCharCode(code)
    assert.ok(matches(`a/${character}x${character}`))
    assert.ok(!matches(`a/${character}${character}`))
  }
})
