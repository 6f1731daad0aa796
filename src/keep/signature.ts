/**
 * Permission signatures, the `+A` hints of locators: a proof that this cluster lets the holder of a
 * token read a block until a time. Pure text; the key never shows in anything returned or thrown.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Locator } from './locator.ts'

/** What a cluster signs with. */
export interface SigningKey {
  /** The cluster's Collections.BlobSigningKey. */
  key: string
  /** Its Collections.BlobSigningTTL, seconds. It is part of what is signed. */
  ttl: number
}

/** Seconds: Arvados' default of BlobSigningTTL. */
export const DEFAULT_SIGNING_TTL = 1_209_600

/** What a signature proves. */
export type SignatureVerdict = 'valid' | 'expired' | 'invalid'

const HINT = /^A([0-9a-f]{40})@([0-9a-f]{8})$/

/**
 * Returns the locator with a hint added that lets `token` read it until `expiry`, in seconds since
 * 1970. The locator is taken as it is: it must be one, and have no signature yet.
 */
export function signLocator(
  locator: string,
  token: string,
  expiry: number,
  signing: SigningKey,
): string {
  const expiryHex = Math.floor(expiry).toString(16).padStart(8, '0')
  return `${locator}+A${digest(locator.slice(0, 32), token, expiryHex, signing)}@${expiryHex}`
}

/**
 * Says what the locator's signature proves about the token; `now` is in seconds since 1970. Takes
 * the same time for any two signatures of the right form.
 */
export function checkSignature(
  { hash, hints }: Locator,
  token: string,
  now: number,
  signing: SigningKey,
): SignatureVerdict {
  const [hint = '', another] = hints.filter((each) => each.startsWith('A'))
  if (another !== undefined) return 'invalid'
  const [, signature, expiryHex] = HINT.exec(hint) ?? []
  if (signature === undefined || expiryHex === undefined) return 'invalid'
  // As keepstore: the time is looked at first, so that an old locator says what is the matter with it.
  if (Number.parseInt(expiryHex, 16) < now) return 'expired'
  const right = digest(hash, token, expiryHex, signing)
  return timingSafeEqual(Buffer.from(right), Buffer.from(signature)) ? 'valid' : 'invalid'
}

function digest(hash: string, token: string, expiryHex: string, { key, ttl }: SigningKey): string {
  const message = `${hash}@${token}@${expiryHex}@${ttl.toString(16)}`
  return createHmac('sha1', key).update(message).digest('hex')
}
