/** MD5 of streams of bytes. Whoever hashes many streams at once asks one engine for all hashers. */
import { createHash } from 'node:crypto'

/**
 * The MD5 of one stream. It must be disposed of, at the latest when the stream has failed half-way:
 * until then it holds memory of its engine. `using` is the way to it.
 */
export interface BlockHasher extends Disposable {
  /**
   * Takes the next bytes; they may be overwritten as soon as it has returned. Where it returns a
   * promise, whoever can should wait with the next bytes until that has settled; it never rejects.
   * Throws after `digest`.
   */
  update(chunk: Uint8Array): void | Promise<void>
  /**
   * Returns memory for the next bytes, where the hasher has any of its own: what is put there from its
   * start and then passed to update is not copied. It is good until the next call of anything here.
   */
  room(): Uint8Array | undefined
  /** Resolves to the 16 bytes of the MD5; the hasher is used up. Rejects when called twice. */
  digest(): Promise<Buffer>
  /** Gives the hasher's memory back; a digest under way is made all the same. */
  [Symbol.dispose](): void
}

/** Makes hashers, any number of which may be in use at the same time, on one thread. */
export interface HashEngine {
  /** Returns the hasher of one more stream. */
  open(): BlockHasher
}

/** Node's own MD5 (OpenSSL's): one stream at a time, each when its bytes come. */
export const nodeEngine: HashEngine = {
  open() {
    const hash = createHash('md5')
    return {
      update: (chunk) => void hash.update(chunk),
      room: () => undefined,
      digest: async () => hash.digest(),
      [Symbol.dispose]() {},
    }
  },
}
