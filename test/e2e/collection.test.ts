import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type ArvadosApi, startArvadosApi } from '../servers/arvados-api.ts'
import { keepgw, keepgwOk, start, summaryOf, temporary } from './keepgw.ts'

const ADMIN = 'v2/zzzzz-gj3su-000000000000001/adminsecret'
const USER = 'v2/zzzzz-gj3su-000000000000002/usersecret'
const KEY = 'blobsigningsecret'
const PROJECT = 'zzzzz-j7d0g-0123456789abcde'

describe('keepgw collection create', () => {
  let api: ArvadosApi
  let lab: Awaited<ReturnType<typeof temporary>>
  let root: string
  let env: NodeJS.ProcessEnv
  before(async () => {
    api = await startArvadosApi({
      tokens: { [ADMIN]: { isAdmin: true }, [USER]: { isAdmin: false } },
      signingKey: KEY,
      signingTtl: 3600,
      maxRequest: 64 * 1024,
      proxyTakes: 4096,
    })
    lab = await temporary()
    root = join(lab.dir, 'lab')
    await mkdir(join(root, 'runs/deep é'), { recursive: true })
    await mkdir(join(root, 'many'))
    await mkdir(join(root, 'lost'))
    for (const name of ['runs/a b', 'runs/deep é/c:d', 'runs/empty', 'lost/odd\u00a0name']) {
      await writeFile(join(root, name), name.endsWith('empty') ? '' : `content of ${name}`)
    }
    for (let i = 0; i < 120; i++) await writeFile(join(root, `many/${i}`), `many ${i}`)
    const long = 'x'.repeat(200)
    await mkdir(join(root, 'long'))
    for (let i = 0; i < 250; i++) await writeFile(join(root, `long/${i}${long}`), `long ${i}`)
    env = {
      PATH: process.env.PATH,
      HOME: lab.dir,
      ARVADOS_API_HOST: api.host,
      ARVADOS_API_TOKEN: ADMIN,
      NODE_EXTRA_CA_CERTS: api.certificate,
    }
    await keepgwOk(['index', root, '--quiet'], env)
  })
  after(async () => {
    await api?.[Symbol.asyncDispose]()
    await lab?.remove()
  })

  /** Runs it; neither secret may show. */
  async function create(part: string, flags: string[], more: NodeJS.ProcessEnv = {}) {
    const args = ['collection', 'create', join(root, part), ...flags]
    const outcome = await keepgw(args, { ...env, ...more })
    for (const secret of ['adminsecret', 'usersecret', KEY]) {
      assert.ok(!(outcome.stdout + outcome.stderr).includes(secret))
    }
    return outcome
  }

  it('saves the manifest, and prints UUID and portable data hash', async () => {
    const flags = ['--name=Runs', `--owner-uuid=${PROJECT}`, '--replication=2']
    const { code, stdout, stderr } = await create('runs', [...flags, '--strip-prefix=runs/'])
    assert.equal(code, 0, stderr)
    const saved = api.collections.at(-1)!
    const shown = await keepgwOk(['manifest', join(root, 'runs'), '--strip-prefix=runs/'], env)
    assert.equal(saved.manifest_text, shown.stdout)
    const { uuid, portable_data_hash: hash, name, owner_uuid: owner } = saved
    assert.equal(stdout, `${uuid} ${hash}\n`)
    assert.deepEqual([name, owner, saved.replication_desired], ['Runs', PROJECT, 2])
    assert.deepEqual(saved.storage_classes_desired, ['keepgw'])
    // More than the gateway has would have keep-balance copy the bucket into Keep.
    assert.equal((await create('runs', ['--name=Once'])).code, 0)
    assert.equal(api.collections.at(-1)!.replication_desired, 1)
    assert.equal((await create('runs', [])).code, 0)
    const path = join(root, 'runs').slice(1)
    assert.equal(api.collections.at(-1)!.name, path.replaceAll('/', ' - '))
    const again = await create('runs', flags)
    assert.equal(again.code, 1)
    assert.match(again.stderr, /422: .*duplicate key.*--name/)
  })

  it('signs for a user, whom the server refuses otherwise', async () => {
    const refused = await create('runs', [], { ARVADOS_API_TOKEN: USER })
    assert.deepEqual([refused.code, refused.stdout], [1, ''])
    assert.match(refused.stderr, /403: .*Permission denied.*--sign/)
    const signing = { KEEPGW_BLOB_SIGNING_KEY: KEY, KEEPGW_BLOB_SIGNING_TTL: '1h' }
    const flags = ['--sign', '--hint=zzzzz-bi6l4-0123456789abcde', '--json']
    const signed = await create('runs', flags, { ARVADOS_API_TOKEN: USER, ...signing })
    assert.equal(signed.code, 0, signed.stderr)
    const [collection] = signed.stdout.split('\n').map((line) => line && JSON.parse(line))
    const { uuid, portable_data_hash: portableDataHash, name } = api.collections.at(-1)!
    assert.deepEqual(collection, { type: 'collection', uuid, portableDataHash, name })
    assert.equal(summaryOf(signed).files, 3)
    assert.match(api.collections.at(-1)!.manifest_text, /\+K@zzzzz-bi6l4-0123456789abcde\+A\w{40}@/)
  })

  it('names what it leaves out, and ends with 3', async () => {
    await mkdir(join(root, 'odd'))
    await writeFile(join(root, 'odd/\u2028'), 'x')
    await writeFile(join(root, 'odd/even'), 'x')
    await keepgwOk(['index', root, '--quiet'], env)
    const { code, stderr } = await create('odd', [])
    assert.equal(code, 3)
    assert.match(stderr, /left out: odd\/%E2%80%A8: its name has the space U\+2028/)
    assert.match(api.collections.at(-1)!.manifest_text, /^\.\/odd \S+ 0:1:even\n$/)
  })

  it('says that it may be saved all the same, where it is interrupted too late', async () => {
    const saved = Promise.withResolvers<void>()
    await using silent = await startArvadosApi({
      tokens: { [ADMIN]: { isAdmin: true } },
      signingKey: KEY,
      signingTtl: 3600,
      onSilentSave: saved.resolve,
    })
    const more = { ARVADOS_API_HOST: silent.host, NODE_EXTRA_CA_CERTS: silent.certificate }
    const child = start(['collection', 'create', join(root, 'runs')], { ...env, ...more })
    await saved.promise
    child.kill('SIGINT')
    await once(child, 'close')
    assert.equal(child.exitCode, 130)
    assert.match(child.output.stderr, /interrupted .*may have been saved all the same/)
  })

  it('takes its settings from ~/.config, too, and the environment first', async () => {
    await mkdir(join(lab.dir, '.config/arvados'), { recursive: true })
    const lines = ['# by hand', `ARVADOS_API_HOST=${api.host}`, `ARVADOS_API_TOKEN=${ADMIN}`]
    const insecure = 'ARVADOS_API_HOST_INSECURE=yes'
    await writeFile(
      join(lab.dir, '.config/arvados/settings.conf'),
      [...lines, insecure, ''].join('\n'),
    )
    const { PATH, HOME } = env
    const args = ['collection', 'create', join(root, 'runs')]
    await keepgwOk(args, { PATH, HOME })
    const other = await keepgw(args, { PATH, HOME, ARVADOS_API_TOKEN: 'unknown' })
    assert.equal(other.code, 1)
    assert.match(other.stderr, /401: .*Not logged in.*ARVADOS_API_TOKEN/)
    const strict = await keepgw(args, { PATH, HOME, ARVADOS_API_HOST_INSECURE: '' })
    assert.equal(strict.code, 1)
    assert.match(strict.stderr, /cannot be reached: .*certificate.*ARVADOS_API_HOST_INSECURE/)
  })

  for (const [what, part, flags, more, code, says] of [
    ['a manifest that a proxy finds too large', 'many', [], {}, 1, /too large .*BUCKET\/PREFIX/],
    [
      'a manifest that is larger than the cluster takes',
      'long',
      [],
      {},
      1,
      /too large .*MaxRequestSize/,
    ],
    ['a name with a slash', 'runs', ['--name=a/b'], {}, 1, /422: .*Name cannot contain.*--name/],
    [
      'a slash that --strip-prefix lacks',
      'runs',
      ['--strip-prefix=runs'],
      {},
      2,
      /begin with a slash.*--strip-prefix 'runs\/'/,
    ],
    ['a part of which nothing is left', 'lost', [], {}, 1, /left out: lost.*nothing is left/s],
    [
      'a key that is not the cluster’s',
      'runs',
      ['--sign'],
      { ARVADOS_API_TOKEN: USER, KEEPGW_BLOB_SIGNING_KEY: 'other', KEEPGW_BLOB_SIGNING_TTL: '1h' },
      1,
      /403: .*Permission denied.*signing key, or its TTL/,
    ],
    [
      'a host none of whose addresses answers',
      'runs',
      [],
      { ARVADOS_API_HOST: 'localhost:1' },
      1,
      /ECONNREFUSED.*Check ARVADOS_API_HOST/,
    ],
    [
      'a host that does not answer',
      'runs',
      [],
      { ARVADOS_API_HOST: '127.0.0.1:1' },
      1,
      /ECONNREFUSED.*Check ARVADOS_API_HOST/,
    ],
    ['a host that is not named', 'runs', [], { ARVADOS_API_HOST: '' }, 2, /ARVADOS_API_HOST/],
    ['a host that is a URL', 'runs', [], { ARVADOS_API_HOST: 'https://a' }, 2, /without https:/],
    ['an owner that is none', 'runs', ['--owner-uuid=me'], {}, 2, /no UUID of a project/],
    ['a key that is missing', 'runs', ['--sign'], {}, 2, /KEEPGW_BLOB_SIGNING_KEY/],
  ] as const) {
    it(`says what is wrong with ${what}, and saves nothing`, async () => {
      const before = api.collections.length
      const outcome = await create(part, [...flags], more)
      assert.deepEqual([outcome.code, outcome.stdout], [code, ''])
      assert.match(outcome.stderr, says)
      assert.equal(api.collections.length, before)
    })
  }
})
