/** Arvados' own tools as the judges of what keepgw serves. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { environment, keepgwOk, type Served, serve, temporary } from '../e2e/keepgw.ts'
import { type ArvadosApi, startArvadosApi } from '../servers/arvados-api.ts'
import { CLUSTER_SECRET, type Keepstore, startKeepstore } from '../servers/keepstore.ts'
import { makeBucket, NO_S3, sharedS3, type TestBucket } from '../servers/s3.ts'
import { arvadosGo, keepBlockCheck, keepExercise, lacksArvadosGo } from './arvados-go.ts'

const TOKEN = 'v2/zzzzz-gj3su-000000000000001/usersecret'
const DAYS_14 = 1_209_600
/** What keep-exercise reads for, seconds. */
const EXERCISE = process.env.KEEPGW_TEST_LONG === undefined ? 4 : 60
const server = sharedS3()
const lacks = lacksArvadosGo('keepstore', 'keep-block-check', 'keep-exercise')

describe('Arvados’ own tools', { skip: lacks || (server === undefined && NO_S3) }, () => {
  let bucket: TestBucket
  let scratch: Awaited<ReturnType<typeof temporary>>
  let keepstore: Keepstore
  let gateway: Served
  let writable: Served
  let api: ArvadosApi
  /** What the API server lists. */
  const services: string[] = []
  /** Of all that the bucket holds. */
  let locators: string[]

  before(async () => {
    bucket = await makeBucket(server!)
    scratch = await temporary()
    const Root = join(scratch.dir, 'keepstore')
    const own = join(scratch.dir, 'own')
    await mkdir(Root)
    await mkdir(own)
    keepstore = await startKeepstore(arvadosGo('keepstore'), {
      volume: { Driver: 'Directory', DriverParameters: { Root } },
      dir: scratch.dir,
      signing: true,
    })
    for (let i = 0; i < 200; i++) await bucket.put(`small/${i}`, randomBytes(1 + i * 997))
    await bucket.putLarge('large', randomBytes(150 << 20), 16 << 20)
    const env = {
      ...environment(server!, scratch.dir),
      KEEPGW_CONFIG: keepstore.config,
    }
    await keepgwOk(['index', bucket.name], env)
    const mapping = join(scratch.dir, bucket.name)
    gateway = await serve([`s3:${mapping}:${bucket.name}`], env)
    locators = await indexOf(gateway.url)
    writable = await serve([`unix:${own}`], env)
    api = await startArvadosApi({
      tokens: { [TOKEN]: { isAdmin: false }, [CLUSTER_SECRET]: { isAdmin: true } },
      signingKey: CLUSTER_SECRET,
      signingTtl: DAYS_14,
      configuredServices: services,
    })
  })
  after(async () => {
    await api?.[Symbol.asyncDispose]()
    await Promise.all([gateway, writable, keepstore].map((each) => each?.stop()))
    await bucket?.destroy()
    await scratch?.remove()
  })

  /** Returns the locators of all that a service has. */
  async function indexOf(url: string): Promise<string[]> {
    const answer = await fetch(`${url}/index`, {
      headers: { Authorization: `Bearer ${CLUSTER_SECRET}` },
    })
    const text = await answer.text()
    assert.ok(text.endsWith('\n\n'), text)
    return text
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]!)
  }
  function check(locators: string[], { signed = true } = {}) {
    return keepBlockCheck(api, { dir: scratch.dir, token: TOKEN, signed, locators })
  }
  function list(...urls: string[]): void {
    services.splice(0, services.length, ...urls)
  }

  it('keep-block-check finds all that was indexed', async () => {
    list(gateway.url)
    assert.equal(locators.length, 203)
    const { code, output } = await check(locators)
    assert.match(output, /203 attempts, 203 successes, 0 errors/)
    assert.equal(code, 0)
  })

  it('keep-block-check names the one that is missing, and no other', async () => {
    list(gateway.url)
    const unknown = `${createHash('md5').update('never indexed').digest('hex')}+13`
    const gone = Buffer.from('indexed, and then deleted')
    await bucket.put('gone', gone)
    await keepgwOk(['index', bucket.name], environment(server!, scratch.dir))
    await bucket.remove('gone')
    const deleted = `${createHash('md5').update(gone).digest('hex')}+${gone.length}`
    const { code, output } = await check([...locators.slice(0, 20), unknown, deleted])
    await keepgwOk(['index', bucket.name], environment(server!, scratch.dir))
    assert.equal(code, 1)
    assert.match(output, /22 attempts, 20 successes, 2 errors/)
    const named = [...output.matchAll(/Error verifying block ([0-9a-f]{32}\+\d+)/g)]
    assert.deepEqual(
      named.map(([, locator]) => locator),
      [unknown, deleted],
    )
  })

  it('keep-block-check is given nothing without signatures', async () => {
    list(gateway.url)
    const { code, output } = await check(locators.slice(0, 5), { signed: false })
    assert.equal(code, 1)
    assert.match(output, /5 attempts, 0 successes, 5 errors/)
  })

  it('keep-block-check finds blocks wherever they are, in the gateway or in a keepstore', async () => {
    list(keepstore.url, gateway.url)
    const data = randomBytes(100_000)
    const hash = createHash('md5').update(data).digest('hex')
    const headers = { Authorization: `Bearer ${TOKEN}` }
    const put = await fetch(`${keepstore.url}/${hash}`, { method: 'PUT', body: data, headers })
    assert.equal(put.status, 200, await put.text())
    const { code, output } = await check([`${hash}+${data.length}`, ...locators.slice(0, 40)])
    assert.match(output, /41 attempts, 41 successes, 0 errors/)
    assert.equal(code, 0)
  })

  it(`keep-exercise reads what is indexed, for ${EXERCISE} s, without an error`, async (t) => {
    list(gateway.url)
    const args = ['-use-index', '-wthreads', '0', '-rthreads', '4', '-run-time', `${EXERCISE}s`]
    const end = Date.now() + EXERCISE * 1000
    let rounds = 0
    // It ends when it has read each block once.
    for (; Date.now() < end; rounds++) {
      const { code, output } = await exercise(args)
      const hasReadAll = output.includes('ran out of locators to read!')
      assert.ok(code === 0 || hasReadAll, output)
      assertNoError(output)
    }
    t.diagnostic(`${rounds} rounds`)
  })

  it('keep-exercise writes to a directory, and reads what it has written', async () => {
    list(writable.url)
    const size = 3_000_000
    const writing = ['-wthreads', '2', '-vary-request', '-block-size', String(size)]
    const { code, output } = await exercise([...writing, '-rthreads', '2', '-run-time', '3s'])
    assert.equal(code, 0, output)
    assertNoError(output)
    const written = await indexOf(writable.url)
    assert.ok(written.length > 1)
    assert.ok(written.every((locator) => locator.endsWith(`+${size}`)))
  })

  function exercise(args: string[]) {
    return keepExercise(api, { config: keepstore.config, token: TOKEN, args })
  }
})

/** What keep-exercise says where nothing has failed; it prints a line for whatever has. */
const EXPECTED =
  /^(Start warmup|Warmup complete|Found \d+ locators|\*+ experiment \d+ complete|Summary:|Error: ran out of locators|$)/

function assertNoError(output: string): void {
  for (const [, said = ''] of output.matchAll(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d (.*)$/gm)) {
    assert.match(said, EXPECTED, output)
  }
  // Its table counts failures in the ninth column.
  for (const [row] of output.matchAll(/^\d{4}\/\d\d\/\d\d [\d:]+,.*$/gm)) {
    assert.equal(row.split(',')[8], '0', output)
  }
}
