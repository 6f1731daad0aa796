/** The lists that keep-balance sends: which blocks to throw away, and which to fetch from where. */
import { BadLocator, type Locator, parseLocator } from '../keep/locator.ts'
import { Refused } from './errors.ts'

/** One block to be thrown away, if it is still the one that was meant. */
export interface TrashItem {
  locator: Locator
  /** Nanoseconds since 1970, as the index had it. */
  mtimeNs: bigint
  /** Empty for all mounts. */
  mountUuid: string
}

/** One block to be fetched. */
export interface PullItem {
  locator: Locator & { size: number }
  /** URLs of the services that have it. */
  servers: string[]
  /** Where to put it; empty for any mount. */
  mountUuid: string
}

/** Returns the items of a PUT /trash. Throws Refused (400) for what is no such list. */
export function parseTrashList(text: string): TrashItem[] {
  return parseList(text).map((item) => {
    if (typeof item.block_mtime !== 'bigint') throw badList('an item has no block_mtime')
    return { ...common(item), mtimeNs: item.block_mtime }
  })
}

/** Returns the items of a PUT /pull. Throws Refused (400) for what is no such list. */
export function parsePullList(text: string): PullItem[] {
  return parseList(text).map((item) => {
    const { locator, mountUuid } = common(item)
    const { size } = locator
    if (size === undefined) throw badList('a locator has no size')
    const servers: unknown[] = Array.isArray(item.servers) ? item.servers : []
    return { locator: { ...locator, size }, mountUuid, servers: servers.map(originOf) }
  })
}

/** JSON numbers are doubles: a time in nanoseconds has more digits than they can hold. */
function keepInteger(key: string, value: unknown, context?: { source?: string }): unknown {
  if (key !== 'block_mtime' || typeof value !== 'number') return value
  return /^-?\d{1,19}$/.test(context?.source ?? '') ? BigInt(context!.source!) : value
}

function parseList(text: string): Record<string, unknown>[] {
  let list: unknown
  try {
    list = JSON.parse(text, keepInteger)
  } catch {
    throw badList('it is not JSON')
  }
  // What Go writes for an empty list.
  if (list === null) return []
  const isList = Array.isArray(list) && list.every((each) => typeof each === 'object' && each)
  if (!isList) throw badList('it is no array of objects')
  return list as Record<string, unknown>[]
}

function common(item: Record<string, unknown>): { locator: Locator; mountUuid: string } {
  const { locator, mount_uuid: mountUuid = '' } = item
  if (typeof locator !== 'string') throw badList('an item has no locator')
  if (typeof mountUuid !== 'string') throw badList('a mount_uuid is no text')
  try {
    return { locator: parseLocator(locator), mountUuid }
  } catch (error) {
    throw error instanceof BadLocator ? badList(error.message) : error
  }
}

function originOf(server: unknown): string {
  const isUrl = typeof server === 'string' && /^https?:/i.test(server) && URL.canParse(server)
  if (!isUrl) throw badList('a server is no URL')
  return new URL(server).origin
}

function badList(why: string): Refused {
  return new Refused(400, `bad list: ${why}`)
}
