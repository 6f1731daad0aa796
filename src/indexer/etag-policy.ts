/** Whether a run may take hashes from ETags, and what becomes of that when one proves false. */
import { type MappingDescription, writeDescription } from '../mapping/description.ts'
import { showKey } from '../remote/key.ts'
import { EtagTrust, type EtagTrustOptions, hasFalseEtag } from './etag-trust.ts'
import type { ReadObject } from './object-reader.ts'

export interface EtagPolicyOptions {
  mapping: { dir: string; description: MappingDescription }
  /** What the user asked for: the share of objects to read all the same; undefined for no trust. */
  wanted: { sample: number } | undefined
  /** Tells the user. */
  notice(message: string): void
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
    const { wanted, mapping } = this.#options
    return wanted !== undefined && mapping.description.etagIsMd5 !== false
  }

  /** True where this run has found an ETag to be false. */
  get isDisproved(): boolean {
    return this.#isDisproved
  }

  /** Returns what decides about each object; undefined where all are to be read. */
  begin(parts: Pick<EtagTrustOptions, 'read' | 'trust'>): EtagTrust | undefined {
    const { wanted, mapping, notice } = this.#options
    if (wanted === undefined) return undefined
    if (this.mayTrust) {
      this.#trust = new EtagTrust({ ...wanted, ...parts, random: Math.random })
      return this.#trust
    }
    notice(
      `an ETag of this bucket has proved not to be an MD5: all objects are read in spite of --etag=trust (to try once more, take etagIsMd5 out of ${mapping.dir}/.keepgw/remote.json)`,
    )
    return undefined
  }

  /**
   * Looks at what was read. Returns true where an ETag that was trusted, or might have been, is
   * false: from then on none is, in later runs neither. Throws KeepgwError where that cannot be
   * written down.
   */
  async judge(read: ReadObject, wasTrusted: boolean): Promise<boolean> {
    const { wanted, mapping, notice } = this.#options
    if ((!wasTrusted && wanted === undefined) || !hasFalseEtag(read)) return false
    this.#trust?.stop()
    if (this.#isDisproved) return true
    this.#isDisproved = true
    mapping.description.etagIsMd5 = false
    notice(
      `the ETag of ${showKey(read.object.key)} is not the MD5 of its bytes: no ETag is trusted from now on, and all objects that were trusted are read`,
    )
    await writeDescription(mapping.dir, mapping.description)
    return true
  }
}
