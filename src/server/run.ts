/** A server by its settings, from the opening of its volumes to its end. */
import { ExitCode } from '../errors.ts'
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
  try {
    for (const volume of settings.volumes) mounts.push(await openMount(volume, settings))
    const log = createLog(process.stderr, settings.log)
    const server = await startServer({ ...settings, mounts, log })
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
    await Promise.all(mounts.map(({ volume }) => volume.close()))
  }
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
