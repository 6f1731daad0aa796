import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { metricsFamilies, metricsText } from '../../src/server/metrics.ts'
import { mergeSnapshots, retire } from '../../src/server/snapshot.ts'
import { makeBlock, makeSource, makeVolume } from '../volume/fakes.ts'
import { Harness } from './harness.ts'

const { data, hash } = makeBlock(1000)
const volumes = [makeVolume({ blocks: { [hash]: [makeSource('a', data)] } })]

/** Two servers, of which one has sent two blocks, the other one block and a 404. */
async function snapshots(t: Parameters<typeof Harness.start>[0]) {
  const all = [await Harness.start(t, { volumes }), await Harness.start(t, { volumes })]
  const [first, second] = all
  await first!.get(`/${hash}`)
  await first!.get(`/${hash}`)
  await second!.get(`/${hash}`)
  await second!.get(`/${'0'.repeat(32)}`)
  for (const h of all) {
    const isOver = () => h.logLines.filter(({ msg }) => msg === 'response').length === 2
    await h.logLine(isOver)
  }
  return Promise.all(all.map(({ server }) => server.snapshot()))
}

describe('snapshots of several servers', () => {
  test('add up, by their labels', async (t) => {
    const sum = mergeSnapshots(await snapshots(t))
    const { blocks, requests } = sum.counts
    assert.deepEqual(
      [blocks, requests],
      [3, { total: 4, running: 0, byStatus: { 200: 3, 404: 1 } }],
    )
    const lines = (await metricsText(sum.metrics)).split('\n')
    for (const line of [
      'keepgw_blocks_total 3',
      'keepgw_errors_total{kind="not-found"} 1',
      'request_duration_seconds_count{code="200",method="get"} 3',
      'request_duration_seconds_count{code="404",method="get"} 1',
      'arvados_keepstore_volume_io_bytes{device_id="keepgw:fake",direction="in"} 3000',
    ]) {
      assert.ok(lines.includes(line), line)
    }
    const families = metricsFamilies(sum.metrics) as { name: string; metric: unknown }[]
    const found = families.find(({ name }) => name === 'keepgw_blocks_total')
    assert.deepEqual(found?.metric, [{ label: [], counter: { value: 3 } }])
  })

  test('outlive processes and can go from one to another', async (t) => {
    const all = structuredClone(await snapshots(t))
    const [first, second] = all
    const sum = mergeSnapshots([retire(first!), second!])
    assert.equal(sum.counts.blocks, 3)
    const text = await metricsText(sum.metrics)
    assert.match(text, /^keepgw_blocks_total 3$/m)
    // What one process does now, or may do, is of those that are there.
    const gauges = (metrics: typeof sum.metrics) => metrics.filter(({ type }) => type === 'gauge')
    assert.deepEqual(gauges(sum.metrics), gauges(second!.metrics))
    assert.equal(sum.uptimeSeconds, second!.uptimeSeconds)
  })
})
