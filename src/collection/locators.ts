/** The locators of a manifest: which hints they get. */
import { KeepgwError, UsageError } from '../errors.ts'
import { serviceHint } from '../keep/locator.ts'
import { bareLocator, type LocatorText } from '../keep/manifest.ts'
import { type SigningKey, signLocator } from '../keep/signature.ts'
import { parseSeconds } from '../units.ts'

/** As Arvados has it where its config file says nothing. */
const DEFAULT_TTL = '336h'

export interface LocatorOptions {
  /** The keep service, by its UUID, or the cluster that clients are led to. */
  service?: string | undefined
  /** For whom they are signed, and with what. */
  signing?: { token: string; key: SigningKey } | undefined
}

/**
 * Returns the cluster's signing key, from KEEPGW_BLOB_SIGNING_KEY and KEEPGW_BLOB_SIGNING_TTL.
 * Throws UsageError where there is none.
 */
export function clusterSigningKey(): SigningKey {
  const { KEEPGW_BLOB_SIGNING_KEY: key, KEEPGW_BLOB_SIGNING_TTL: ttl } = process.env
  if (!key) {
    throw new UsageError('there is no key to sign with', {
      hint: 'Set KEEPGW_BLOB_SIGNING_KEY to the cluster’s Collections.BlobSigningKey',
    })
  }
  return { key, ttl: parseSeconds(ttl || DEFAULT_TTL) }
}

/**
 * Returns what makes the locators of one manifest; all that it signs is good until the same time.
 * Throws BadLocator for a service that no client can resolve, and KeepgwError for a time that no
 * signature can hold.
 */
export function locatorText({ service, signing }: LocatorOptions): LocatorText {
  const hint = service === undefined ? '' : serviceHint(service)
  const hinted: LocatorText = (hash, size) => `${bareLocator(hash, size)}${hint}`
  if (signing === undefined) return hinted
  const { token, key } = signing
  const expiry = Math.floor(Date.now() / 1000) + key.ttl
  if (expiry > 0xffff_ffff) throw new KeepgwError('the signing TTL reaches beyond the year 2106')
  return (hash, size) => signLocator(hinted(hash, size), token, expiry, key)
}
