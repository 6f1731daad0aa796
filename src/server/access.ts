/** Who may ask for what is not for everybody. */
import type { Locator } from '../keep/locator.ts'
import { checkSignature, type SigningKey } from '../keep/signature.ts'
import { sameToken } from '../keep/token.ts'
import { Refused } from './errors.ts'
import type { Context } from './request.ts'
import type { Service } from './service.ts'

/** Headers of requests that come from elsewhere, though the peer may be a proxy on this machine. */
const FROM_ELSEWHERE = ['Forwarded', 'X-Forwarded-For', 'Origin']

/**
 * Lets a request pass if it carries one of the tokens. Throws Refused otherwise. Where none is
 * configured, nobody passes (404), except this machine itself where `local` says so.
 */
export function authorize(
  ctx: Context,
  tokens: readonly (string | undefined)[],
  { local }: { local: boolean },
): void {
  const accepted = tokens.filter((token): token is string => !!token)
  if (accepted.length === 0) {
    if (local && isLocal(ctx)) return
    throw new Refused(404, 'Not Found')
  }
  const { token } = ctx.state
  if (token === undefined) throw new Refused(401, 'Unauthorized')
  if (!accepted.some((each) => sameToken(each, token))) throw new Refused(403, 'Forbidden')
}

/** As authorize, for the system root token. */
export function authorizeRoot(
  { tokens }: Pick<Service, 'tokens'>,
  ctx: Context,
  options: { local: boolean },
): void {
  authorize(ctx, [tokens.systemRoot], options)
}

/**
 * Lets a request read a block if the locator is signed for its token, or if nothing is signed here.
 * Throws Refused otherwise.
 */
export function authorizeRead(
  ctx: Context,
  locator: Locator,
  signing: SigningKey | undefined,
): void {
  if (signing === undefined) return
  const { token } = ctx.state
  if (token === undefined) throw new Refused(401, 'no token provided in Authorization header')
  const verdict = checkSignature(locator, token, Date.now() / 1000, signing)
  if (verdict === 'expired') throw new Refused(401, 'expired signature')
  if (verdict === 'invalid') throw new Refused(400, 'invalid signature')
}

/** True for an address that only this machine has. */
export function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/i.test(address)
}

function isLocal(ctx: Context): boolean {
  if (FROM_ELSEWHERE.some((name) => ctx.get(name) !== '')) return false
  // A web page can give its own name this machine's address (DNS rebinding).
  if (!/^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i.test(ctx.get('Host'))) return false
  return isLoopback(ctx.req.socket.remoteAddress ?? '')
}
