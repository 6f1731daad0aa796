/** The address a server listens at. */
import { KeepgwError, messageOf, UsageError } from '../errors.ts'
import { isLoopback } from './access.ts'

/** Where to listen; an IPv6 address is without its brackets. */
export interface ListenAddress {
  host: string
  /** 0 lets the system choose. */
  port: number
}

/** Returns the address that `HOST:PORT`, `[IPV6]:PORT` or `:PORT` names. Throws UsageError. */
export function parseListen(text: string): ListenAddress {
  const [, ipv6, name = '', digits = ''] =
    /^(?:\[([0-9a-f:.]+)\]|([^\s:/[\]]*)):(\d{1,5})$/i.exec(text) ?? []
  const port = Number(digits)
  if (digits === '' || port > 65_535) {
    throw new UsageError(`"${text}" is no address to listen at`, {
      hint: 'Write HOST:PORT, as in 127.0.0.1:25107',
    })
  }
  // No host means every address of this machine, as in other servers.
  return { host: ipv6 ?? (name === '' ? '::' : name), port }
}

/** True if only this machine can reach the address. */
export function isLoopbackOnly({ host }: ListenAddress): boolean {
  return host === 'localhost' || isLoopback(host)
}

/** Returns `HOST:PORT`. */
export function formatListen({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Returns the error for an address that cannot be listened at, with what to do. */
export function listenError(address: ListenAddress, error: NodeJS.ErrnoException): KeepgwError {
  const hints: Record<string, string> = {
    EADDRINUSE: 'Another process listens there: stop it, or choose another port with --listen',
    EACCES: 'Ports below 1024 need privileges: choose another one with --listen',
    EADDRNOTAVAIL: 'This machine has no such address: choose one of its own with --listen',
    ENOTFOUND: 'This host name is not known: choose an address with --listen',
  }
  const hint = hints[error.code ?? ''] ?? 'Choose another address with --listen'
  return new KeepgwError(`cannot listen at ${formatListen(address)}: ${messageOf(error)}`, {
    cause: error,
    hint,
  })
}
