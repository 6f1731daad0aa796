/** The order in which clients of Keep ask services for a block: each block has its own. */
import { createHash } from 'node:crypto'

/**
 * Returns the services in the order that the Arvados SDKs would ask them in, who are given the same
 * list in ARVADOS_KEEP_SERVICES: by MD5(hash + the last 15 characters of the service's UUID), the
 * greatest first. A service without a UUID has its number in the list for one, in 15 digits.
 */
export function rendezvous<T>(hash: string, services: readonly T[]): T[] {
  return services
    .map((service, number) => ({ service, weight: weightOf(hash, number) }))
    .sort((a, b) => (a.weight < b.weight ? 1 : -1))
    .map(({ service }) => service)
}

function weightOf(hash: string, number: number): string {
  const uuid = String(number).padStart(15, '0')
  return createHash('md5')
    .update(hash + uuid)
    .digest('hex')
}
