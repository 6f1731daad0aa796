/** Opens the remote that a spec names. */
import { openDirectory } from './directory/directory.ts'
import type { RemoteSpec, RemoteStore } from './remote.ts'
import { openS3 } from './s3/s3.ts'

/** How a store is asked. A directory heeds none of it. */
export interface OpenOptions {
  /** False for a store that answers 412 to a true ETag: the answered ETag is compared instead. */
  ifMatch?: boolean
  /** Connections at once, at most; unlimited by default. */
  connections?: number
  /** Times a request is made until an answer is there, not counting those in an outage. */
  attempts?: number
  /** Milliseconds for which the store may be away, once it has answered; none by default. */
  outage?: number
  /** True where it has answered others. */
  hasAnswered?: boolean
}

/** Returns the store; nothing is sent before its first call. Throws UsageError for bad settings. */
export function openRemote(spec: RemoteSpec, options: OpenOptions = {}): RemoteStore {
  return spec.kind === 's3' ? openS3(spec, options) : openDirectory(spec)
}
