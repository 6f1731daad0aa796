/** Where in the sources each safeguard is, and what the sources are without it. */
import type { Safeguard } from './cell.ts'

/** A piece of the sources, which is there once, and what stands there without the safeguard. */
export interface Removal {
  file: string
  text: string
  instead: string
}

export const REMOVALS: Record<Safeguard, Removal> = {
  'If-Match': {
    file: 'src/remote/s3/reader.ts',
    text: 'if (etag !== undefined && this.#ifMatch)',
    instead: 'if (false)',
  },
  'the answered ETag is compared': {
    file: 'src/remote/s3/reader.ts',
    text: 'if (etag !== undefined && plainEtag(answered) !== etag)',
    instead: 'if (false)',
  },
  'the MD5 check': {
    file: 'src/volume/read-block.ts',
    text: 'if ((await this.#digest()) === this.#query.hash)',
    instead: 'if ((await this.#digest()) !== "")',
  },
  'the hold-back': {
    file: 'src/volume/read-block.ts',
    text: 'const HELD_BACK = 65_536',
    instead: 'const HELD_BACK = 0',
  },
  'what came is counted': {
    file: 'src/remote/s3/reader.ts',
    text: "if (body.delivered < length) throw body.brokenOff(this.name(key), 'the store sent no more')",
    instead: '',
  },
  'only S3’s word proves an object gone': {
    file: 'src/remote/s3/failure.ts',
    text: "  NoSuchKey: 'gone',",
    instead: "  NoSuchKey: 'gone', 'HTTP 404': 'gone',",
  },
  'a missing key is believed only of a bucket that is there': {
    file: 'src/remote/s3/reader.ts',
    text: "return failure.failure === 'gone' ? await this.#goneOr(failure, signal) : failure",
    instead: 'return failure',
  },
  'unreachable places forbid a 404': {
    file: 'src/volume/source-walk.ts',
    text: 'if (this.#failed.unreachable > 0 || this.#untried) {',
    instead: 'if (false) {',
  },
  'certificates are checked': {
    file: 'src/remote/s3/connection.ts',
    text: "ALPNProtocols: ['http/1.1'],",
    instead: "ALPNProtocols: ['http/1.1'], rejectUnauthorized: false,",
  },
  'a listing must come whole': {
    file: 'src/remote/s3/listing-parser.ts',
    text: '    this.#scanner.end()\n',
    instead: '',
  },
  'a listing must come to its end': {
    file: 'src/remote/s3/list.ts',
    text: "if (!token) throw refuse('not where')",
    instead: 'if (!token) return',
  },
  'a listing must have what was asked for': {
    file: 'src/remote/s3/list.ts',
    text: '    refuseStrays(page, prefix, what)\n',
    instead: '',
  },
  'what its ETag does not confirm is read again': {
    file: 'src/indexer/object-reader.ts',
    text: 'if (!this.#etagsAreMd5 || !hasFalseEtag(read)) return read',
    instead: 'if (read.hashes.length >= 0) return read',
  },
  'the shrink guard': {
    file: 'src/indexer/drop.ts',
    text: 'if (count === 0 || allowDrop >= 100) return',
    instead: 'if (count >= 0) return',
  },
  'the lock': {
    file: 'src/mapping/lock.ts',
    text: 'if (held === undefined || isProvenDead(held)) return own',
    instead: 'if (held !== null) return own',
  },
  'the intent comes first': {
    file: 'src/mapping/recorder.ts',
    text: 'await this.#catalog.begin(intent, this.#lockId)',
    instead: '',
  },
  'the lines come before the commit': {
    file: 'src/mapping/recorder.ts',
    text: `    const all = [...plans.values()]
    await this.#apply(syncAll ? all : all.filter(({ action }) => action !== 'none'))
    await this.#catalog.finish(intent, this.#lockId)`,
    instead: `    const all = [...plans.values()]
    await this.#catalog.finish(intent, this.#lockId)
    await this.#apply(syncAll ? all : all.filter(({ action }) => action !== 'none'))`,
  },
  'the sync comes before the commit': {
    file: 'src/mapping/recorder.ts',
    text: 'if (written.length > 0) await this.#sync.sync(written)',
    instead: '',
  },
  'repair drops only what is proven bad': {
    file: 'src/verifier/repair.ts',
    text: "new Set(['changed', 'gone', 'corrupt'])",
    instead: "new Set(['changed', 'gone', 'corrupt', 'unreachable'])",
  },
}

/** Returns the source without its safeguard. Throws where that is not in it, or more than once. */
export function without({ file, text, instead }: Removal, source: string): string {
  const parts = source.split(text)
  if (parts.length === 2) return parts.join(instead)
  throw new Error(`${file} has ${parts.length - 1} times, not once: ${text}`)
}
