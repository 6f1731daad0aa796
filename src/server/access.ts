/** Who may ask for what is not for everybody. */
import { requestToken, sameToken } from '../keep/token.ts'
import { Refused } from './errors.ts'
import type { Context } from './request.ts'

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
  const token = requestToken({
    authorization: ctx.req.headers.authorization,
    cookie: ctx.req.headers.cookie,
    query: ctx.state.query,
  })
  if (token === undefined) throw new Refused(401, 'Unauthorized')
  if (!accepted.some((each) => sameToken(each, token))) throw new Refused(403, 'Forbidden')
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
