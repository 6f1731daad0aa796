/** What is taken of a request's head, whatever stands in it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseTarget, requestId } from '../../src/server/request.ts'

test('a request id is fit for headers and logs, whatever was sent', () => {
  const sent = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[!-~]{0,200}$/))
  fc.assert(
    fc.property(sent, (text) => {
      const id = requestId(text)
      assert.match(id, /^[\x21-\x7e]{1,128}$/)
      if (/^[\x21-\x7e]{1,128}$/.test(text)) assert.equal(id, text)
    }),
  )
})

test('any target has a path and a query, decoded once at most', () => {
  const part = fc.constantFrom(
    '/',
    '%2e',
    '..',
    '%',
    '%ff',
    '%25',
    '?',
    '#',
    'http://h',
    'a',
    '\x9b',
  )
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      const target = parts.join('')
      const { rawPath, path, query } = parseTarget(target)
      assert.ok(!rawPath.includes('?'))
      assert.ok([rawPath, `${rawPath}?${query}`].some((each) => target.endsWith(each)))
      // Decoded once: what was escaped twice still is.
      if (path !== undefined) assert.equal(path, decodeURIComponent(rawPath))
    }),
  )
})
