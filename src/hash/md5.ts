/** MD5 of streams of bytes. Whoever hashes many streams at once asks one engine for all hashers. */
import { createHash } from 'node:crypto'

/** The MD5 of one stream. */
export interface BlockHasher {
  /** Takes the next bytes. They may be overwritten once it returned, or its promise settled. */
  update(chunk: Uint8Array): void | Promise<void>
  /** Returns the 16 bytes of the MD5; the hasher is used up. */
  digest(): Promise<Buffer>
}

/** Makes hashers, any number of which may be in use at the same time. */
export interface HashEngine {
  open(): BlockHasher
}

/** Node's own MD5 (OpenSSL's): the fastest there is for a single stream. */
export const nodeEngine: HashEngine = {
  open() {
    const hash = createHash('md5')
    return {
      update: (chunk) => void hash.update(chunk),
      digest: async () => hash.digest(),
    }
  },
}
