/** Making a gateway known to a cluster: by its configuration, or by a record at the API server. */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { rendezvousOf } from '../../src/cluster/register.ts'
import { type ServiceRecord, type StandInOptions, startArvadosApi } from '../servers/arvados-api.ts'
import { keepgw } from './keepgw.ts'

const ADMIN = 'v2/xyzzy-gj3su-000000000000001/adminsecret'
const USER = 'v2/xyzzy-gj3su-000000000000002/usersecret'
const URL_TEXT = 'http://keepgw.example.org:25107'
const UUID = `xyzzy-bi6l4-${rendezvousOf(new URL(URL_TEXT))}`

function record(uuid: string, more: object = {}): ServiceRecord {
  const system = 'xyzzy-tpzed-000000000000000'
  return {
    uuid,
    service_host: 'keep0.example.org',
    service_port: 25_107,
    service_ssl_flag: false,
    service_type: 'disk',
    read_only: false,
    owner_uuid: system,
    modified_by_user_uuid: 'xyzzy-tpzed-0123456789abcde',
    created_at: '2026-01-01T00:00:00.000000000Z',
    modified_at: '2026-01-01T00:00:00.000000000Z',
    ...more,
  }
}

async function startApi(t: TestContext, options: Partial<StandInOptions> = {}) {
  const tokens = { [ADMIN]: { isAdmin: true }, [USER]: { isAdmin: false } }
  const signing = { signingKey: 'unused', signingTtl: 1 }
  const api = await startArvadosApi({ tokens, ...signing, clusterId: 'xyzzy', ...options })
  t.after(() => api[Symbol.asyncDispose]())
  /** Runs the command; no secret may show. */
  const register = async (flags: string[] = [], more: NodeJS.ProcessEnv = {}, url = URL_TEXT) => {
    const outcome = await keepgw(['service', 'register', url, ...flags], {
      PATH: process.env.PATH,
      HOME: '/nonexistent',
      ARVADOS_API_HOST: api.host,
      ARVADOS_API_TOKEN: ADMIN,
      NODE_EXTRA_CA_CERTS: api.certificate,
      ...more,
    })
    assert.doesNotMatch(outcome.stdout + outcome.stderr, /adminsecret|usersecret/)
    return outcome
  }
  return { api, register }
}

describe('keepgw service register', () => {
  it('prints the entry for the configuration, and asks nobody', async (t) => {
    const { api, register } = await startApi(t)
    const { code, stdout } = await register(['--cluster-id=xyzzy'], { ARVADOS_API_HOST: '' })
    assert.equal(code, 0)
    assert.match(
      stdout,
      new RegExp(`Rendezvous: "${UUID.slice(-15)}"\n# For \\+K@ hints: ${UUID}\n`),
    )
    assert.deepEqual(api.services, [])
    const without = await register()
    assert.equal(without.code, 2)
    assert.match(without.stderr, /--cluster-id is missing/)
  })
})

describe('keepgw service register --database-record', () => {
  it('makes a record beside others, with the UUID that the URL always has', async (t) => {
    const { api, register } = await startApi(t)
    api.services.push(record('xyzzy-bi6l4-000000000000000'))
    const made = await register(['--database-record'])
    assert.deepEqual([made.code, made.stdout, made.stderr], [0, `${UUID}\n`, ''])
    const { uuid, service_host, service_port, service_ssl_flag, service_type, read_only } =
      api.services[1]!
    assert.deepEqual(
      { uuid, service_host, service_port, service_ssl_flag, service_type, read_only },
      {
        uuid: UUID,
        service_host: 'keepgw.example.org',
        service_port: 25_107,
        service_ssl_flag: false,
        service_type: 'gateway:keepgw',
        read_only: true,
      },
    )
    const again = await register(['--database-record'])
    assert.deepEqual([again.code, again.stdout], [0, `${UUID}\n`])
    assert.match(again.stderr, /listed already/)
    assert.equal(api.services.length, 2)
  })

  it('names an IPv6 address as clients put it into a URL', async (t) => {
    const url = 'http://[2001:db8::5]:25107'
    const { api, register } = await startApi(t, { configuredServices: ['http://[::1]:25107'] })
    api.services.push(record('xyzzy-bi6l4-000000000000000'))
    assert.equal((await register(['--database-record'], {}, url)).code, 0)
    assert.equal(api.services[1]!.service_host, '[2001:db8::5]')
    const again = await register(['--database-record'], {}, url)
    assert.match(again.stderr, /listed already/)
    api.services.splice(0, 9)
    const configured = await register(['--database-record'], {}, 'http://[::1]:25107')
    assert.match(configured.stderr, /listed already/)
  })

  it('makes the first one where the cluster has no service at all', async (t) => {
    const { api, register } = await startApi(t)
    assert.equal((await register(['--database-record', '--cluster-id=xyzzy'])).code, 0)
    assert.equal(api.services.length, 1)
  })

  it('refuses where it would hide what the configuration names', async (t) => {
    const configuredServices = ['http://keep0.example.org:25107', 'http://keep1.example.org:25107']
    const { api, register } = await startApi(t, { configuredServices })
    const { code, stdout, stderr } = await register(['--database-record'])
    assert.deepEqual([code, stdout], [1, ''])
    assert.match(
      stderr,
      /would hide .*http:\/\/keep0\.example\.org:25107 .*without --database-record/,
    )
    assert.deepEqual(api.services, [])
  })

  it('says so of a gateway that the configuration names', async (t) => {
    const { api, register } = await startApi(t, { configuredServices: [URL_TEXT] })
    const { code, stderr } = await register(['--database-record'])
    assert.equal(code, 0)
    assert.match(stderr, /listed already/)
    assert.deepEqual(api.services, [])
  })

  it('takes any mark for a record that no configuration can make', async (t) => {
    const { api, register } = await startApi(t)
    const plain = { modified_by_user_uuid: 'xyzzy-tpzed-000000000000000' }
    const uuid = 'xyzzy-bi6l4-000000000000000'
    // One that the system user has made looks like the configuration's: better refused.
    api.services.splice(0, 9, record(uuid, plain))
    assert.equal((await register(['--database-record'])).code, 1)
    for (const mark of [
      { service_type: 'blob' },
      { read_only: true },
      { owner_uuid: 'xyzzy-tpzed-0123456789abcde' },
      { modified_at: '2026-01-02T00:00:00.000000000Z' },
    ]) {
      api.services.splice(0, 9, record(uuid, { ...plain, ...mark }))
      assert.equal((await register(['--database-record'])).code, 0, JSON.stringify(mark))
    }
  })

  for (const [what, flags, env, code, says] of [
    ['a token that may not', [], { ARVADOS_API_TOKEN: USER }, 1, /403: .*Only administrators/],
    ['an unknown token', [], { ARVADOS_API_TOKEN: 'x' }, 1, /401: .*ARVADOS_API_TOKEN/],
    ['another cluster', ['--cluster-id=zzzzz'], {}, 2, /API server of xyzzy, not of zzzzz/],
    ['no API server', [], { ARVADOS_API_HOST: '127.0.0.1:1' }, 1, /ECONNREFUSED/],
    ['a host that is not named', [], { ARVADOS_API_HOST: '' }, 2, /ARVADOS_API_HOST/],
  ] as const) {
    it(`says what is wrong with ${what}, and makes nothing`, async (t) => {
      const { api, register } = await startApi(t)
      const outcome = await register(['--database-record', ...flags], env)
      assert.deepEqual([outcome.code, outcome.stdout], [code, ''])
      assert.match(outcome.stderr, says)
      assert.deepEqual(api.services, [])
    })
  }
})
