import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import { registerEntry, rendezvousOf, serviceUuid } from '../../src/cluster/register.ts'

const url = new URL('http://keepgw.example.org:25107')

test('a URL has one Rendezvous, of the length that +K@ needs', () => {
  assert.match(rendezvousOf(url), /^[a-z0-9]{15}$/)
  assert.equal(rendezvousOf(url), rendezvousOf(new URL('http://keepgw.example.org:25107/')))
  assert.notEqual(rendezvousOf(url), rendezvousOf(new URL('https://keepgw.example.org:25107')))
})

test('the UUID has 27 characters; other lengths are none that clients would take', () => {
  assert.equal(serviceUuid('zzzzz', '0123456789abcde'), 'zzzzz-bi6l4-0123456789abcde')
  for (const bad of [undefined, '', '0123456789abcdef', '0123456789ABCDE']) {
    assert.equal(serviceUuid('zzzzz', bad), undefined)
  }
})

test('the entry is YAML for the cluster’s configuration', () => {
  const { Clusters } = parse(registerEntry('zzzzz', url), { version: '1.1' })
  assert.deepEqual(Clusters.zzzzz.Services.Keepstore.InternalURLs, {
    'http://keepgw.example.org:25107/': { Rendezvous: rendezvousOf(url) },
  })
})
