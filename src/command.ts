/** What all commands share: the flags that name a remote, output, and how errors end. */
import { inspect } from 'node:util'
import { Command } from '@oclif/core/command'
import * as Flags from '@oclif/core/flags'
import { ExitCode, KeepgwError, messageOf, printable, UsageError } from './errors.ts'
import type { RemoteSpec } from './remote/remote.ts'
import { checkedEndpoint, parseBucket } from './remote/spec.ts'
import { parseBytes, parseSeconds } from './units.ts'

/** With less, a connection that waits for its turn looks dead to the store. */
const MIN_BANDWIDTH = 64 * 1024
/** A timer runs no longer. */
const MAX_SECONDS = 24 * 86_400

/** Flags that say where a remote's mapping lies. */
export const mappingFlags = {
  mappings: Flags.string({
    helpValue: 'DIR',
    description:
      'directory of the mapping tree itself; default: a directory named for the bucket, in that of KEEPGW_MAPPINGS or in ~/.local/state/keepgw',
  }),
}

/** Flags that say how to reach a bucket. What names no credentials is remembered in the mapping. */
export const remoteFlags = {
  'endpoint-url': Flags.string({
    helpValue: 'URL',
    env: 'KEEPGW_ENDPOINT_URL',
    description:
      'the S3 service, where it is not Amazon’s; also AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL',
  }),
  region: Flags.string({
    helpValue: 'REGION',
    env: 'KEEPGW_REGION',
    description: 'the bucket’s region; also AWS_REGION, AWS_DEFAULT_REGION',
  }),
  'path-style': Flags.boolean({
    allowNo: true,
    description:
      'put the bucket’s name into the path, not the host; on by default with --endpoint-url',
  }),
  profile: Flags.string({
    helpValue: 'NAME',
    env: 'KEEPGW_PROFILE',
    description: 'profile of the AWS configuration to take credentials from; also AWS_PROFILE',
  }),
  'credentials-file': Flags.string({
    helpValue: 'FILE',
    env: 'KEEPGW_CREDENTIALS_FILE',
    description: 'file of the form of ~/.aws/credentials to take credentials from',
  }),
  'sign-request': Flags.boolean({
    allowNo: true,
    description:
      'with --no-sign-request: send no credentials, for public buckets; remembered until --sign-request, or credentials, are named',
  }),
  'request-payer': Flags.boolean({
    default: false,
    description: 'agree to pay for requests to a requester-pays bucket; remembered',
  }),
}

/** Flags that say what a cluster signs with, and where that is written. */
export const clusterFlags = {
  config: Flags.string({
    helpValue: 'FILE',
    env: 'KEEPGW_CONFIG',
    description:
      'the cluster’s configuration; default: ARVADOS_CONFIG, or /etc/arvados/config.yml where that is',
  }),
  'cluster-id': Flags.string({
    helpValue: 'ID',
    env: 'KEEPGW_CLUSTER_ID',
    description: 'which cluster of the configuration, where it has several',
  }),
  'blob-signing-ttl': Flags.string({
    helpValue: 'DURATION',
    env: 'KEEPGW_BLOB_SIGNING_TTL',
    description: 'the cluster’s BlobSigningTTL; default: that of the configuration, or 336h',
  }),
}

/** Flags of what mends a mapping when it is told to. */
export const repairFlags = {
  'allow-drop': Flags.integer({
    helpValue: 'PERCENT',
    min: 0,
    max: 100,
    default: 20,
    description:
      'with --repair: stop, rather than drop what is known of more than this share of the objects',
  }),
  'break-lock': Flags.boolean({
    default: false,
    description: 'with --repair: take the lock from a run that cannot be alive any more',
  }),
}

/** Flags that bound what a run does. */
export const limitFlags = {
  'bandwidth-limit': Flags.string({
    helpValue: 'RATE',
    env: 'KEEPGW_BANDWIDTH_LIMIT',
    description:
      'bytes of objects that all threads together read in a second: 500K, 50M, 1.5G, in powers of 1024; 50MB for 50 million',
  }),
  'max-objects': Flags.integer({
    helpValue: 'N',
    min: 1,
    description: 'end when so many objects were read; the next run carries on',
  }),
  'max-duration': Flags.string({
    helpValue: 'TIME',
    description:
      'end after this time, and keep what was read: 3600s, 90m, 2h, 1d; the next run carries on',
  }),
}

/** Flags about output. */
export const outputFlags = {
  json: Flags.boolean({ default: false, description: 'print JSON lines, each with a "type"' }),
}

interface RemoteFlagValues {
  'endpoint-url'?: string | undefined
  region?: string | undefined
  'path-style'?: boolean | undefined
  profile?: string | undefined
  'credentials-file'?: string | undefined
  'sign-request'?: boolean | undefined
  'request-payer'?: boolean | undefined
}

/**
 * Returns the remote that a BUCKET argument and the remote flags name; `env` may name its endpoint. Throws
 * UsageError.
 */
