/** The choice of how to hash. */
import { loadKernel } from './kernel.ts'
import { LaneEngine, PATIENT } from './lanes.ts'
import { type HashEngine, nodeEngine } from './md5.ts'

/**
 * Returns an engine for this thread, which is to hash `streams` at once: one that hashes eight of them
 * side by side, or Node's own MD5 where there is but one, or the machine cannot do more. Throws
 * KeepgwError where keepgw was not built.
 */
export function openEngine(streams: number, patience = PATIENT): HashEngine {
  if (streams < 2) return nodeEngine
  const kernel = loadKernel()
  if (kernel === undefined) return nodeEngine
  try {
    return new LaneEngine(kernel, streams, patience)
  } catch (error) {
    if (error instanceof RangeError) return nodeEngine
    throw error
  }
}
