import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Catalog } from '../../src/mapping/catalog.ts'
import { CatalogDamaged } from '../../src/mapping/catalog-disk.ts'
import { checkPages } from '../../src/mapping/catalog-pages.ts'
import { makeMapping, smallRecord } from './fixture.ts'

const FLIP = fileURLToPath(new URL('flip-catalog.ts', import.meta.url))

describe('the pages of a catalog', () => {
  it('are right after any number of changes of any size', async () => {
    await using mapping = await makeMapping()
    const { catalog, recorder, dir } = mapping
    for (let round = 0; round < 12; round++) {
      const changes = Array.from({ length: 300 }, (_, i) => ({
        key: `${'k'.repeat((7 * i) % 900)}${(i * (round + 1)) % 500}`,
        before: null,
        after: (i + round) % 3 === 0 ? null : smallRecord(1 + (i % 200)),
      }))
      await recorder.record(changes)
      for (let i = 0; i < 50 * round; i++) await catalog.unseen.add(`${i}`)
      for (const _key of catalog.unseen.keys()) break
      if (round % 2 === 0) catalog.unseen.clear()
      checkPages(join(dir, '.keepgw/catalog/data.mdb'))
    }
  })

  it('are refused where a bit is flipped that lmdb would stumble over, and no bit ends a process', () => {
    const seed = Number(process.env.KEEPGW_TEST_SEED ?? randomInt(1_000_000_000))
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [FLIP, `${seed}`, '60'],
      {
        encoding: 'utf8',
      },
    )
    const told = `KEEPGW_TEST_SEED=${seed}: ${stderr}`
    assert.deepEqual({ status, signal }, { status: 0, signal: null }, told)
    assert.ok(Number(/(\d+) refused/.exec(stdout)?.[1]) > 10, stdout)
  })

  it('are looked at whoever opens it, beside a writer', async () => {
    await using mapping = await makeMapping()
    await mapping.recorder.record([{ key: 'k', before: null, after: smallRecord(1) }])
    for (let i = 0; i < 50; i++) {
      const writing = mapping.recorder.record([
        { key: `k${i}`, before: null, after: smallRecord(1 + i) },
      ])
      const reader = Catalog.open(mapping.dir, { readOnly: true })
      assert.ok(reader.get('k'))
      await reader.close()
      await writing
    }
    assert.equal(new CatalogDamaged('d', 'what').exitCode, 1)
  })
})
