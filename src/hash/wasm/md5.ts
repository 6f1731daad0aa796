/** MD5's compression in WebAssembly: the module that src/hash/lanes.ts loads. */
import { LANES } from './md5x8'

export { md5x1 } from './md5x1'
export { md5x4 } from './md5x4'
export { md5x8 } from './md5x8'

/** Returns the address of the table that md5x8 and md5x4 take their streams from. */
export function lanes(): usize {
  return LANES
}

/** Returns the address from which on the memory is the caller's. */
export function heap(): usize {
  return __heap_base
}
