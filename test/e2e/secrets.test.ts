/** Tokens and keys, through every way in and past every error, at every level of the log. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, it } from 'node:test'
import { signLocator } from '../../src/keep/signature.ts'
import { writeDescription } from '../../src/mapping/description.ts'
import { assertKeepsSecrets, secret } from '../secrets.ts'
import { freePort } from '../servers/supervised.ts'
import { contents, keepgw, md5, start, temporary } from './keepgw.ts'

const ROOT = secret('root-token+/=for&the;tests')
const MANAGEMENT = secret('management-token-for-the-tests')
const SIGNING = secret('signing-key-for-the-tests')
const USER = secret('v2/zzzzz-gj3su-000000000000001/userstokenforthetests')
const OLD = secret('oldstyletokenwithoutauuid0123456789')
const AWS = { key: secret('aws/secret+key/for/the/tests'), session: secret('session/token==tests') }

const block = contents(1000, 'a block')
const hash = md5(block)
const EMPTY = 'd41d8cd98f00b204e9800998ecf8427e'

/** Ways in which a request carries a token. */
const WAYS: [name: string, carry: (token: string) => Partial<Asked>][] = [
  ['Bearer', (token) => ({ headers: { Authorization: `Bearer ${token}` } })],
  ['OAuth2', (token) => ({ headers: { Authorization: `OAuth2 ${token}` } })],
  ['Basic', (token) => ({ headers: { Authorization: `Basic ${btoa(`user:${token}`)}` } })],
  ['query', (token) => ({ query: `?prefix=&api_token=${encodeURIComponent(token)}&x` })],
  ['query of another style', (token) => ({ query: `?a;API%5Ftoken=${encodeURIComponent(token)}` })],
  [
    'cookie',
    (token) => ({
      headers: { Cookie: `arvados_api_token=${Buffer.from(token).toString('base64url')}` },
    }),
  ],
  ['form', (token) => ({ body: `_method=GET&api_token=${encodeURIComponent(token)}` })],
]

interface Asked {
  method: string
  path: string
  query: string
  headers: Record<string, string>
  body: string
}

/** Sends a request, and returns all that is answered; '' where the connection is closed instead. */
async function ask(
  url: string,
  { method = 'GET', path = '/', query = '', headers, body }: Partial<Asked>,
): Promise<string> {
  try {
    const sent = request(url, { method, path: path + query, headers: headers ?? {}, agent: false })
    sent.end(body)
    const [answer] = await once(sent, 'response')
    return `${answer.statusCode} ${JSON.stringify(answer.rawHeaders)} ${await text(answer)}`
  } catch {
    return ''
  }
}

/** Sends text that is no request, and returns what is answered. */
async function askRaw(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  socket.end(bytes)
  return await text(socket).catch(() => '')
}

