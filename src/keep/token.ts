/** API tokens: where a request carries one, and how to compare and name it without giving it away. */
import { createHash, timingSafeEqual } from 'node:crypto'

/** Characters of a token below which five of them are too much to show. */
const SHORT = 20

/** The parts of a request that can hold a token. */
export interface TokenCarrier {
  /** The Authorization header. */
  authorization?: string | undefined
  /** The Cookie header. */
  cookie?: string | undefined
  /** The request target after `?`. */
  query?: string | undefined
}

/** Returns the request's token, or undefined where it has none. The first place that has one wins. */
export function requestToken({ authorization, cookie, query }: TokenCarrier): string | undefined {
  const token =
    fromScheme(authorization) || fromBasic(authorization) || fromQuery(query) || fromCookie(cookie)
  // No token has other characters, and no header could pass them on.
  return token && /^[\x21-\x7e]+$/.test(token) ? token : undefined
}

/**
 * True for two equal tokens, in a time that depends on neither: digests are compared, so that not
 * even their lengths show.
 */
export function sameToken(a: string, b: string): boolean {
  return timingSafeEqual(sha256(a), sha256(b))
}

/**
 * Returns the name of a token as it may be logged: the UUID of a v2 token, and of any other one no
 * more than its last five characters (none of a short one, which they would give away).
 */
export function tokenName(token: string): string {
  const uuid = /^v2\/([a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{15})\/./.exec(token)?.[1]
  if (uuid !== undefined) return uuid
  return token.length < SHORT ? 'v1 token' : `v1 token ending in ${token.slice(-5)}`
}

/** Returns a query without its `api_token`, as it may be logged. */
export function withoutToken(query: string): string {
  // Some programs write `;` for `&`: it is no token then, and a secret all the same.
  const pairs = query.split(/(?<=[&;])/)
  const kept = pairs.filter((pair) => {
    return ![...new URLSearchParams(pair.replace(/;$/, '')).keys()].some(isTokenName)
  })
  return kept.length === pairs.length ? query : kept.join('').replace(/[&;]$/, '')
}

function isTokenName(name: string): boolean {
  return name.toLowerCase() === 'api_token'
}

function fromScheme(authorization = ''): string | undefined {
  return /^(?:Bearer|OAuth2) +(\S+) *$/i.exec(authorization)?.[1]
}

function fromBasic(authorization = ''): string | undefined {
  const [, encoded] = /^Basic +(\S+) *$/i.exec(authorization) ?? []
  if (encoded === undefined) return undefined
  const credentials = Buffer.from(encoded, 'base64').toString()
  const colon = credentials.indexOf(':')
  return colon < 0 ? undefined : credentials.slice(colon + 1)
}

function fromQuery(query = ''): string | undefined {
  return new URLSearchParams(query).get('api_token') ?? undefined
}

function fromCookie(cookie = ''): string | undefined {
  const [, encoded] = /(?:^|;)\s*arvados_api_token="?([^;"\s]*)/.exec(cookie) ?? []
  return encoded === undefined ? undefined : Buffer.from(encoded, 'base64url').toString()
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
