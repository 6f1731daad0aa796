/** Opens a remote for a thread that only reads: what it cannot find out itself it asks for. */
import { openDirectory } from './directory/directory.ts'
import type { OpenOptions } from './open.ts'
import type { RemoteReader, RemoteSpec } from './remote.ts'
import type { AskAccess } from './s3/access.ts'
import { S3Reader } from './s3/reader.ts'

/**
 * Returns a reader; `ask` is the `access` of a store that was opened for the same spec, in this
 * thread or another. Throws UsageError for bad settings.
 */
export function openReader(
  spec: RemoteSpec,
  options: OpenOptions,
  ask: (query: unknown) => Promise<unknown>,
): RemoteReader {
  return spec.kind === 's3' ? new S3Reader(spec, ask as AskAccess, options) : openDirectory(spec)
}
