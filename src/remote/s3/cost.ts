/** What requests cost. */
import type { RemoteSpec, RequestCounts } from '../remote.ts'

/**
 * US dollars a request: Amazon's list prices for S3 Standard in us-east-1. Other regions, storage
 * classes and agreements differ, so it is good for an estimate only.
 */
const PRICES: RequestCounts = { list: 0.005 / 1000, get: 0.0004 / 1000, head: 0.0004 / 1000 }

/** Returns about what the requests cost, in US dollars; what is read is not in it. */
export function requestCost({ list, get, head }: RequestCounts): number {
  return list * PRICES.list + get * PRICES.get + head * PRICES.head
}

/** True where Amazon is the one to be paid for requests. */
export function isAmazon(spec: RemoteSpec): boolean {
  if (spec.kind !== 's3') return false
  if (spec.endpoint === undefined) return true
  const host = URL.parse(spec.endpoint)?.hostname ?? ''
  return /(^|\.)amazonaws\.com(\.cn)?$/.test(host)
}

/**
 * Returns the requests for people to read: `12 LIST, 345 GET, 0 HEAD requests (about $0.01)`, with
 * the money for Amazon's buckets only; undefined for a directory, which takes none.
 */
export function describeRequests(counts: RequestCounts, spec: RemoteSpec): string | undefined {
  if (spec.kind !== 's3') return undefined
  const { list, get, head } = counts
  const cost = isAmazon(spec) ? ` (${formatDollars(requestCost(counts))})` : ''
  return `${list} LIST, ${get} GET, ${head} HEAD requests${cost}`
}

function formatDollars(dollars: number): string {
  return dollars < 0.01 ? 'less than $0.01' : `about $${dollars.toFixed(2)}`
}
