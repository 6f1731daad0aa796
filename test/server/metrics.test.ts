import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { UnixVolume } from '../../src/volume/unix/unix.ts'
import { breaking, corrupted, failing, makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(300_000)
const small = makeBlock(100)
const tokens = { management: 'the-management-token' }
const headers = { Authorization: `Bearer ${tokens.management}` }

/** A metric family as protobuf's JSON has it. */
interface Family {
  name: string
  type: string
  metric: { label: object[]; summary?: { sampleCount: string; sampleSum: number } }[]
}

/** A block that two places fail for, one in the middle, and one that no place has. */
const volumes = () => [
  makeVolume({
    name: 'one',
    blocks: {
      [hash]: [failing('gone', data, 'gone'), breaking('breaks', data, 100_000)],
      [small.hash]: [makeSource('bad', corrupted(small.data, 5))],
    },
  }),
  makeVolume({ name: 'two', blocks: { [hash]: [makeSource('good', data)] } }),
]

/** Makes some requests, and returns when all of them are counted. */
async function makeRequests(h: Harness): Promise<void> {
  await h.get(`/${hash}+300000`)
  await h.send('HEAD', `/${hash}`)
  await h.get(`/${small.hash}`)
  await h.logLine((line) => line.msg === 'response' && line.respStatusCode === 502)
}

describe('/metrics', () => {
  test('has what Arvados’ dashboards read, and the gateway’s own', async (t) => {
    const h = await Harness.start(t, { volumes: volumes(), tokens })
    await makeRequests(h)
    const answer = await h.get('/metrics', headers)
    assert.match(answer.headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/)
    assert.equal(answer.headers['access-control-allow-origin'], undefined)
    const lines = answer.body.toString().split('\n')
    const keepstore = 'arvados_keepstore_volume'
    for (const line of [
      `${keepstore}_errors{device_id="keepgw:one",error_type="gone"} 1`,
      `${keepstore}_operations{device_id="keepgw:two",operation="get"} 1`,
      `${keepstore}_operations{device_id="keepgw:two",operation="head"} 0`,
      `${keepstore}_io_bytes{device_id="keepgw:two",direction="in"} 200000`,
      'request_duration_seconds_count{code="200",method="get"} 1',
      'request_duration_seconds_count{code="200",method="head"} 1',
      'time_to_status_seconds_count{code="502",method="get"} 1',
      'keepgw_failovers_total{cause="corrupt"} 1',
      'keepgw_hedges_total{outcome="won"} 0',
      'keepgw_blocks_total 1',
      'keepgw_max_concurrent_requests 0',
    ]) {
      assert.ok(lines.includes(line), `${line}\n${answer.body}`)
    }
    assert.ok(lines.includes('# TYPE request_duration_seconds summary'))
    assert.ok(lines.includes(`# TYPE ${keepstore}_operations counter`))
  })

  test('as JSON is a list of families, as protobuf writes them', async (t) => {
    const h = await Harness.start(t, { volumes: volumes(), tokens })
    await makeRequests(h)
    const answer = await h.get('/metrics.json', headers)
    assert.match(answer.headers['content-type'] ?? '', /^application\/json/)
    assert.equal(answer.headers['access-control-allow-origin'], undefined)
    const families = JSON.parse(answer.body.toString()) as Family[]
    const family = (name: string) => families.find((each) => each.name === name)
    const summary = family('request_duration_seconds')!
    assert.equal(summary.type, 'SUMMARY')
    const found = summary.metric.find(({ label }) => JSON.stringify(label).includes('502'))
    assert.equal(found?.summary?.sampleCount, '1')
    assert.ok(found.summary.sampleSum > 0)
    assert.deepEqual(family('keepgw_blocks_total')?.metric, [{ label: [], counter: { value: 1 } }])
    assert.deepEqual(family('arvados_keepstore_volume_io_bytes')?.metric[2], {
      label: [
        { name: 'device_id', value: 'keepgw:two' },
        { name: 'direction', value: 'in' },
      ],
      counter: { value: 200_000 },
    })
  })

  test('counts what is written, and what is thrown away and taken back', async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'keepgw-metrics-'))
    t.after(() => rm(dir, { recursive: true, force: true }))
    const volume = await UnixVolume.open(dir)
    const systemRoot = 'root-token'
    const root = { Authorization: `Bearer ${systemRoot}` }
    const h = await Harness.start(t, { volumes: [volume], tokens: { ...tokens, systemRoot } })
    // The second one finds the block there.
    for (let i = 0; i < 2; i++) await h.send('PUT', `/${small.hash}`, {}, small.data)
    await h.sendRaw(
      `TOUCH /${small.hash} HTTP/1.1\r\nHost: x\r\nAuthorization: ${root.Authorization}\r\n\r\n`,
    )
    await h.send('DELETE', `/${small.hash}`, root)
    await h.send('PUT', `/untrash/${small.hash}`, root)
    await rm(dir, { recursive: true })
    assert.equal((await h.send('PUT', `/${small.hash}`, {}, small.data)).status, 503)
    const lines = (await h.get('/metrics', headers)).body.toString().split('\n')
    const device = `device_id="${volume.deviceId}"`
    for (const line of [
      `operations{${device},operation="put"} 3`,
      `operations{${device},operation="touch"} 1`,
      `operations{${device},operation="trash"} 1`,
      `operations{${device},operation="untrash"} 1`,
      `io_bytes{${device},direction="out"} ${small.data.length}`,
      `errors{${device},error_type="unreachable"} 1`,
    ]) {
      assert.ok(lines.includes(`arvados_keepstore_volume_${line}`), `${line}\n${lines.join('\n')}`)
    }
  })

  test('counts the index as an operation of each volume', async (t) => {
    const h = await Harness.start(t, { volumes: volumes(), tokens })
    await h.get('/index')
    const text = (await h.get('/metrics', headers)).body.toString()
    assert.match(text, /volume_operations\{device_id="keepgw:one",operation="index"\} 1\n/)
  })
})
