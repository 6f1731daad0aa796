/** What `keepgw serve --check` prints of settings, for people: no token, no key. */
import type { Mount } from './mounts.ts'
import { type ServeSettings, urlOf, type VolumeSetting } from './settings.ts'

/** Returns what a server would do, as lines of a name and a value. */
export function describeSettings(settings: ServeSettings): [name: string, value: string][] {
  const {
    cluster,
    clusterId,
    signing,
    tokens,
    maxRequests,
    maxBlocks,
    serviceUuid,
    cache,
    workers,
  } = settings
  const limit = (max: number) => (max === 0 ? 'no limit' : `at most ${max}`)
  const set = (token: string | undefined) => (token ? 'set' : 'not set')
  const lines: [string, string][] = [
    ['cluster', `${clusterId}, ${cluster?.file ?? 'no configuration file'}`],
    ['address', urlOf(settings)],
    [
      'signing',
      signing === undefined ? 'off: who knows a hash reads the block' : `on, TTL ${signing.ttl} s`,
    ],
    ['tokens', `system root ${set(tokens.systemRoot)}, management ${set(tokens.management)}`],
    ['workers', String(workers)],
    ['requests', `${limit(maxRequests)} at once`],
    ['blocks', `${limit(maxBlocks)} at once`],
    ['for +K@', serviceUuid ?? 'no UUID'],
    [
      'cache',
      cache === undefined
        ? 'none'
        : `${cache.dir}, at most ${Math.floor(cache.limit / 2 ** 20)} MiB`,
    ],
  ]
  const others = cluster?.otherVolumes ?? 0
  if (others > 0) lines.push(['keepstore’s', `${others} volumes of other drivers, left to it`])
  return lines
}

/** Returns how a volume would be shown, as far as it could be opened. */
export function describeVolume({ volume: name }: VolumeSetting, mount: Mount | undefined): string {
  if (mount === undefined) return name
  const { uuid, volume, storageClasses } = mount
  if (volume.listedElsewhere) return `${name}, not shown to keep-balance: the services behind are`
  const classes = storageClasses.join(' ')
  return `${name}, mount ${uuid}, device ${volume.deviceId}, storage classes ${classes}`
}