describe('secrets', { timeout: 60_000 }, () => {
  let scratch: Awaited<ReturnType<typeof temporary>>
  let env: NodeJS.ProcessEnv
  let volumes: string[]
  /** A store, a keep service and an API server that give the request back as their error. */
  const echo = createServer((req, res) => {
    const said = JSON.stringify([req.method, req.url])
    res.writeHead(403, { 'Content-Type': 'application/xml' })
    res.end(`<Error><Code>AccessDenied</Code><Message>\x1b[2J${said}</Message></Error>`)
  })

  before(async () => {
    scratch = await temporary()
    echo.listen(0, '127.0.0.1')
    await once(echo, 'listening')
    const endpoint = `http://127.0.0.1:${(echo.address() as AddressInfo).port}`
    const mapping = join(scratch.dir, 'mapping')
    const keep = join(scratch.dir, 'keep')
    await mkdir(keep)
    const remote = { kind: 's3', bucket: 'bucket', endpoint, region: 'us-east-1' } as const
    await writeDescription(mapping, { version: 1, remote, ifMatch: true })
    await mkdir(join(mapping, hash.slice(0, 3)))
    await writeFile(
      join(mapping, hash.slice(0, 3), hash),
      `0:1000:a\x1b[2J\x9b key\n`.replace('\x1b', '%1B'),
    )
    volumes = [
      `s3:${mapping}:bucket`,
      `unix:${keep}`,
      `keep:${endpoint}`,
      'keep:http://127.0.0.1:9',
    ]
    env = {
      PATH: process.env.PATH,
      HOME: scratch.dir,
      AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
      AWS_SECRET_ACCESS_KEY: AWS.key,
      AWS_SESSION_TOKEN: AWS.session,
      AWS_ENDPOINT_URL: endpoint,
      AWS_EC2_METADATA_DISABLED: 'true',
      KEEPGW_MAPPINGS: scratch.dir,
      KEEPGW_SYSTEM_ROOT_TOKEN: ROOT,
      KEEPGW_MANAGEMENT_TOKEN: MANAGEMENT,
      KEEPGW_BLOB_SIGNING_KEY: SIGNING,
    }
  })
  after(async () => {
    echo.close()
    await scratch?.remove()
  })

  /** Asks for everything, with every token, in every way; returns all answers. */
  async function askAll(url: string): Promise<string[]> {
    const signing = { key: SIGNING, ttl: 1_209_600 }
    const signed = signLocator(`${hash}+1000`, USER, Date.now() / 1000 + 60, signing)
    const expired = signLocator(`${hash}+1000`, USER, 1, signing)
    const paths = [
      '/index',
      '/mounts',
      '/status.json',
      '/metrics',
      '/metrics.json',
      '/_health/ping',
    ]
    const asked: Partial<Asked>[] = [
      ...[...paths, `/${signed}`, `/${expired}`, `/${hash}`, `/${EMPTY}+0`, '/no/such'].map(
        (path) => ({ path }),
      ),
      { method: 'HEAD', path: `/${signed}` },
      { method: 'PUT', path: `/${hash}` },
      { method: 'PUT', path: '/trash' },
      { method: 'PUT', path: '/pull' },
      { method: 'DELETE', path: `/${hash}` },
      { method: 'TOUCH', path: `/${hash}` },
      { method: 'POST', path: '/login' },
    ]
    const answers: string[] = []
    for (const token of [ROOT, MANAGEMENT, USER, OLD, SIGNING]) {
      const of = WAYS.map(([, carry]) => carry(token))
      const all = of.flatMap((carried) => asked.map((one) => ({ ...one, ...carried })))
      answers.push(...(await Promise.all(all.map((one) => ask(url, one)))))
      const head = `Authorization: Bearer ${token}\r\nX-Request-Id: ${token}\x1b[2J`
      for (const raw of [
        `GET /?api_token=${token} HTTP/1.1\r\n${head}\r\nContent-Length: x\r\n\r\n`,
        `GIVE /?api_token=${encodeURIComponent(token)} HTTP/1.1\r\n${head}\r\n\r\n`,
        `GET /${hash}\x9b\x1b HTTP/1.1\r\n${head}\r\n\r\n`,
        `${head}\r\n\r\n`,
      ]) {
        answers.push(await askRaw(url, raw))
      }
    }
    return answers
  }

  for (const [level, format] of [
    ['debug', 'json'],
    ['info', 'text'],
    ['warn', 'json'],
    ['error', 'text'],
  ]) {
    it(`of requests and of the service are in no answer and no log: ${level}, ${format}`, async (t) => {
      const port = await freePort()
      const url = `http://127.0.0.1:${port}`
      const named = volumes.map((volume) => `--volume=${volume}`)
      const flags = [`--listen=127.0.0.1:${port}`, `--log-level=${level}`, `--log-format=${format}`]
      const child = start(['serve', ...flags, ...named], { ...env, DEBUG: '*' })
      t.after(() => child.kill('SIGKILL'))
      // Its first line is not logged at every level.
      while ((await ask(url, {})) === '') assert.equal(child.exitCode, null, child.output.stderr)
      const answers = await askAll(url)
      child.kill('SIGTERM')
      await once(child, 'close')
      assert.equal(child.exitCode, 0)
      const good = answers.filter((answer) => answer.startsWith('200'))
      assert.ok(good.length >= 20, `${good.length} of ${answers.length} requests were taken`)
      for (const answer of answers) assertKeepsSecrets(answer, [], 'an answer')
    })
  }

  it('are neither shown nor kept where an endpoint has one, by a flag or a variable', async () => {
    const endpoint = `http://user:${secret('the-password-of-an-endpoint')}@127.0.0.1:9`
    for (const [at, dir] of [join(scratch.dir, 'mapping'), join(scratch.dir, 'fresh')].entries()) {
      const args = ['index', 'bucket', '--mappings', dir]
      for (const outcome of [
        await keepgw([...args, '--endpoint-url', endpoint], env),
        await keepgw(args, { ...env, AWS_ENDPOINT_URL: endpoint }),
      ]) {
        assert.equal(outcome.code, 2)
        assert.match(outcome.stderr, /the URL given is no endpoint.*without credentials/)
      }
      assert.equal(existsSync(dir), at === 0)
    }
  })

  const commands: [name: string, args: string[], more?: NodeJS.ProcessEnv][] = [
    ['an index that is refused', ['index', 'bucket']],
    ['a verify that is refused', ['verify', '--mappings', 'MAPPING', '--all']],
    ['a check of what is served', ['serve', '--check', '--volume=s3:MAPPING:bucket']],
    [
      'a service that does not start',
      ['serve', '--listen=192.0.2.1:1', '--volume=s3:MAPPING:bucket'],
    ],
    ['a manifest that cannot be signed', ['manifest', 'bucket', '--mappings', 'MAPPING', '--sign']],
    [
      'a collection that is not saved',
      ['collection', 'create', 'bucket', '--mappings', 'MAPPING', '--sign'],
    ],
    ['a record that is not made', ['service', 'register', 'http://h:1', '--database-record']],
    ['a flag that is none', ['index', 'bucket', '--frobnicate']],
  ]
  for (const [name, args] of commands) {
    for (const debug of ['', '*']) {
      it(`are not shown by ${name}${debug && ', with DEBUG'}`, async () => {
        const mapping = join(scratch.dir, 'mapping')
        const more = { ARVADOS_API_TOKEN: USER, ARVADOS_API_HOST: '127.0.0.1:9' }
        const filled = args.map((each) => each.replace('MAPPING', mapping))
        const outcome = await keepgw(filled, { ...env, ...more, ...(debug && { DEBUG: debug }) })
        assert.notEqual(outcome.code, 0)
        assert.match(outcome.stderr + outcome.stdout, /keepgw: |unreachable/)
      })
    }
  }
})
