import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { ClusterConfig } from '../../src/cluster/cluster-config.ts'
import { requireSigningKey, signingKeyOf } from '../../src/cluster/signing.ts'
import { UsageError } from '../../src/errors.ts'

const KEY = { KEEPGW_BLOB_SIGNING_KEY: 'of-a-variable' }

function cluster(settings: Partial<ClusterConfig>): ClusterConfig {
  return {
    file: '/etc/config.yml',
    clusterId: 'xyzzy',
    blobSigning: true,
    blobSigningTtl: 3600,
    blobTrash: true,
    services: [],
    volumes: [],
    otherVolumes: 0,
    containersHaveKeepstore: false,
    ...settings,
  }
}

describe('the key that a cluster signs with', () => {
  const configured = cluster({ blobSigningKey: 'configured' })
  const off = cluster({ blobSigning: false, blobSigningKey: 'configured' })
  const cases: [
    string,
    ClusterConfig | undefined,
    NodeJS.ProcessEnv,
    string | undefined,
    { key: string; ttl: number } | undefined,
  ][] = [
    ['is the configuration’s', configured, {}, undefined, { key: 'configured', ttl: 3600 }],
    ['is the variable’s first', configured, KEY, '2h', { key: 'of-a-variable', ttl: 7200 }],
    [
      'may be the variable’s alone',
      undefined,
      KEY,
      undefined,
      { key: 'of-a-variable', ttl: 1_209_600 },
    ],
    ['has a TTL of whole seconds', configured, {}, '1h30m0.9s', { key: 'configured', ttl: 5400 }],
    [
      'is not for what is not set',
      configured,
      { KEEPGW_BLOB_SIGNING_KEY: '' },
      '',
      { key: 'configured', ttl: 3600 },
    ],
    ['is none with BlobSigning off', off, KEY, undefined, undefined],
    ['is none where nobody says', undefined, {}, undefined, undefined],
  ]
  for (const [name, config, env, ttl, expected] of cases) {
    test(name, () => {
      assert.deepEqual(signingKeyOf(config, env, ttl), expected)
      if (expected !== undefined) assert.deepEqual(requireSigningKey(config, env, ttl), expected)
      else assert.throws(() => requireSigningKey(config, env, ttl), UsageError)
    })
  }

  test('must be there where there is a configuration', () => {
    assert.throws(() => signingKeyOf(cluster({}), {}, undefined), /BlobSigningKey is missing/)
  })

  for (const ttl of ['14d', '336', '-1h', '0', '999ms', 'forever']) {
    test(`has no TTL of ${ttl}`, () => {
      assert.throws(() => signingKeyOf(undefined, KEY, ttl), /no duration of a second or more/)
    })
  }
})
