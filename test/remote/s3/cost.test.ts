import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { S3Spec } from '../../../src/remote/remote.ts'
import { isAmazon } from '../../../src/remote/s3/access.ts'
import { requestCost } from '../../../src/remote/s3/cost.ts'
import { formatDollars } from '../../../src/units.ts'

const bucket: S3Spec = { kind: 's3', bucket: 'b' }
const directory = { kind: 'directory', root: '/data' } as const
const none = { list: 0, get: 0, head: 0 }

describe('the cost of requests', () => {
  it('is that of the price list', () => {
    assert.equal(requestCost(none, bucket), 0)
    assert.equal(requestCost({ ...none, list: 1000 }, bucket), 0.005)
    assert.equal(requestCost({ ...none, get: 10_000 }, bucket), 0.004)
    assert.equal(requestCost({ ...none, head: 10_000 }, bucket), 0.004)
    // A first run over ten million small objects.
    const first = requestCost({ list: 10_000, get: 10_000_000, head: 0 }, bucket)!
    assert.equal(formatDollars(first), 'about $4.05')
  })

  it('is known where Amazon is to be paid', () => {
    const some = { ...none, list: 1000 }
    const at = (endpoint: string) => requestCost(some, { ...bucket, endpoint })
    assert.equal(at('https://s3.eu-west-1.amazonaws.com'), 0.005)
    assert.equal(at('https://s3.example.org'), undefined)
    assert.equal(requestCost(some, directory), undefined)
  })

  it('is rounded to no less than a cent', () => {
    assert.equal(formatDollars(0.005), 'less than $0.01')
  })

  it('knows Amazon by its endpoints', () => {
    for (const host of [
      'amazonaws.com',
      's3.eu-west-1.amazonaws.com',
      's3.eusc-de-east-1.amazonaws.eu',
      's3.cn-north-1.amazonaws.com.cn',
      'bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com',
    ]) {
      assert.ok(isAmazon(`https://${host}`), host)
    }
    for (const host of ['localhost:9000', 'notamazonaws.com', 's3.amazonaws.com.example.org']) {
      assert.ok(!isAmazon(`http://${host}`), host)
    }
  })
})
