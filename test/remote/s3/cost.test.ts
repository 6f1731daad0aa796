import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { S3Spec } from '../../../src/remote/remote.ts'
import { describeRequests, isAmazon, requestCost } from '../../../src/remote/s3/cost.ts'

const bucket: S3Spec = { kind: 's3', bucket: 'b' }
const directory = { kind: 'directory', root: '/data' } as const
const none = { list: 0, get: 0, head: 0 }

describe('the cost of requests', () => {
  it('is that of the price list', () => {
    assert.equal(requestCost(none), 0)
    assert.equal(requestCost({ ...none, list: 1000 }), 0.005)
    assert.equal(requestCost({ ...none, get: 10_000 }), 0.004)
    assert.equal(requestCost({ ...none, head: 10_000 }), 0.004)
    // A first run over ten million small objects.
    assert.equal(requestCost({ list: 10_000, get: 10_000_000, head: 0 }).toFixed(2), '4.05')
  })

  it('is named where Amazon is to be paid', () => {
    const counts = { list: 10_000, get: 10_000_000, head: 3 }
    const requests = '10000 LIST, 10000000 GET, 3 HEAD requests'
    assert.equal(describeRequests(counts, bucket), `${requests} (about $4.05)`)
    const elsewhere = { ...bucket, endpoint: 'https://s3.example.org' }
    assert.equal(describeRequests(counts, elsewhere), requests)
    assert.equal(describeRequests(none, directory), undefined)
  })

  it('is rounded to no less than a cent', () => {
    assert.match(describeRequests({ ...none, list: 1 }, bucket)!, /\(less than \$0\.01\)$/)
  })

  it('knows Amazon by its endpoints', () => {
    const at = (endpoint: string): boolean => isAmazon({ ...bucket, endpoint })
    assert.ok(isAmazon(bucket))
    assert.ok(!isAmazon(directory))
    for (const host of [
      's3.eu-west-1.amazonaws.com',
      'bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com',
    ]) {
      assert.ok(at(`https://${host}`), host)
    }
    assert.ok(at('https://s3.cn-north-1.amazonaws.com.cn'))
    for (const host of ['localhost:9000', 'notamazonaws.com', 's3.amazonaws.com.example.org']) {
      assert.ok(!at(`http://${host}`), host)
    }
  })
})
