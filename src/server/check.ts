/** What `keepgw serve --check` finds out: whether all that would be served can be reached. */
import { constants, existsSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { dirname } from 'node:path'
import { messageOf, UsageError } from '../errors.ts'
import { checkBlock } from '../volume/check-block.ts'
import { FailureMemory } from '../volume/failure-memory.ts'
import { BlockError } from '../volume/source-walk.ts'
import { isWritable, type Volume } from '../volume/volume.ts'
import type { Mount } from './mounts.ts'
import type { ServeSettings, VolumeSetting } from './settings.ts'
import { openMount } from './start.ts'

/**
 * `reachable`: a place of a block answered, or said that it is gone. `empty`: the storage answered,
 * and there is no block to ask for. `unreachable`: no client would get a block from it.
 */
export type Reach = { state: 'reachable' | 'empty' } | { state: 'unreachable'; reason: string }

/**
 * Opens a volume, asks for a block of it, and closes it again; says also why it would take no blocks, where it
 * should. Throws UsageError for a wrong setting, and the signal's reason; what is out of reach is told.
 */
export async function checkVolume(
  setting: VolumeSetting,
  settings: ServeSettings,
  signal: AbortSignal,
): Promise<{ mount?: Mount; outcome: Reach; refusal?: string | undefined }> {
  let mount: Mount
  try {
    mount = await openMount(setting, settings)
  } catch (error) {
    if (error instanceof UsageError) throw error
    return { outcome: { state: 'unreachable', reason: messageOf(error) } }
  }
  try {
    const { volume } = mount
    const refusal = isWritable(volume) ? await volume.refusal?.() : undefined
    return { mount, outcome: await reach(volume, settings.idleLimit, signal), refusal }
  } finally {
    await mount.volume.close()
  }
}

/** Asks a volume for the first block that it lists, if any. Throws the signal's reason only. */
export async function reach(
  volume: Volume,
  idleLimit: number,
  signal: AbortSignal,
): Promise<Reach> {
  let reason = ''
  try {
    for await (const { hash, length } of volume.blocks('')) {
      await checkBlock({
        volumes: [volume],
        hash,
        size: length,
        signal,
        failures: new FailureMemory(),
        idleLimit,
        onFailover: ({ source, message }) => {
          reason = `${source}: ${message}`
        },
      })
      return { state: 'reachable' }
    }
    await volume.probe?.(signal)
    return { state: 'empty' }
  } catch (error) {
    signal.throwIfAborted()
    // A store that says that an object is gone, or gives other bytes, has been reached.
    const isAnswer = error instanceof BlockError && error.failure !== 'unreachable'
    if (isAnswer) return { state: 'reachable' }
    return { state: 'unreachable', reason: reason || messageOf(error) }
  }
}

/** Returns why the cache could not be used, a sentence, or nothing. Makes nothing. */
export async function cacheWarning({ cache }: ServeSettings): Promise<string | undefined> {
  if (cache === undefined) return undefined
  try {
    // It is made where it is not there, but not what it lies in.
    const dir = existsSync(cache.dir) ? cache.dir : dirname(cache.dir)
    await access(dir, constants.R_OK | constants.W_OK | constants.X_OK)
    return undefined
  } catch (error) {
    return `${cache.dir} cannot be used, blocks would be read without a cache: ${messageOf(error)}`
  }
}

/** Returns what the cluster's configuration keeps clients from, a sentence each. */
export function clusterWarnings({ cluster, serviceUuid }: ServeSettings): string[] {
  if (cluster === undefined) return []
  const { file } = cluster
  const warnings: string[] = []
  if (cluster.containersHaveKeepstore) {
    warnings.push(
      `${file}: containers start a keepstore of their own, which hides this service from them: set Containers.LocalKeepBlobBuffersPerVCPU to 0`,
    )
  }
  if (serviceUuid === undefined) {
    warnings.push(
      `${file}: this service has no UUID that +K@ hints can use: give its URL in Services.Keepstore.InternalURLs a Rendezvous of 15 letters or digits (keepgw service register URL)`,
    )
  }
  return warnings
}
