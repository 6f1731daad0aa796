/** A server by its settings, from the opening of its volumes to its end. */
import type { Logger } from 'pino'
import { ExitCode, messageOf } from '../errors.ts'
import { BlockCache } from '../volume/cache/cache.ts'
import { openVolume, parseVolume } from '../volume/spec.ts'
import { type Mount, makeMount } from './mounts.ts'
import { createLog } from './request-log.ts'
import { startServer } from './serve.ts'
import type { ServeSettings, VolumeSetting } from './settings.ts'

/**
 * Serves until SIGTERM or SIGINT, and returns when the answers under way are out; a second signal ends
 * the process at once. Throws as openMount and startServer do.
 */
export async function serveUntilSignal(settings: ServeSettings): Promise<void> {
  const mounts: Mount[] = []
  let cache: BlockCache | undefined
  try {
    for (const volume of settings.volumes) mounts.push(await openMount(volume, settings))
    const log = createLog(process.stderr, settings.log)
    cache = await openCache(settings, log)
    const server = await startServer({ ...settings, mounts, cache, log })
    log.info(
      {
        address: server.address,
        signing: settings.signing !== undefined,
        volumes: mounts.map(({ volume }) => String(volume)),
      },
      'listening',
    )
    const signal = await firstSignal()
    log.info({ signal }, 'stopping when the answers under way are out')
    await server.close()
  } finally {
    await cache?.close()
    await Promise.all(mounts.map(({ volume }) => volume.close()))
  }
}

async function openCache({ cache }: ServeSettings, log: Logger): Promise<BlockCache | undefined> {
  if (cache === undefined) return undefined
  const warn = (error: unknown) => log.warn({ cache: cache.dir, reason: messageOf(error) }, 'cache')
  return BlockCache.open({ ...cache, warn })
}

/** Opens a volume, which the caller closes. Throws as parseVolume and openVolume do. */
export async function openMount(
  { volume, storageClasses }: VolumeSetting,
  { clusterId, tokens: { systemRoot } }: ServeSettings,
): Promise<Mount> {
  return makeMount(await openVolume(parseVolume(volume), { systemRoot, storageClasses }), clusterId)
}

/** Resolves with the first SIGTERM or SIGINT; the second one ends the process. */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    const onSignal = (signal: NodeJS.Signals) => {
      if (asked) process.exit(ExitCode.interrupted)
      asked = true
      resolve(signal)
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
  })
}
