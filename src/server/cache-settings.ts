/** What is said of a cache, and what it does not go with. */
import { resolve } from 'node:path'
import { UsageError } from '../errors.ts'
import type { SigningKey } from '../keep/signature.ts'
import { parseBytes } from '../units.ts'
import { refuseForeign } from '../volume/cache/directory.ts'
import { parseVolume } from '../volume/spec.ts'

/** What flags or variables say of a cache. */
export interface CacheFlags {
  cache?: string | undefined
  'cache-size'?: string | undefined
}

/** Where blocks are kept that were read. */
export interface CacheSettings {
  /** Absolute path. */
  dir: string
  /** Bytes that it may take on disk. */
  limit: number
}

const DEFAULT_SIZE = 10 * 2 ** 30
/** Less would hold a single block of 64 MiB, or none. */
const MIN_SIZE = 128 * 2 ** 20

/**
 * Returns what the flags say of a cache, if there is to be one. Throws UsageError, also for a directory
 * that others could misuse.
 */
export async function cacheSettings(
  flags: CacheFlags,
  volumes: readonly string[],
  signing: SigningKey | undefined,
): Promise<CacheSettings | undefined> {
  const { cache: dir, 'cache-size': size } = flags
  if (dir === undefined) {
    if (size === undefined) return undefined
    throw new UsageError('--cache-size is said of no cache', { hint: 'Name one with --cache DIR' })
  }
  const limit = size === undefined ? DEFAULT_SIZE : parseBytes(size)
  if (limit < MIN_SIZE) {
    throw new UsageError(`--cache-size ${size} is too small`, {
      hint: 'A block has up to 64 MiB: give at least 128M',
    })
  }
  assertChecked(volumes, signing)
  await refuseForeign(resolve(dir))
  return { dir: resolve(dir), limit }
}

/** Other keep services check a reader's signature themselves; a cache would answer in their place. */
function assertChecked(volumes: readonly string[], signing: SigningKey | undefined): void {
  if (signing !== undefined) return
  const volume = volumes.find((each) => parseVolume(each).kind === 'keep')
  if (volume === undefined) return
  throw new UsageError(`--cache would give blocks of ${volume} to whoever asks`, {
    hint: 'Set the cluster’s BlobSigningKey, so that signatures are checked here, or leave out --cache',
  })
}
