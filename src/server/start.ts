/** Opens what settings name, and serves it. */
import type { Logger } from 'pino'
import { messageOf } from '../errors.ts'
import { BlockCache } from '../volume/cache/cache.ts'
import { openVolume, parseVolume } from '../volume/spec.ts'
import { type Mount, makeMount } from './mounts.ts'
import { type RunningServer, startServer } from './serve.ts'
import type { ServeSettings, VolumeSetting } from './settings.ts'
import type { Snapshot } from './snapshot.ts'
import { CLIENT_TIMEOUTS } from './timeouts.ts'

/** What a server needs to know: all that settings have but what they were taken from. */
export type ServerSettings = Omit<ServeSettings, 'cluster' | 'workers'>

/** A server, and what it serves from. */
export interface RunningService extends RunningServer {
  /** The volumes, as they name themselves. */
  readonly volumes: string[]
}

/** What the process of a service gives it. */
export interface ServiceParts {
  log: Logger
  /** How many processes like this one answer at the address; 1 unless told. */
  processes?: number
  /** Returns what all of them have counted. */
  snapshot?: () => Promise<Snapshot>
}

/**
 * Returns the service once it listens; its close() also closes what was opened here. Throws as openMount
 * and startServer do.
 */
export async function startService(
  settings: ServerSettings,
  { log, processes, snapshot }: ServiceParts,
): Promise<RunningService> {
  const mounts: Mount[] = []
  let cache: BlockCache | undefined
  const closeAll = async () => {
    await cache?.close()
    await Promise.all(mounts.map(({ volume }) => volume.close()))
  }
  try {
    for (const volume of settings.volumes) mounts.push(await openMount(volume, settings))
    if (settings.cache !== undefined) {
      const { dir } = settings.cache
      const warn = (error: unknown) => log.warn({ cache: dir, reason: messageOf(error) }, 'cache')
      cache = await BlockCache.open({ ...settings.cache, sharers: processes, warn })
    }
    const server = await startServer({
      ...settings,
      mounts,
      cache,
      log,
      snapshot,
      timeouts: CLIENT_TIMEOUTS,
    })
    return {
      ...server,
      volumes: mounts.map(({ volume }) => String(volume)),
      async close() {
        await server.close()
        await closeAll()
      },
    }
  } catch (error) {
    await closeAll()
    throw error
  }
}

/** Opens a volume, which the caller closes. Throws as parseVolume and openVolume do. */
export async function openMount(
  { volume, storageClasses, readOnly }: VolumeSetting,
  { clusterId, id, tokens: { systemRoot } }: ServerSettings,
): Promise<Mount> {
  const options = { systemRoot, storageClasses, readOnly, id }
  return makeMount(await openVolume(parseVolume(volume), options), clusterId)
}
