/** What requests cost. */
import type { RemoteSpec, RequestCounts } from '../remote.ts'
import { isAmazon } from './access.ts'

/**
 * US dollars a request: Amazon's list prices for S3 Standard in us-east-1. Other regions, storage
 * classes and agreements differ, so it is good for an estimate only.
 */
const PRICES: RequestCounts = { list: 0.005 / 1000, get: 0.0004 / 1000, head: 0.0004 / 1000 }

/**
 * Returns about what the requests cost, in US dollars, what is read not among it; undefined where it is
 * not Amazon that is to be paid.
 */
export function requestCost(
  { list, get, head }: RequestCounts,
  spec: RemoteSpec,
): number | undefined {
  const isPaid = spec.kind === 's3' && (spec.endpoint === undefined || isAmazon(spec.endpoint))
  return isPaid ? list * PRICES.list + get * PRICES.get + head * PRICES.head : undefined
}
