/** How a keep service is named in a cluster. */
import { createHash } from 'node:crypto'

/** Returns 15 letters or digits that are always the same for one URL, for its `Rendezvous`. */
export function rendezvousOf(url: URL): string {
  return createHash('md5').update(`keepgw ${url.href}`).digest('hex').slice(0, 15)
}

/**
 * Returns the UUID of the service that has this Rendezvous, or undefined where clients would ignore
 * it in `+K@` hints: there it must have 15 lower-case letters or digits.
 */
export function serviceUuid(clusterId: string, rendezvous = ''): string | undefined {
  return /^[a-z0-9]{15}$/.test(rendezvous) ? `${clusterId}-bi6l4-${rendezvous}` : undefined
}

/** Returns host and port of an http or https URL; a port that it does not name is the scheme's. */
export function addressOf({ protocol, hostname, port }: URL): { host: string; port: number } {
  const host = hostname.replace(/^\[|\]$/g, '')
  return { host, port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port) }
}

/** Returns the YAML that goes into the cluster's configuration. */
export function registerEntry(clusterId: string, url: URL): string {
  return `Clusters:
  ${clusterId}:
    Services:
      Keepstore:
        InternalURLs:
          "${url.href}":
            Rendezvous: "${rendezvousOf(url)}"
`
}
