/**
 * A way to two buckets of the same blocks, of which one never answers, another one for each block:
 * `node hanging-link.ts ENDPOINT BUCKET BUCKET`. At first all answer; each SIGUSR2 has those hang that
 * answered before, and the other way round.
 */
import { startFaultProxy } from '../test/faults/proxy.ts'
import { tellParent } from './child.ts'

const [endpoint = '', ...buckets] = process.argv.slice(2)

let turn = 0
process.on('SIGUSR2', () => {
  turn += 1
})

const proxy = await startFaultProxy({ endpoint })
proxy.on(
  ({ path }) => {
    const [, bucket = '', key = ''] = path.split(/[/?]/)
    const digit = Number.parseInt(key[0] ?? '', 16)
    return turn > 0 && Number.isInteger(digit) && buckets.indexOf(bucket) === (digit + turn) % 2
  },
  { kind: 'stall' },
)
tellParent(new URL(proxy.endpoint).port)
