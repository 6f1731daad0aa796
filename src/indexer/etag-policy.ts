/** Whether a run may take hashes from ETags, and what becomes of that when one proves false. */
import { type MappingDescription, writeDescription } from '../mapping/description.ts'
import { showKey } from '../remote/key.ts'
import { EtagTrust, type EtagTrustOptions, hasFalseEtag } from './etag-trust.ts'
import type { ReadObject } from './object-reader.ts'
import type { IndexObserver } from './run-tally.ts'

/** What a run's policy is made of. */
export interface EtagPolicyOptions {
  mapping: { dir: string; description: MappingDescription }
  /** What the user asked for: the share of objects to read all the same; undefined for no trust. */
  wanted: { sample: number } | undefined
  observer: Pick<IndexObserver, 'notice'>
}

/** One run's. Safe for concurrent use. */
export class EtagPolicy {
  readonly #options: EtagPolicyOptions
  #trust: EtagTrust | undefined
  #isDisproved = false

  constructor(options: EtagPolicyOptions) {
    this.#options = options
  }

  /** True where ETags are to be trusted, and none of this bucket is known to be false. */
  get mayTrust(): boolean {
    return this.#options.wanted !== undefined && this.areMd5s
  }

  /** False where an ETag of this bucket has proved not to be an MD5, in whatever run. */
  get areMd5s(): boolean {
    return this.#options.mapping.description.etagIsMd5 !== false
  }

  /** True where this run has found an ETag to be false. */
  get isDisproved(): boolean {
    return this.#isDisproved
  }

  /** Returns what decides about each object; undefined where all are to be read. */
  begin(parts: Pick<EtagTrustOptions, 'read' | 'trust'>): EtagTrust | undefined {
    const { wanted, mapping, observer } = this.#options
    if (wanted === undefined) return undefined
    if (this.mayTrust) {
      this.#trust = new EtagTrust({ ...wanted, ...parts, random: Math.random })
      return this.#trust
    }
    observer.notice(
      `an ETag of this bucket has proved not to be an MD5: all objects are read in spite of --etag=trust (to try once more, take etagIsMd5 out of ${mapping.dir}/.keepgw/remote.json)`,
    )
    return undefined
  }

  /** True where reading has shown an ETag to be false that was trusted, or might have been. */
  isFalse(read: ReadObject, wasTrusted: boolean): boolean {
    return (wasTrusted || this.#options.wanted !== undefined) && hasFalseEtag(read)
  }

  /**
   * Trusts no ETag from now on, in later runs neither, because this object's is false. Throws
   * KeepgwError where that cannot be written down.
   */
  async disprove({ object: { key } }: ReadObject): Promise<void> {
    const { mapping, observer } = this.#options
    this.#trust?.stop()
    if (this.#isDisproved) return
    this.#isDisproved = true
    mapping.description.etagIsMd5 = false
    observer.notice(
      `the ETag of ${showKey(key)} is not the MD5 of its bytes: no ETag is trusted from now on, and all objects that were trusted are read`,
    )
    await writeDescription(mapping.dir, mapping.description)
  }
}
