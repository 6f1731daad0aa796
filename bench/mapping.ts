/** A mapping of as many blocks as one likes, without any objects behind it. */
import { hash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatPlace } from '../src/mapping/place-line.ts'
import { keyOf } from './data.ts'
import type { Route } from './store.ts'

const SHARDS = 4096

/** Makes a mapping tree in `dir`: a file for each block, with one place. */
export function makeMapping(dir: string, { endpoint, region }: Route, blocks: number): void {
  mkdirSync(join(dir, '.keepgw'), { recursive: true })
  const remote = { kind: 's3', bucket: 'bucket', endpoint, region, pathStyle: true }
  const description = { version: 1, remote, ifMatch: true }
  writeFileSync(join(dir, '.keepgw', 'remote.json'), JSON.stringify(description))
  for (let shard = 0; shard < SHARDS; shard++) {
    mkdirSync(join(dir, shard.toString(16).padStart(3, '0')))
  }
  for (let i = 0; i < blocks; i++) {
    const key = keyOf(i)
    const md5 = hash('md5', key)
    const line = formatPlace({ offset: 0, length: key.length, key, etag: md5 })
    writeFileSync(join(dir, md5.slice(0, 3), md5), `${line}\n`)
  }
}
