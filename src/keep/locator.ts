/** Locators, the names that Keep clients ask for: `HASH+SIZE(+HINT)*`. Pure text. */
import { ExitCode, KeepgwError } from '../errors.ts'

/** A locator in its parts; who may read the block, and where, is in the hints. */
export interface Locator {
  /** The block's MD5: 32 lowercase hex digits. */
  hash: string
  /** Bytes, where the locator says so. */
  size?: number
  /** The hints after the size, without their `+`, in the order of the text. */
  hints: string[]
}

/** Bytes of the largest block: 64 MiB. */
export const MAX_BLOCK = 67_108_864

/** The MD5 of no bytes at all: a block that every Keep service has. */
export const EMPTY_HASH = 'd41d8cd98f00b204e9800998ecf8427e'

/** A text that is no locator, or one that is not for this service. */
export class BadLocator extends KeepgwError {
  override readonly name = 'BadLocator'
}

const HASH = /^[0-9a-f]{32}$/
const SIZE = /^[0-9]+$/
const HINT = /^[A-Z][A-Za-z0-9@_-]*$/

/** Returns the parts of a locator; a bare hash is one. Throws BadLocator. */
export function parseLocator(text: string): Locator {
  const [hash = '', ...rest] = text.split('+')
  if (!HASH.test(hash)) throw new BadLocator('bad locator: it starts with no MD5')
  const size = SIZE.test(rest[0] ?? '') ? Number(rest.shift()) : undefined
  for (const hint of rest) checkHint(hint)
  return size === undefined ? { hash, hints: rest } : { hash, size, hints: rest }
}

/** True for a text that starts as a locator does, good or bad. */
export function isLocatorLike(text: string): boolean {
  return /^[0-9a-f]{32}(\+|$)/.test(text)
}

function checkHint(hint: string): void {
  if (hint === '') throw new BadLocator('bad locator: an empty hint')
  if (SIZE.test(hint)) throw new BadLocator('bad locator: the size comes once, before other hints')
  if (!HINT.test(hint)) throw new BadLocator('bad locator: a malformed hint')
  if (hint.startsWith('R')) {
    throw new BadLocator('bad locator: signed by a remote cluster, and not served here')
  }
}

const CLUSTER = /^[a-z0-9]{5}$/
const SERVICE = /^[a-z0-9]{5}-bi6l4-[a-z0-9]{15}$/

/**
 * Returns the hint that leads clients to a keep service, named by its UUID, or to the proxy of a
 * cluster, named by its five characters. Throws BadLocator for a name that clients would pass over.
 */
export function serviceHint(name: string): string {
  if (CLUSTER.test(name) || SERVICE.test(name)) return `+K@${name}`
  const isTooLong = /^[a-z0-9]{5}-bi6l4-[0-9a-f]{16}$/.test(name)
  throw new BadLocator(`"${name}" is no UUID of a keep service that clients can resolve`, {
    exitCode: ExitCode.usage,
    hint: isTooLong
      ? 'Its last part has 16 characters: give the service a Rendezvous of 15 in the cluster’s config'
      : 'Write it like zzzzz-bi6l4-0123456789abcde, or a cluster’s five characters',
  })
}
