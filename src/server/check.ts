/** What `keepgw serve --check` finds out: whether all that would be served can be reached. */
import { messageOf } from '../errors.ts'
import { checkBlock } from '../volume/check-block.ts'
import { FailureMemory } from '../volume/failure-memory.ts'
import { BlockError } from '../volume/source-walk.ts'
import type { Volume } from '../volume/volume.ts'
import type { ServeSettings } from './settings.ts'

/**
 * `reachable`: a place of a block answered, or said that it is gone. `empty`: the storage answered,
 * and there is no block to ask for. `unreachable`: no client would get a block from it.
 */
export type Reach = { state: 'reachable' | 'empty' } | { state: 'unreachable'; reason: string }

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
