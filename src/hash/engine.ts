/** The choice of how to hash. */
import { loadKernel } from './kernel.ts'
import { LaneEngine } from './lanes.ts'
import { type HashEngine, nodeEngine } from './md5.ts'

/**
 * Returns an engine for this thread: one that hashes eight streams at once, or Node's own MD5 where
 * the machine cannot do that. Throws KeepgwError where keepgw was not built.
 */
export function openEngine(): HashEngine {
  const kernel = loadKernel()
  return kernel === undefined ? nodeEngine : new LaneEngine(kernel)
}
