/**
 * Preloaded into a keepgw that is tested: `store.test` is this machine, but for as many lookups as the
 * file KEEPGW_TEST_LOOKUPS says, which fail.
 */
import dns from 'node:dns'
import { readFileSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const HOST = 'store.test'
const { lookup } = dns

function mustFail(): boolean {
  const file = process.env.KEEPGW_TEST_LOOKUPS ?? ''
  const left = Number(readFileSync(file, 'utf8'))
  if (left > 0) writeFileSync(file, `${left - 1}`)
  return left > 0
}

function failing(host: string, ...rest: unknown[]): void {
  const callback = rest.at(-1) as (error: Error) => void
  const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' })
  process.nextTick(callback, error)
}

dns.lookup = new Proxy(lookup, {
  apply(call, self, [host, ...rest]: [string, ...unknown[]]) {
    if (host !== HOST)
      return Reflect.apply(call, self, [host, ...rest] as Parameters<typeof lookup>)
    if (mustFail()) return failing(host, ...rest)
    return Reflect.apply(call, self, ['127.0.0.1', ...rest] as Parameters<typeof lookup>)
  },
})
syncBuiltinESMExports()