export function remoteOf(
  bucket: string,
  flags: RemoteFlagValues,
  env: NodeJS.ProcessEnv = process.env,
): RemoteSpec {
  const spec = parseBucket(bucket)
  if (spec.kind === 'directory') return spec
  const { AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL } = env
  const endpoint = flags['endpoint-url'] || AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL
  const values = {
    endpoint: endpoint ? checkedEndpoint(endpoint) : undefined,
    region: flags.region,
    pathStyle: flags['path-style'],
    profile: flags.profile,
    credentialsFile: flags['credentials-file'],
    anonymous: flags['sign-request'] === undefined ? undefined : !flags['sign-request'],
    requestPayer: flags['request-payer'] ? ('requester' as const) : undefined,
  }
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== '')
  return { ...spec, ...Object.fromEntries(given) }
}

/** Returns the bytes a second that --bandwidth-limit names, if any. Throws UsageError. */
export function bandwidthOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const rate = parseBytes(text)
  if (rate >= MIN_BANDWIDTH) return rate
  throw new UsageError(`--bandwidth-limit ${text} is not possible`, {
    hint: 'It is bytes in a second, at least 64K',
  })
}

/** Returns the seconds that --max-duration names, if any. Throws UsageError. */
export function durationOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const seconds = parseSeconds(text)
  if (seconds >= 1 && seconds <= MAX_SECONDS) return seconds
  throw new UsageError(`--max-duration ${text} is not possible`, { hint: 'From 1s to 24d' })
}

/** A keepgw command: errors end in one line on stderr and a documented exit code. */
export abstract class KeepgwCommand extends Command {
  /** With --json, what would be text for people is left out. */
  #json = false

  /** Call it once the flags are parsed. */
  protected useJson(json: boolean): void {
    this.#json = json
  }

  /** True where results are JSON lines. */
  protected get json(): boolean {
    return this.#json
  }

  /** Prints a result: as a JSON line of this type, or as the text. */
  protected emit(type: string, data: object, text?: string): void {
    if (this.#json) process.stdout.write(`${JSON.stringify({ type, ...data })}\n`)
    else if (text !== undefined) process.stdout.write(`${printableLines(text)}\n`)
  }

  /** Prints a text as it comes; ends early where nobody takes it. */
  protected async write(text: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const chunk of text) {
      const error = await new Promise((resolve) => process.stdout.write(chunk, resolve))
      // main.ts says what is to be said of it.
      if (error instanceof Error) return
    }
  }

  /** Prints a warning to stderr. */
  protected warning(text: string): void {
    process.stderr.write(`keepgw: ${printable(text)}\n`)
  }

  /** Aborted by SIGINT or SIGTERM; a second one ends the process at once. */
  protected stopSignal(): AbortSignal {
    const controller = new AbortController()
    const stop = (): void => {
      controller.abort(new KeepgwError('interrupted', { exitCode: ExitCode.interrupted }))
    }
    process.once('SIGINT', stop)
    process.once('SIGTERM', stop)
    return controller.signal
  }

  protected override async catch(thrown: Error): Promise<void> {
    const error = asKeepgwError(thrown, this.id)
    if (error === undefined) throw thrown
    if (this.#json) {
      const { message, hint, exitCode } = error
      this.emit('error', { message, hint, exitCode })
    }
    printError(error)
    process.exitCode = error.exitCode
  }
}

/** Prints an error's line, and its hint, to stderr; with DEBUG set also where it came from. */
export function printError(error: KeepgwError): void {
  const hint = error.hint === undefined ? '' : ` (${error.hint})`
  process.stderr.write(`keepgw: ${error.message}${hint}\n`)
  if (process.env.DEBUG) process.stderr.write(`${printableLines(inspect(error))}\n`)
}

/** Returns what to tell the user, or undefined for oclif's own way to end a process. */
export function asKeepgwError(thrown: Error, command?: string): KeepgwError | undefined {
  if (thrown instanceof KeepgwError) return thrown
  const oclif = thrown as { code?: string; oclif?: { exit?: number } }
  if (oclif.code === 'EEXIT') return undefined
  if (oclif.oclif?.exit === ExitCode.usage) {
    return new UsageError(oneLine(thrown.message), {
      cause: thrown,
      hint: `See: keepgw ${command ? `${command.replaceAll(':', ' ')} ` : ''}--help`,
    })
  }
  return new KeepgwError(messageOf(thrown), { cause: thrown })
}

/** Results are lines, some of them with fields between tabs. */
function printableLines(text: string): string {
  return text.replace(/[^\t\n]+/g, printable)
}

/** oclif's usage errors take several lines, one of them about --help. */
function oneLine(message: string): string {
  const lines = message.split('\n').map((line) => line.trim())
  const telling = lines.filter((line) => line !== '' && !/--help|^The following error/.test(line))
  return telling.join(' ')
}
