/** Where the Arvados API server is, and who asks: as all Arvados tools are told. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { UsageError } from '../errors.ts'

/** Where the API server is, and whom requests to it are made for. */
export interface ArvadosSettings {
  /** HOST[:PORT]; it speaks HTTPS. */
  host: string
  token: string
  /** True where the server's certificate is not to be checked. */
  insecure: boolean
}

const TRUE = ['1', 't', 'true', 'y', 'yes']

/**
 * Returns the token to act for: ARVADOS_API_TOKEN of the environment, else of
 * ~/.config/arvados/settings.conf. Throws UsageError where there is none.
 */
export function arvadosToken(): string {
  return required('ARVADOS_API_TOKEN', 'the API token')
}

/** Returns the settings for the API server, from where arvadosToken() looks. Throws UsageError, also for no host. */
export function arvadosSettings(): ArvadosSettings {
  const insecure = setting('ARVADOS_API_HOST_INSECURE')?.toLowerCase()
  return {
    host: checkedHost(required('ARVADOS_API_HOST', 'the API server')),
    token: arvadosToken(),
    insecure: insecure !== undefined && TRUE.includes(insecure),
  }
}

function checkedHost(host: string): string {
  if (URL.canParse(`https://${host}`) && !/[/?#@\\\s]/.test(host)) return host
  throw new UsageError(`ARVADOS_API_HOST ${host} is no host`, {
    hint: 'Write HOST or HOST:PORT, without https://',
  })
}

function required(name: string, what: string): string {
  const value = setting(name)
  if (value) return value
  throw new UsageError(`${what} is not known`, {
    hint: `Set ${name}, in the environment or in ~/.config/arvados/settings.conf`,
  })
}

function setting(name: string): string | undefined {
  return process.env[name] ?? settingsFile().get(name)
}

/** Returns the lines `NAME=VALUE` of the settings file; none where it cannot be read. */
function settingsFile(): Map<string, string> {
  const home = process.env.XDG_CONFIG_HOME || join(homedir(), '.config')
  let text: string
  try {
    text = readFileSync(join(home, 'arvados/settings.conf'), 'utf8')
  } catch {
    return new Map()
  }
  const lines = text.split('\n').map((line) => /^\s*([A-Z_]+)=(.*?)\s*$/.exec(line))
  return new Map(lines.flatMap((line) => (line === null ? [] : [[line[1]!, line[2]!] as const])))
}
