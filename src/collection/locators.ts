/** The locators of a manifest: which hints they get. */
import { KeepgwError } from '../errors.ts'
import { serviceHint } from '../keep/locator.ts'
import { bareLocator, type LocatorText } from '../keep/manifest.ts'
import { type SigningKey, signLocator } from '../keep/signature.ts'

/** The hints that locators get; without any, they are bare. */
export interface LocatorOptions {
  /** The keep service, by its UUID, or the cluster that clients are led to. */
  service?: string | undefined
  /** For whom they are signed, and with what. */
  signing?: { token: string; key: SigningKey } | undefined
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
